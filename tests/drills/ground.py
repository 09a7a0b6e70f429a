"""What drills are held on: commands with what lies before them and what they make when nothing disturbs them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import psutil

from tests.warm import WarmProcess

ROOT = Path(__file__).parents[2]
SECONDS = 180
"""After which a command is taken to hang."""

_FIT = "--folds speaker --runs runs --epochs 3 --lr 1e-2 --threads 1"
_MFCC = "extract CORPUS --encoder mfcc --out s.h5 --threads 1 --shard-seconds 1 --batch-seconds 1"
_OTHER = f"{_MFCC} --limit 20"
_FILES = "--max-file-gb 2e-5"
_HEADS = "--head linear,mlp:hidden=8 --loss ce,focal --seeds 2"
_RUN = ("extract CORPUS --encoder CHECKPOINT --out s.h5 --threads 1", f"fit s.h5 --head linear --seeds 1 {_FIT}")

COMMANDS: dict[str, tuple[str, ...]] = {
    "extract": (_MFCC,),
    "extract in files": (f"{_MFCC} {_FILES}",),
    "extract again": (f"{_MFCC} --limit 13", _MFCC),
    "extract on Ray": (f"{_MFCC} --engine ray",),
    "fit": (_MFCC, f"fit s.h5 {_HEADS} {_FIT}"),
    "fit one run": _RUN,
    "fit on another store": (f"{_OTHER}", f"fit s.h5 {_HEADS} {_FIT}"),
    "fit from disk": (f"{_MFCC} {_FILES}", f"fit s.h5 {_HEADS} --memory-gb 1e-6 {_FIT}"),
    "fit from disk on another store": (f"{_OTHER} {_FILES}", f"fit s.h5 {_HEADS} --memory-gb 1e-6 {_FIT}"),
    "study": (f"study CORPUS --encoder mfcc,logmel --head linear --loss ce,ccc --seeds 1 --stores stores {_FIT}",),
    "finetune": (f"fit CORPUS --encoder CHECKPOINT --mode finetune --save-encoder --head linear --seeds 1 {_FIT}",),
    "export": (*_RUN, "export RUN --format folder --out exported --overwrite"),
    "export to ONNX": (*_RUN, "export RUN --format onnx --out model.onnx --overwrite"),
    "report": (*_RUN, "report runs --out report.html"),
}
"""By name, the command that is drilled, after those that make what it reads."""

Tree = dict[str, bytes]


def read_tree(folder: Path) -> Tree:
    """Return the content of all files below a folder, and of the links where they lead."""
    found = {}
    for above, _, names in os.walk(folder):
        for name in names:
            path = Path(above, name)
            found[path.relative_to(folder).as_posix()] = (
                os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
            )
    return found


def is_unfinished(name: str) -> bool:
    """Tell whether nobody takes this for a finished file, by its path."""
    return any(part.startswith(".") or part.endswith((".work", ".unfinished")) for part in name.split("/"))


def compare(found: Tree, expected: Tree, what: str) -> list[str]:
    """Say what differs."""
    faults = [f"{what}: {name!r} is missing" for name in sorted(expected.keys() - found.keys())]
    faults += [f"{what}: {name!r} is left" for name in sorted(found.keys() - expected.keys())]
    same = sorted(found.keys() & expected.keys())
    return faults + [f"{what}: {name!r} is another" for name in same if found[name] != expected[name]]


def heed_interrupts() -> None:
    """Undo what background jobs of a shell start with: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Running:
    """A command under way, in a process group of its own."""

    def __init__(self, folder: Path, words: list[str], stroke: str = "none", number: int | Path = 0) -> None:
        self.said_file = folder.parent / f"{folder.name}-{time.monotonic_ns()}.said"
        with self.said_file.open("wb") as said:
            self.process = self.start(["tests.drills.struck", stroke, str(number), *words], folder, said)

    @staticmethod
    def start(command: list[str], folder: Path, said: BinaryIO) -> subprocess.Popen[bytes] | WarmProcess:
        """Start `python -m COMMAND...`."""
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment(folder.parent),
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=heed_interrupts,
        )

    def wait_stopped(self) -> bool:
        """Wait until it has stopped itself; False where it came to its end before."""
        process = psutil.Process(self.process.pid)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            with suppress(psutil.NoSuchProcess):
                if process.status() == psutil.STATUS_STOPPED:
                    return True
            time.sleep(0.005)
        raise self._hangs()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        if self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def go_on(self) -> None:
        """Let it go on after it has stopped."""
        self.send(signal.SIGCONT)

    def end(self) -> tuple[int, str]:
        """Wait for its end; return its exit code, and all that it said."""
        try:
            code = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            raise self._hangs() from None
        said = self.said_file.read_text(errors="replace")
        self.said_file.unlink()
        return code, said

    def _hangs(self) -> TimeoutError:
        self.send(signal.SIGKILL)
        return TimeoutError(f"it hangs: {self.said_file.read_text(errors='replace')[-500:]}")


