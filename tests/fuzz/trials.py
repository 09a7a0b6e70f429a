"""What a case is made from, and how it is run: real commands, in this process, under an eye."""

from __future__ import annotations

import contextlib
import faulthandler
import random
import resource
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.fuzz import mutations
from tests.fuzz.mutations import SECRET
from tests.workflows.tones import fit_tones, write_tones

HANG_SECONDS = 10
MOST_GROWTH = 1024**3
"""Bytes that a command may take, and so above what an honest one takes."""
BUDGET = ("--loss", "ce", "--seeds", "1", "--epochs", "1", "--lr", "1e-2", "--threads", "1", "--head", "linear")
EVIL = "import pathlib\npathlib.Path(__file__).with_name('ran').touch()\nclass Head: pass\n"


def make_honest(folder: Path) -> Path:
    """Write what is spoiled later: a corpus, a store, a run, an exported folder, a checkpoint, and clips."""
    import numpy as np
    import soundfile

    record = fit_tones(write_tones(folder / "corpus"), "mfcc", head=["linear"], epochs=1, seeds=1, loss=["ce"])
    embedkit.export_run(record.folder, out=folder / "exported", format="folder")
    write_conv_checkpoint(folder / "checkpoint", "wav2vec2", num_hidden_layers=1)
    (folder / "clips").mkdir()
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 4000)
    for suffix in ("wav", "flac", "ogg", "aiff", "mp3"):
        soundfile.write(folder / "clips" / f"c.{suffix}", noise, 16_000)
    return folder


Spoil = Callable[[Path, random.Random], list[list[str]]]
"""Spoils what lies in a copy of the honest folder and returns the commands to run there."""


def store(folder: Path, chance: random.Random) -> list[list[str]]:
    mutations.spoil_store(folder / "store.h5", chance, folder)
    last = chance.choice(
        (
            ["fit", "store.h5", "--folds", "speaker", "--runs", "new", *BUDGET],
            ["fit", "store.h5", "--folds", "speaker", "--runs", "new", "--layers", "each", *BUDGET],
            ["extract", "corpus/corpus.csv", "--encoder", "mfcc", "--out", "store.h5", "--threads", "1"],
        )
    )
    return [["inspect", "store.h5"], ["verify", "store.h5"], last]


def run(folder: Path, chance: random.Random) -> list[list[str]]:
    (place,) = (path.parent for path in folder.glob("runs/**/metrics.json"))
    files = [path for path in sorted(place.iterdir()) if path.is_file()]
    file = chance.choice(files)
    spoil = mutations.spoil_tensors if file.suffix == ".safetensors" else mutations.spoil_text_file
    spoil(file, chance, folder)
    name = str(place.relative_to(folder))
    every = (
        ["table"],
        ["table", "--format", "latex"],
        ["report", "--out", "new.html"],
        ["figure", "confusion", "--out", "figures"],
        ["predict", name, "clips/c.wav"],
        ["export", name, "--format", "folder", "--out", "new"],
        ["fit", "store.h5", "--folds", "speaker", *BUDGET],
        ["extract", "corpus/corpus.csv", "--encoder", name],
    )
    return chance.sample(every, 3)


def exported(folder: Path, chance: random.Random) -> list[list[str]]:
    file = chance.choice(("predictor.json", "predictor.json", "head.safetensors"))
    spoil = mutations.spoil_tensors if file.endswith(".safetensors") else mutations.spoil_text_file
    spoil(folder / "exported" / file, chance, folder)
    return [["predict", "exported", "clips/c.wav"], ["export", "exported", "--format", "folder", "--out", "new"]]


def checkpoint(folder: Path, chance: random.Random) -> list[list[str]]:
    file = chance.choice(("config.json", "config.json", "preprocessor_config.json", "model.safetensors"))
    spoil = mutations.spoil_tensors if file.endswith(".safetensors") else mutations.spoil_text_file
    spoil(folder / "checkpoint" / file, chance, folder)
    one = "id,path,label\na,c.wav,x\n"
    (folder / "clips" / "one.csv").write_text(one)
    return [["extract", "clips/one.csv", "--encoder", "checkpoint", "--out", "new.h5", "--threads", "1"]]


