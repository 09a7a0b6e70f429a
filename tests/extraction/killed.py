"""Run one extraction and be killed in the middle: python killed.py CORPUS COUNT OUT WHERE NUMBER [MAX_FILE_GB].

WHERE is "shard", "assembly", "file" (a shard of the store), "rename" or "never"; NUMBER says after how many. The kill
is placed by what has been written, by wrapping the two calls that make files final; nothing in embedkit knows of it.
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
    seen = {"shards": 0, "writes": 0, "files": 0}

    def replace_or_die(source: Any, target: Any) -> None:
        if where == "rename" and str(target).endswith(".h5") and number == 0:
            die()
        replace(source, target)
        seen["shards"] += str(target).endswith(".shard")
        seen["files"] += str(target).endswith(".hdf5")
        if where == "file" and seen["files"] == number:
            die()
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
    folder, count, out, where, number, *most = sys.argv[1:]
    kill_at(where, int(number))
    encoder = FakeEncoder()
    corpus, max_file_gb = corpus_at(Path(folder), int(count)), float(most[0]) if most else None
    run_extraction(request_for(corpus, Path(out), encoder, tell=print, max_file_gb=max_file_gb, threads=2))
    print("encoded", sum(map(len, encoder.calls)))


if __name__ == "__main__":
    main()