def environment(work: Path) -> dict[str, str]:
    """Return the environment of a command: nothing is written but in `work` and the command's own folder."""
    kept = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "EMBEDKIT_LOG_FILE": str(work / "libraries.log")}
    return kept | ours | {"XDG_CONFIG_HOME": str(work / "settings"), "RAY_USAGE_STATS_ENABLED": "0"}


@dataclass
class Ground:
    """A folder with a corpus, a checkpoint and everything that commands make of them undisturbed."""

    folder: Path
    _ready: dict[str, Drilled] = field(default_factory=dict)
    _made: dict[tuple[str, ...], Path] = field(default_factory=dict)
    _kept: int = 0

    def command(self, name: str) -> Drilled:
        """Return a command that is ready to be drilled."""
        if name not in self._ready:
            *before, last = COMMANDS[name]
            place = self._make(tuple(before))
            case, count = self.new(place), self.folder / "count"
            words = self.words(last, case)
            code, said = Running(case, words, "count", count).end()
            if code:
                raise RuntimeError(f"{last!r} fails undisturbed: {said}")
            self._ready[name] = Drilled(self, name, words, place, self._keep(case), int(count.read_text()))
        return self._ready[name]

    def words(self, command: str, folder: Path) -> list[str]:
        """Split a command and put the places in."""
        runs = [path.parent.relative_to(folder) for path in folder.glob("runs/**/metrics.json")]
        places = {"CORPUS": self.corpus, "CHECKPOINT": self.checkpoint} if "C" in command else {}
        places |= {"RUN": runs[0]} if runs else {}
        return [str(places.get(word, word)) for word in command.split()]

    def new(self, before: Path | None) -> Path:
        """Copy what lies before a command to the folder of all of them: runs tell the place of their stores."""
        folder = self.folder / "case"
        shutil.rmtree(folder, ignore_errors=True)
        if before is None:
            folder.mkdir()
        else:
            shutil.copytree(before, folder, symlinks=True)
        return folder

    @cached_property
    def corpus(self) -> Path:
        from tests.workflows.tones import write_tones

        return write_tones(self.folder / "corpus") / "corpus.csv"

    @cached_property
    def checkpoint(self) -> Path:
        from tests.encoders.checkpoints import write_conv_checkpoint

        return write_conv_checkpoint(self.folder / "checkpoint", "wav2vec2", num_hidden_layers=1)

    def _make(self, commands: tuple[str, ...]) -> Path:
        if commands not in self._made:
            folder = self.new(self._make(commands[:-1]) if commands else None)
            if commands:
                code, said = Running(folder, self.words(commands[-1], folder)).end()
                if code:
                    raise RuntimeError(f"{commands[-1]!r} fails undisturbed: {said}")
            self._made[commands] = self._keep(folder)
        return self._made[commands]

    def _keep(self, folder: Path) -> Path:
        self._kept += 1
        return folder.rename(self.folder / f"{self._kept}")


@dataclass(frozen=True)
class Drilled:
    """A command: its words, what lies before it, what it makes, and how often it changes its folder."""

    ground: Ground
    name: str
    words: list[str]
    before: Path
    after: Path
    changes: int

    @cached_property
    def expected(self) -> Tree:
        """What it makes when nothing disturbs it."""
        return read_tree(self.after)

    @cached_property
    def given(self) -> Tree:
        """What lies there before it."""
        return read_tree(self.before)

    def largest(self) -> int:
        """Return the bytes of the largest file that it makes."""
        return max(len(data) for name, data in self.expected.items() if self.given.get(name) != data)

    def check_whole(self, folder: Path) -> list[str]:
        """Say what looks finished and is not."""
        return [
            f"half-written: {name!r}"
            for name, data in read_tree(folder).items()
            if not is_unfinished(name) and data not in (self.expected.get(name), self.given.get(name))
        ]

    def again(self, folder: Path) -> list[str]:
        """Run the command to its end and compare what is there with the undisturbed result."""
        code, said = Running(folder, self.words).end()
        faults = check_said(said) + ([] if code == 0 else [f"the same command ends with {code}: {said[-400:]}"])
        return faults + compare(read_tree(folder), self.expected, "after the same command")


def check_said(said: str) -> list[str]:
    """Say whether a traceback was shown."""
    return [f"a traceback: {said[-2000:]}"] if "Traceback" in said else []