def manifest(folder: Path, chance: random.Random) -> list[list[str]]:
    path = folder / "corpus" / "corpus.csv"
    mutations.spoil_text_file(path, chance, folder)
    extract = ["extract", "corpus/corpus.csv", "--encoder", "mfcc", "--out", "new.h5", "--threads", "1"]
    return [["check", "corpus/corpus.csv"], [*extract, "--on-error", chance.choice(("fail", "skip"))]]


def audio(folder: Path, chance: random.Random) -> list[list[str]]:
    path = chance.choice(sorted((folder / "clips").iterdir()))
    most = chance.choice((None, 64, 200))
    path.write_bytes(mutations.spoil_bytes(path.read_bytes(), chance, most))
    (folder / "clips" / "one.csv").write_text(f"id,path,label\na,{path.name},x\n")
    return [
        ["extract", "clips/one.csv", "--encoder", "mfcc", "--out", "new.h5", "--threads", "1"],
        ["predict", "exported", f"clips/{path.name}"],
    ]


KINDS: dict[str, Spoil] = {spoil.__name__: spoil for spoil in (store, run, exported, checkpoint, manifest, audio)}


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Fail after ten seconds of computing, or a minute of waiting; where even Python does not come to that, the process
    ends with its stacks."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"it hangs: {traceback.format_stack(frame, 3)}")  # type: ignore[arg-type]

    # Time that other processes take on a busy machine is nobody's hang.
    before = {number: signal.signal(number, give_up) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
    signal.alarm(6 * HANG_SECONDS)
    faulthandler.dump_traceback_later(7 * HANG_SECONDS, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


def start_peak() -> int:
    """Forget how much memory this process has had at most, where Linux does that; return what it has."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return read_peak()


def read_peak() -> int:
    """Return the most memory that this process has had, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def try_case(honest: Path, folder: Path, kind: str, number: int) -> list[str]:
    """Run one case in a copy of the honest folder, and say what is wrong about what happens."""
    shutil.copytree(honest, folder)
    chance = random.Random(f"{kind} {number}")
    (folder / "secret.txt").write_text(SECRET * 8)
    for place in (folder, *(path.parent for path in folder.rglob("*.json"))):
        (place / "evil.py").write_text(EVIL)
    commands = KINDS[kind](folder, chance)
    return [fault for words in commands for fault in run_command(folder, words)]


def run_command(folder: Path, words: list[str]) -> list[str]:
    """Run one command in a folder and list what must not happen."""
    before = start_peak()
    with contextlib.chdir(folder), no_hang():
        result = CliRunner().invoke(app, words)
    said, faults = result.output, []
    if (grown := read_peak() - before) > MOST_GROWTH:
        faults.append(f"it takes {grown / 1024**2:.0f} MiB")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        trace = "".join(traceback.format_exception(result.exception)[-4:])
        faults.append(f"{result.exception!r}\n{trace}")
    elif result.exit_code not in (0, 1) and not (result.exit_code == 2 and "Usage" in said):
        faults.append(f"exit code {result.exit_code}: {said[-300:]}")
    elif result.exit_code == 1 and "Error: " not in said and words[0] not in ("verify", "check"):
        faults.append(f"no sentence: {said[-300:]}")
    if "Traceback" in said:
        faults.append("a traceback is shown")
    if "\x1b[31mred" in said:
        faults.append("control characters are shown")
    there = [path for path in folder.rglob("*") if path.name != "secret.txt" and path.is_file()]
    if SECRET in said or any(SECRET.encode() in path.read_bytes() for path in there):
        faults.append("another file is shown")
    if "evil" in sys.modules or any(folder.rglob("ran")):
        faults.append("code ran")
    return [f"{' '.join(words)}: {fault}" for fault in faults]
