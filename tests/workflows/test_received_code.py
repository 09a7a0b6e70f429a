"""Runs, exported folders, stores and embedkit.toml name code: none of it runs without the user's word."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

import embedkit
from embedkit.cli import app
from embedkit.errors import CodeError
from embedkit.export.predictor import KEPT
from embedkit.training.runs import read_run
from tests.training.stores import write_synthetic_store
from tests.workflows.tones import fit_tones, write_tones

PAYLOAD = """
from pathlib import Path

Path(__file__).with_name("ran").touch()

from embedkit.augmentations.filters import LowPass
from embedkit.corpora import open_corpus as read
from embedkit.encoders.acoustic import MfccEncoder
from embedkit.heads.linear import LinearHead
from embedkit.losses.cross_entropy import CrossEntropy


class Head(LinearHead):
    pass


class Loss(CrossEntropy):
    pass


class Encoder(MfccEncoder):
    def __init__(self):
        super().__init__(name="mfcc")


class Change(LowPass):
    pass
"""

FIELDS: dict[str, Any] = {
    "head": "evil:Head",
    "head_spec": "evil:Head",
    "choices.0.head": "evil:Head:x=1",
    "loss": "evil:Loss",
    "loss_spec": "evil:Loss:weights=balanced",
    "store.encoder.name": "evil:Encoder",
    "store.encoder.name ": "mfcc+evil:Encoder",
    "store.encoder.parts": [{"name": "mfcc"}, {"name": "evil:Encoder"}],
    "store.encoders": [{"name": "evil:Encoder"}],
    "tuning": {"augment": ["evil:Change"]},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus, its store, and a run."""
    folder = tmp_path_factory.mktemp("made")
    fit_tones(write_tones(folder / "corpus"), "mfcc", head=["linear"], epochs=1, seeds=1)
    return folder


