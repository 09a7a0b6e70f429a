"""The drills: each disturbs a command at a moment drawn by chance, and says what is wrong about what comes of it.

Moments are drawn by what has been written, not by the clock: the command stops before one of its changes, or dies at
one byte of a file.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.drills.ground import SECONDS, Drilled, Ground, Running, check_said, is_unfinished, read_tree

Drill = Callable[[Ground, str, random.Random], list[str]]
"""Takes the ground, the name of a command, and chance; returns faults."""

INTERRUPTED = 130


def stopped(command: Drilled, chance: random.Random) -> tuple[Running, Path]:
    """Start the command and have it stop at a moment of chance."""
    folder = command.ground.new(command.before)
    running = Running(folder, command.words, "stop", chance.randint(1, command.changes))
    running.wait_stopped()
    return running, folder


def kill(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """kill -9 before a change."""
    return _signalled(ground.command(name), chance, signal.SIGKILL)


def hang_up(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """SIGHUP before a change: the terminal is closed."""
    return _signalled(ground.command(name), chance, signal.SIGHUP)


def _signalled(command: Drilled, chance: random.Random, number: signal.Signals) -> list[str]:
    running, folder = stopped(command, chance)
    running.send(number)
    running.go_on()
    code, said = running.end()
    # Where the last one is never reached, the command has ended by itself.
    faults = [] if code in (0, -number) else [f"it ends with {code}"]
    return faults + check_said(said) + command.check_whole(folder) + command.again(folder)


def cut(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """kill -9 at a byte of a file."""
    command = ground.command(name)
    folder = ground.new(command.before)
    code, said = Running(folder, command.words, "bytes", chance.randint(1, command.largest())).end()
    faults = [] if code in (0, -signal.SIGXFSZ) else [f"it ends with {code}: {said[-300:]}"]
    return faults + check_said(said) + command.check_whole(folder) + command.again(folder)


def interrupt_twice(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """Ctrl-C, and once more while the first one is answered."""
    command = ground.command(name)
    running, folder = stopped(command, chance)
    running.send(signal.SIGINT)
    running.go_on()
    time.sleep(chance.uniform(0, 0.05))
    running.send(signal.SIGINT)
    code, said = running.end()
    faults = check_said(said)
    if code not in (0, INTERRUPTED):
        faults.append(f"it ends with {code}: {said[-300:]}")
    if code == INTERRUPTED and not ("Interrupted;" in said or "Stopped;" in said):
        faults.append(f"it does not say that it was interrupted: {said[-300:]}")
    return faults + command.check_whole(folder) + command.again(folder)


def too_little_memory(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """`ulimit -v`: one sentence, and without the limit the same command goes on."""
    command = ground.command(name)
    folder = ground.new(command.before)
    code, said = Running(folder, command.words, "memory", chance.randint(100, 3000) * 1024**2).end()
    faults = check_said(said)
    if code and (code != 1 or sum("Error: " in line for line in said.splitlines()) != 1):
        faults.append(f"no sentence, but {code}: {said[-600:]}")
    return faults + command.check_whole(folder) + command.again(folder)


def recycled(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """kill -9, and the number of the dead process belongs to another one when the command comes again."""
    command = ground.command(name)
    running, folder = stopped(command, chance)
    running.send(signal.SIGKILL)
    running.end()
    dead, other = str(running.process.pid), str(os.getpid())
    week_ago = time.time() - 8 * 86400
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name == "holder":
            path.write_text(path.read_text().replace(dead, other, 1))
        if f"-{dead}-" in path.name:
            path = path.rename(path.with_name(path.name.replace(f"-{dead}-", f"-{other}-")))
            # Of a process that may be alive, nothing is removed for a week.
            os.utime(path, (week_ago, week_ago))
    return command.again(folder)


def half_deleted(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """Some files of a finished run are gone: the same command makes it whole; until then one sentence."""
    command = ground.command(name)
    folder = ground.new(command.after)
    run = chance.choice(sorted(path.parent for path in folder.glob("runs/**/predictions.csv")))
    # Without these a run is still whole: older ones have no curves, and some encoders no settings of a preprocessor.
    beside = ("curves.json", "README.md", "preprocessor_config.json")
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in beside)
    for path in chance.sample(files, chance.randint(1, len(files) - 1)):
        path.unlink()
    faults = []
    for words in (["table", "runs"], ["report", "runs", "--out", "r.html"]):
        code, said = Running(folder, words).end()
        faults += check_said(said)
        if code not in (0, 1) or (code == 1 and "Error: " not in said):
            faults.append(f"{words[0]} ends with {code}: {said[-300:]}")
    (folder / "r.html").unlink(missing_ok=True)
    return faults + command.again(folder)


def replaced(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """Another store takes the place of the one that fit reads: the old run or the new one, never half of each."""
    command, other = ground.command(name), ground.command(f"{name} on another store")
    running, folder = stopped(command, chance)
    shards = Path("s.h5.shards")
    if (other.before / shards).exists():
        # As an extraction does it: new files, then the store, then the old ones go.
        shutil.copytree(other.before / shards, folder / shards, dirs_exist_ok=True)
    shutil.copy2(other.before / "s.h5", folder / "new.h5")
    os.replace(folder / "new.h5", folder / "s.h5")
    for path in (folder / shards).glob("*"):
        if not (other.before / shards / path.name).exists():
            path.unlink()
    running.go_on()
    code, said = running.end()
    faults = check_said(said)
    if code not in (0, 1) or (code == 1 and "Error: " not in said):
        faults.append(f"it ends with {code}: {said[-300:]}")
    for path, data in read_tree(folder).items():
        if not is_unfinished(path) and data not in (command.expected.get(path), other.expected.get(path)):
            faults.append(f"neither of the old store nor of the new one: {path!r}")
        # Whole runs of the old store are kept beside those of the new one, which has other utterances.
        if path.startswith("runs/") and path not in other.expected and data == command.expected.get(path):
            (folder / path).unlink()
    return faults + other.again(folder)


def five_at_once(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """Five processes on one store: one works, the others leave it alone in one sentence."""
    command = ground.command(name)
    first, folder = stopped(command, chance)
    others = [Running(folder, command.words) for _ in range(4)]
    others[0].process.wait(SECONDS)
    first.go_on()
    ends = [one.end() for one in (first, *others)]
    faults = [fault for _, said in ends for fault in check_said(said)]
    if not any(code == 0 for code, _ in ends):
        faults.append(f"not one has finished: {ends}")
    for code, said in ends:
        if code and (code != 1 or "Another extraction writes to the same store" not in said):
            faults.append(f"one ends with {code}: {said[-300:]}")
    return faults + command.check_whole(folder) + command.again(folder)


def two_studies(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """Two of the same study on one folder of runs: both end well, or in one sentence, and the runs are as of one."""
    command = ground.command(name)
    first, folder = stopped(command, chance)
    second = Running(folder, command.words, "stop", chance.randint(1, command.changes))
    second.wait_stopped()
    for one in chance.sample((first, second), 2):
        one.go_on()
        time.sleep(chance.uniform(0, 0.5))
    faults = []
    for code, said in (first.end(), second.end()):
        faults += check_said(said)
        if code and (code != 1 or "Error: " not in said):
            faults.append(f"one ends with {code}: {said[-400:]}")
    return faults + command.check_whole(folder) + command.again(folder)


def kill_a_worker(ground: Ground, name: str, chance: random.Random) -> list[str]:
    """kill -9 of a worker of Ray while the driver stands still: it goes on, and the store is the same."""
    command = ground.command(name)
    running, folder = stopped(command, chance)
    workers = [one for one in psutil.Process(running.process.pid).children(recursive=True) if _is_worker(one)]
    for worker in chance.sample(workers, min(len(workers), 1)):
        worker.kill()
    running.go_on()
    code, said = running.end()
    faults = [] if code == 0 else [f"it ends with {code}: {said[-300:]}"]
    return faults + check_said(said) + command.again(folder)


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "ray::" in " ".join(process.cmdline())
    except psutil.Error:
        return False


KILLED = (
    *("extract", "extract in files", "extract again", "fit", "study", "finetune", "export", "export to ONNX"),
    *("report", "extract on Ray"),
)
DRILLS: dict[str, tuple[Drill, tuple[str, ...]]] = {
    "kill -9": (kill, KILLED),
    "kill -9 at a byte": (cut, tuple(name for name in KILLED if name != "extract on Ray")),
    "kill -9 of a worker": (kill_a_worker, ("extract on Ray",)),
    "Ctrl-C twice": (interrupt_twice, ("extract", "fit", "study", "finetune", "export", "report")),
    "SIGHUP": (hang_up, ("extract", "fit", "study", "finetune")),
    "ulimit -v": (too_little_memory, ("extract", "fit", "finetune", "export", "report")),
    "recycled process id": (recycled, ("extract", "fit", "export")),
    "half-deleted run": (half_deleted, ("fit one run", "finetune")),
    "store replaced": (replaced, ("fit", "fit from disk")),
    "five processes on one store": (five_at_once, ("extract", "extract in files")),
    "two studies on one folder": (two_studies, ("study",)),
}
"""By name: how, and which commands."""


def hold(ground: Ground, drill: str, command: str, chance: random.Random) -> list[str]:
    """Hold a drill once; what fails otherwise is a fault as well."""
    try:
        return DRILLS[drill][0](ground, command, chance)
    except (TimeoutError, OSError, RuntimeError, json.JSONDecodeError) as error:
        return [f"{type(error).__name__}: {error}"]
