"""Run one extraction and be killed in the middle: python killed.py CORPUS COUNT OUT WHERE NUMBER.

WHERE is "shard", "assembly", "rename" or "never"; NUMBER says after how many. The kill is placed by what has been
written, by wrapping the two calls that make files final; nothing in embedkit knows of it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from embedkit.extraction.run import run_extraction
from embedkit.store import writer
from tests.extraction.fakes import FakeEncoder, corpus_at, request_for


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(where: str, number: int) -> None:
    """Arrange the kill."""
    replace, write_at = os.replace, writer.write_at
    seen = {"shards": 0, "writes": 0}

    def replace_or_die(source: Any, target: Any) -> None:
        if where == "rename" and str(target).endswith(".h5") and number == 0:
            die()
        replace(source, target)
        seen["shards"] += str(target).endswith(".shard")
        if where == "shard" and seen["shards"] == number:
            die()
        if where == "rename" and str(target).endswith(".h5"):
            die()

    def write_or_die(*arguments: Any) -> None:
        seen["writes"] += 1
        if where == "assembly" and seen["writes"] == number:
            die()
        write_at(*arguments)

    os.replace = replace_or_die
    writer.write_at = write_or_die


def main() -> None:
    folder, count, out, where, number = sys.argv[1:]
    kill_at(where, int(number))
    encoder = FakeEncoder()
    run_extraction(request_for(corpus_at(Path(folder), int(count)), Path(out), encoder, tell=print))
    print("encoded", sum(map(len, encoder.calls)))


if __name__ == "__main__":
    main()