@pytest.fixture
def study(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same in the current folder, with code beside it and in the run; yields the run."""
    folder = tmp_path / "study"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setattr("embedkit.imports._WORD", {})
    (run,) = (path.parent for path in folder.glob("runs/**/metrics.json"))
    for place in (folder, run):
        (place / "evil.py").write_text(PAYLOAD)
    yield run
    sys.modules.pop("evil", None)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin as a new process would."""
    monkeypatch.setattr("embedkit.imports._WORD", {})
    sys.modules.pop("evil", None)
    for path in Path().rglob("ran"):
        path.unlink()


def ran() -> bool:
    return "evil" in sys.modules or any(Path().rglob("ran"))


def put(run: Path, field: str, value: Any) -> None:
    """Have a field of a run name code."""
    config = json.loads((run / "config.json").read_text())
    place: Any = config
    *before, last = field.strip().split(".")
    for key in before:
        place = place[int(key) if key.isdigit() else key]
    place[last] = value
    (run / "config.json").write_text(json.dumps(config))


def export_by_hand(run: Path) -> Path:
    """Make the exported folder that a run's configuration would give."""
    record, folder = read_run(run), Path("exported")
    folder.mkdir()
    save_file(record.load_heads(), folder / "head.safetensors")
    kept = {name: record.config[name] for name in (*KEPT, "tuning") if name in record.config}
    (folder / "predictor.json").write_text(json.dumps({"format": "embedkit-predictor", "format_version": 1, **kept}))
    return folder


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def assert_refused(result: Result, file: str) -> None:
    assert result.exit_code == 1, result.output
    assert result.stderr.count("Error: ") == result.stderr.count("\n") == 1
    for part in (file, "names 'evil:", "nothing of it was imported", "--allow-code evil", "config.toml"):
        assert part in result.stderr
    assert not ran()


@pytest.mark.parametrize("command", ["predict", "export"])
@pytest.mark.parametrize("field", FIELDS)
def test_a_run_that_names_code_is_refused(study: Path, command: str, field: str) -> None:
    put(study, field, FIELDS[field])
    rest = ["corpus/00.wav"] if command == "predict" else ["--format", "folder", "--out", "out"]
    assert_refused(call(command, study, *rest), "config.json")
    assert_refused(call(command, export_by_hand(study), *rest), "predictor.json")
    with pytest.raises(CodeError):
        embedkit.predict(study, ["corpus/00.wav"], allow_code=["another"])
    assert not ran()


READERS = {
    "table": [],
    "report": [],
    "figure": ["confusion"],
}


@pytest.mark.parametrize("command", READERS)
def test_what_needs_no_code_reads_the_run_without_it(study: Path, command: str) -> None:
    for field, value in FIELDS.items():
        put(study, field, value)
    metrics = json.loads((study / "metrics.json").read_text())
    own = {"head": "evil:Head", "head_spec": "evil:Head", "loss": "evil:Loss", "loss_spec": "evil:Loss", "encoder": "e"}
    (study / "metrics.json").write_text(json.dumps({**metrics, **own}))
    result = call(command, *READERS[command])
    assert result.exit_code == 0, result.output
    assert not ran()


def test_fit_and_extract_read_stores_and_runs_without_it(study: Path) -> None:
    for field, value in FIELDS.items():
        put(study, field, value)
    write_synthetic_store(Path("named.h5"), encoder="evil:Encoder")
    budget = "--loss ce --head linear --seeds 1 --epochs 1 --lr 1e-2 --folds session --threads 1"
    result = call("fit", "named.h5", *budget.split())
    assert result.exit_code == 0, result.output
    assert read_run(result.stdout.strip()).config["store"]["encoder"]["name"] == "evil:Encoder"
    assert_refused(call("predict", result.stdout.strip(), "corpus/00.wav"), "config.json")
    assert call("extract", "corpus/corpus.csv", "--encoder", study).exit_code == 1
    assert call("extract", "corpus/corpus.csv", "--encoder", "mfcc", "--out", "named.h5").exit_code == 1
    assert not ran()


COMMANDS = {
    "extract corpus": ('corpus = "evil:read:corpus"', "extract --encoder mfcc --threads 1"),
    "extract encoder": ('[extract]\nencoder = ["mfcc+evil:Encoder"]', "extract corpus/corpus.csv --threads 1"),
    "fit head": ('[fit]\nhead = "evil:Head"', "fit store.h5 --loss ce"),
    "fit loss": ('[fit]\nloss = ["ce,evil:Loss:weights=balanced"]', "fit store.h5"),
    "fit corpus": ('corpus = "evil:read:corpus"', "fit --mode frozen --encoder mfcc"),
    "fit encoder": ('[fit]\nencoder = ["evil:Encoder"]', "fit corpus --mode frozen"),
    "study head": ('[study]\nhead = "evil:Head"', "study corpus --encoder mfcc"),
    "study loss": ('[fit]\nloss = "evil:Loss"', "study corpus --encoder mfcc"),
    "study encoder": ('[extract]\nencoder = "evil:Encoder"', "study corpus"),
    "study corpora": ('[study]\ncorpora = ["corpus", "evil:read:corpus"]', "study --encoder mfcc"),
    "check corpus": ('corpus = "evil:read:corpus"', "check"),
}


@pytest.mark.parametrize("case", COMMANDS)
def test_embedkit_toml_that_names_code_is_refused_without_the_word(study: Path, case: str) -> None:
    text, words = COMMANDS[case]
    Path("embedkit.toml").write_text(text)
    assert_refused(call(*words.split()), "embedkit.toml")


BUDGET = ("--seeds", "1", "--epochs", "1", "--lr", "1e-2", "--folds", "speaker", "--threads", "1")


def test_with_the_word_it_is_imported_and_said(study: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path("embedkit.toml").write_text('[fit]\nhead = "evil:Head"\nloss = "evil:Loss"')
    fitted = call("fit", "store.h5", *BUDGET, "--allow-code", "evil")
    assert fitted.exit_code == 0, fitted.output
    place = str(Path("evil.py").absolute())
    assert f"Importing 'evil:Head', from {place!r}, because 'embedkit.toml' names it as head[0]." in fitted.stderr
    run = Path(fitted.stdout.strip())
    for words in (["predict", run, "corpus/00.wav"], ["export", run, "--format", "folder", "--out", "out"]):
        forget(monkeypatch)
        assert_refused(call(*words), "config.json")
        allowed = call(*words, "--allow-code", "other", "--allow-code", "evil")
        assert allowed.exit_code == 0, allowed.output
        assert allowed.stderr.count(f", from {place!r}, because ") == 2
    settings = tmp_path / "settings" / "embedkit" / "config.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text('allow_code = ["evil"]')
    forget(monkeypatch)
    assert call("predict", "out", "corpus/00.wav").exit_code == 0
    settings.unlink()
    forget(monkeypatch)
    assert_refused(call("predict", "out", "corpus/00.wav"), "predictor.json")
    said: list[str] = []
    assert embedkit.predict("out", ["corpus/00.wav"], allow_code="evil", tell=said.append)
    assert len(said) == 2


def test_what_is_typed_is_the_users_word_and_so_are_runs_of_the_same_process(study: Path) -> None:
    result = call("fit", "store.h5", "--head", "evil:Head", "--loss", "ce,evil:Loss", *BUDGET)
    assert result.exit_code == 0, result.output
    assert "Importing" not in result.stderr
    for folder in result.stdout.split():
        assert embedkit.predict(folder, ["corpus/00.wav"])


def test_typed_encoders_and_corpora_are_the_users_word(study: Path) -> None:
    assert call("extract", "evil:read:corpus", "--encoder", "evil:Encoder", "--out", "own.h5").exit_code == 0
    assert ran()
