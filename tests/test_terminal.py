"""Whose words reach the terminal: embedkit's alone; what libraries print, log and warn of is in the log."""

import io
import json
import logging
import os
import re
import stat
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit import logs, terminal
from embedkit.cli import app
from embedkit.errors import ConfigError
from embedkit.logs import Log, default_log_file
from embedkit.progress import show_progress
from tests.encoders.checkpoints import write_whisper_checkpoint
from tests.screens import Screen
from tests.warm import WarmProcess

ROOT = Path(__file__).parent.parent
NOISE = """
import atexit, ctypes, logging, os, subprocess, sys, warnings

def make_noise():
    print("printed")
    print("printed as an error", file=sys.stderr)
    print("printed to where Python began", file=sys.__stdout__)
    sys.stdout.buffer.write(b"bytes\\n")
    os.write(1, b"raw output\\n")
    os.write(2, b"raw error\\n")
    ctypes.CDLL(None).puts(b"held back by C")
    warnings.warn("a deprecation", FutureWarning)
    logging.getLogger("library").warning("a report")
    subprocess.run(["echo", "a child"])
    atexit.register(print, "at the end")
    copy = os.fork()
    if copy == 0:
        print("a copy")
        os._exit(0)
    os.waitpid(copy, 0)

class Library:
    def find_spec(self, name, *_):
        if name == "embedkit.workflows.check":
            make_noise()
            {after}

sys.meta_path.insert(0, Library())
"""
SAID = [
    "printed",
    "printed as an error",
    "printed to where Python began",
    "bytes",
    "raw output",
    "raw error",
    "held back by C",
    "a deprecation",
    "a report",
    "a child",
    "at the end",
    "a copy",
]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = ["path,speaker,label"]
    for number in range(6):
        sound = np.random.default_rng(number).normal(size=32_000) / 10
        soundfile.write(tmp_path / f"{number}.mp3", sound, 16_000)
        rows.append(f"{number}.mp3,s{number % 3},{'ab'[number // 3]}")
    (tmp_path / "corpus.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "corpus.csv"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "libraries.log"


def run(
    folder: Path, *arguments: str, noise: str | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    path = [str(ROOT)]
    if noise is not None:
        (folder / "first").mkdir(exist_ok=True)
        (folder / "first" / "sitecustomize.py").write_text(NOISE.format(after=noise))
        path.insert(0, str(folder / "first"))
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(path), **environment}
    return subprocess.run(
        [sys.executable, "-m", "embedkit", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={name: value for name, value in variables.items() if value},
        check=False,
    )


def damage(path: Path) -> None:
    """Spoil the header of one frame: libmpg123 skips it and says so on standard error."""
    data = bytearray(path.read_bytes())
    frames = [found.start() for found in re.finditer(re.escape(data[288:290]), data)]
    data[frames[20] : frames[20] + 2] = b"\0\0"
    path.write_bytes(data)


def test_an_extraction_says_what_embedkit_says(corpus: Path, log: Path) -> None:
    damage(corpus.parent / "1.mp3")
    write_whisper_checkpoint(corpus.parent / "whisper")
    command = ["embedkit", "--log-file", str(log), "extract", "corpus.csv", "--encoder", "./whisper"]
    printed, said = corpus.with_name("printed"), corpus.with_name("said")
    code = WarmProcess(command, corpus.parent, os.environ, printed, said).wait()
    assert (code, printed.read_text()) == (0, "embeddings/corpus/whisper.h5\n"), said.read_text()
    own = r"corpus with \./whisper: 6 utterances.*|--precision auto .*|About .* to go .*|Wrote '.*': 6 utterances\."
    own += r"|(read|columns used|columns kept) .*"
    assert all(re.fullmatch(own, line) for line in said.read_text().splitlines()), said.read_text()
    assert "Illegal Audio-MPEG-Header" in log.read_text()


def test_output_for_programs_is_pure_whatever_libraries_print(corpus: Path, log: Path) -> None:
    result = run(corpus.parent, "check", "corpus.csv", "--format", "json", noise="", EMBEDKIT_LOG_FILE=str(log))
    assert json.loads(result.stdout)["corpus"] == "corpus"
    assert result.stderr == ""
    lines = log.read_text().splitlines()
    assert re.fullmatch(r"# \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d+ embedkit check", lines[0])
    for said in SAID:
        assert any(line.endswith(said) for line in lines), (said, lines)
    stamped = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(,\d+)? (\d+) (WARNING library|stdout): (a report|printed|a copy)"
    found = {match[4]: match[2] for match in (re.fullmatch(stamped, line) for line in lines) if match}
    assert found["printed"] == found["a report"] == lines[0].split()[3]
    assert found["a copy"] != found["printed"]


def test_a_crash_is_shown_and_the_log_named(corpus: Path, log: Path) -> None:
    result = run(corpus.parent, "--log-file", str(log), "check", "corpus.csv", noise="1 / 0")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Traceback (most recent call last):")
    *_, error, last = result.stderr.splitlines()
    assert error == "ZeroDivisionError: division by zero"
    assert last == f"What libraries said before is in {str(log)!r}."


def test_a_log_lies_in_the_users_folder_if_there_is_anything(corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "embedkit" / "log"
    places = {"EMBEDKIT_LOG_FILE": "", "XDG_STATE_HOME": str(tmp_path / "state")}
    assert run(corpus.parent, "--help", **places).returncode == 0
    assert not folder.exists()
    assert run(corpus.parent, "check", "corpus.csv", **places).returncode == 0
    assert list(folder.glob("*")) == []
    assert run(corpus.parent, "check", "corpus.csv", noise="", **places).stderr == ""
    (path,) = folder.iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}-\d+-embedkit-check\.log", path.name)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert "a report" in path.read_text()
    assert "at the end" in path.read_text()


def test_a_folder_that_cannot_be_written_stops_nobody(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    places = {"EMBEDKIT_LOG_FILE": "", "XDG_STATE_HOME": str(tmp_path / "state")}
    result = run(corpus.parent, "check", "corpus.csv", "--format", "json", noise="", **places)
    assert (result.returncode, result.stderr) == (0, "")
    assert json.loads(result.stdout)


def test_a_named_log_that_cannot_be_written_gets_one_sentence(corpus: Path) -> None:
    result = run(corpus.parent, "--log-file", "no/folder.log", "list", "losses")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: --log-file 'no/folder.log' cannot be written (No such file or directory)")


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    result = subprocess.run(
        [sys.executable, "-m", "embedkit", "list", "encoders"],
        stdout=write,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    os.close(write)
    assert (result.returncode, result.stderr) == (141, b"")


def test_without_standard_output_a_command_runs() -> None:
    command = f"exec {sys.executable} -m embedkit list losses >&- 2>&-"
    result = subprocess.run(["sh", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert result.returncode == 0


def test_a_bar_and_sentences_share_the_terminal_with_nobody(corpus: Path, log: Path) -> None:
    damage(corpus.parent / "1.mp3")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "embedkit", "--log-file", str(log), "extract", "corpus.csv", "--encoder", "mfcc"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=corpus.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 4096)
        except OSError:
            break
    os.close(ours)
    assert process.wait() == 0, shown
    assert b"extract mfcc" in shown
    assert b"Wrote 'embeddings/corpus/mfcc.h5'" in shown
    assert b"Illegal" not in shown
    assert "Illegal Audio-MPEG-Header" in log.read_text()


def test_in_one_process_with_others_only_pythons_streams_are_lent(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    kept: list[Any] = []

    def list_parts(*_: Any, **__: Any) -> list[Any]:
        print("printed by a library")
        kept.append(logging.StreamHandler(sys.stderr))
        logging.getLogger("embedkit").warning("said by embedkit")
        raise ConfigError("stopped")

    monkeypatch.setattr("embedkit.workflows.list.list_parts", list_parts)
    result = CliRunner().invoke(app, ["--log-file", str(log), "list", "losses"], prog_name="embedkit")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "said by embedkit\nError: stopped\n"
    assert "printed by a library" in log.read_text()
    assert not terminal.is_lent()
    # What a library has kept for later leads to where it would without a command.
    kept[0].emit(logging.makeLogRecord({"msg": "later"}))
    assert capfd.readouterr() == ("", "later\n")


def test_in_library_use_nothing_is_redirected(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(corpus.parent)
    monkeypatch.setenv("XDG_STATE_HOME", str(corpus.parent))
    monkeypatch.delenv("EMBEDKIT_LOG_FILE")
    before = [sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino]
    embedkit.extract("corpus.csv", encoder="mfcc")
    assert before == [sys.stdout, sys.stderr, os.fstat(1).st_ino, os.fstat(2).st_ino]
    assert capfd.readouterr() == ("", "")
    assert not (corpus.parent / "embedkit").exists()


def test_logs_in_the_users_folder_are_few_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(logs, "MOST_FILES", 3)
    monkeypatch.setattr(logs, "MOST_BYTES", 1000)
    folder = default_log_file("x").parent
    folder.mkdir(parents=True)
    for day in range(1, 6):
        (folder / f"2020010{day}-000000-1-embedkit-fit.log").touch()
    log = Log(None, "embedkit fit")
    for number in range(100):
        log.write(f"line {number} of many\n")
    os.write(log.descriptor, b"by a C library\n" * 100)
    log.close()
    assert log.path is not None
    assert [path.name[:8] for path in sorted(folder.iterdir())][:-1] == ["20200104", "20200105"]
    assert log.path.stat().st_size < 1000
    text = log.path.read_text()
    assert text.startswith("# 20")
    assert "Only the end is kept" in text
    assert text.endswith("by a C library\n")


def test_a_log_that_is_named_is_added_to(screen: Screen, log: Path) -> None:
    log.write_text("before\n")
    for command in ("one", "two"):
        with redirect_stderr(screen), terminal.lend(log, command):
            print(f"printed by {command}")
    lines = log.read_text().splitlines()
    assert lines[0] == "before"
    assert [line.split(maxsplit=3)[-1] for line in lines[1:]] == [
        f"{os.getpid()} one",
        "stdout: printed by one",
        f"{os.getpid()} two",
        "stdout: printed by two",
    ]


def test_libraries_may_ask_their_streams_for_anything(screen: Screen, log: Path) -> None:
    with redirect_stderr(screen), terminal.lend(log, "a command"):
        assert isinstance(sys.stdout, io.TextIOBase)
        assert not sys.stdout.isatty()
        assert sys.stderr.fileno() == 2
        print("half", end="")
        print(" a line\nand \udcff")
    assert "stdout: half a line\n" in log.read_text()
    assert "stdout: and \\udcff\n" in log.read_text()


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    for name, value in {"COLUMNS": "80", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Screen()


def test_a_bar_and_sentences_leave_each_other_room(screen: Screen, log: Path) -> None:
    sentences = [f"experiment {number}: {'word ' * (20 + number)}end" for number in range(6)]
    notes = iter(["short", "long " * 30, "", "long " * 18] * 20)
    with (
        redirect_stderr(screen),
        terminal.lend(log, "embedkit fit"),
        show_progress(None, "fit", note=lambda: next(notes)) as report,
    ):
        assert report is not None
        for number, sentence in enumerate(sentences):
            report(number, len(sentences))
            terminal.tell(sentence)
    shown = [line for line in screen.lines() if line]
    assert " ".join(" ".join(shown).split()) == " ".join(sentences)
    words = {word for sentence in sentences for word in sentence.split()}
    assert {word for line in shown for word in line.split()} <= words, "a word is broken"
    assert [line for line in shown if line.startswith("experiment")] != sentences


def test_a_terminal_that_cannot_redraw_gets_no_bar(screen: Screen, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with (
        redirect_stderr(screen),
        terminal.lend(log, "embedkit fit"),
        show_progress(None, "fit") as report,
    ):
        assert report is None
        terminal.tell("work")
    assert screen.getvalue() == "work\n"


def test_what_is_to_be_copied_stays_one_line(screen: Screen, log: Path) -> None:
    command = f"  embedkit fit {'embeddings/corpus/encoder.h5 ' * 5}--loss all"
    with redirect_stderr(screen), terminal.lend(log, "embedkit demo"):
        terminal.tell(command)
    assert screen.getvalue() == f"{command}\n"


@pytest.mark.parametrize(
    ("volume", "said"),
    [("quiet", ["a warning", "an error"]), ("usual", ["work", "a warning", "an error"])],
)
def test_a_quiet_command_warns_alone(screen: Screen, log: Path, volume: terminal.Volume, said: list[str]) -> None:
    with redirect_stderr(screen), terminal.lend(log, "embedkit fit", volume), show_progress(None, "fit") as report:
        assert (report is None) == (volume == "quiet")
        terminal.tell("work")
        logging.getLogger("embedkit").warning("a warning")
        logging.getLogger("embedkit").info("a detail")
        logging.getLogger("library").warning("a report")
        terminal.warn("an error")
    assert [line for line in screen.lines() if line] == said


def test_a_verbose_command_says_what_is_logged(screen: Screen, log: Path) -> None:
    with redirect_stderr(screen), terminal.lend(log, "embedkit fit", "verbose"):
        logging.getLogger("embedkit").debug("a detail")
        logging.getLogger("library").warning("a report")
    assert screen.lines() == ["a detail", "a report", ""]
    assert "a detail" in log.read_text()


@pytest.mark.parametrize("place", ["before", "after"])
def test_messages_are_chosen_before_the_command_or_after(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chosen = ["--log-file", "own.log", "--quiet"]
    words = [*chosen, "demo"] if place == "before" else ["demo", *chosen]

    def run_demo(*_: Any, tell: Any, **__: Any) -> Any:
        tell("work")
        print("printed")
        return SimpleNamespace(table=SimpleNamespace(render=lambda bold: "table"), closing_words="closing words")

    monkeypatch.setattr("embedkit.workflows.demo.run_demo", run_demo)
    result = CliRunner().invoke(app, words, env={"EMBEDKIT_LOG_FILE": "other.log"})
    assert (result.exit_code, result.stdout, result.stderr) == (0, "table\n", "")
    assert "printed" in Path("own.log").read_text()
    assert CliRunner().invoke(app, [*words, "--verbose"]).exit_code == 2
