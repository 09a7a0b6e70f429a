"""Run one command of embedkit and have it struck: python -m tests.drills.struck STROKE NUMBER WORDS...

STROKE says what happens, and NUMBER when; nothing in embedkit knows of it:

- "count": nothing; how often the command changed something in its folder is written to NUMBER, a file.
- "stop": it stops, as by SIGSTOP, before its NUMBER-th change; whoever waits for that does what he likes.
- "bytes": the system kills it, as by kill -9, when a file would grow beyond NUMBER bytes.
- "memory": it may have NUMBER bytes of addresses, as by `ulimit -v`.
- "none": nothing.
"""

from __future__ import annotations

import atexit
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Changes:
    """Counts what Python is about to change in the current folder: files opened for writing, renamed, removed."""

    def __init__(self, last: int | None) -> None:
        self.folder, self.process, self.last, self.count = os.getcwd(), os.getpid(), last, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if os.getpid() != self.process or not (event in CHANGES or (event == "open" and arguments[2] & WRITING)):
            return
        if isinstance(arguments[0], int) or not self._is_ours(os.fsdecode(arguments[0])):
            return
        self.count += 1
        if self.count == self.last:
            os.kill(self.process, signal.SIGSTOP)

    def _is_ours(self, path: str) -> bool:
        return os.path.abspath(path).startswith(self.folder + os.sep)


def strike(stroke: str, number: str) -> None:
    """Arrange what is to happen."""
    match stroke:
        case "count":
            changes = Changes(None)
            sys.addaudithook(changes)
            atexit.register(lambda: Path(number).write_text(str(changes.count)))
        case "stop":
            sys.addaudithook(Changes(int(number)))
        case "bytes":
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            # Python ignores it from its start.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(number), int(number)))
        case "memory":
            resource.setrlimit(resource.RLIMIT_AS, (int(number), int(number)))


if __name__ == "__main__":
    stroke, number, *words = sys.argv[1:]
    strike(stroke, number)
    sys.argv = ["embedkit", *words]
    from embedkit.cli import main

    main()
