"""Published classifiers are tested on a corpus as they are, and their runs stand where others do."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import embedkit
from embedkit.corpora.clips import Clip
from embedkit.errors import ConfigError, EmbedkitError, FitError, RunError
from embedkit.reporting.figures.learning import draw_curves, draw_weights
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.report.commands import list_commands
from embedkit.reporting.report.conclusion import conclude
from embedkit.training.runs import RunRecord, read_run
from embedkit.workflows.published import PublishedClassifier
from tests.encoders.test_classifiers import reference, write_audeering, write_classifier
from tests.workflows.tones import write_tones

SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "id2label": {0: "deep", 1: "high", 2: "shrill"}}
MAP = {"deep": "low", "high": "high", "shrill": "high"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones") / "corpus.csv"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classifier(tmp_path_factory.mktemp("model") / "small", "Hubert", SMALL)


@pytest.fixture(scope="module")
def run(corpus: Path, model: Path) -> RunRecord:
    return embedkit.evaluate(corpus, model=str(model), map=MAP, trained_on="Nothing Else", runs=corpus.parents[1] / "r")


def shares_of(model: Path, clips: list[Path]) -> torch.Tensor:
    waves = [torch.from_numpy(soundfile.read(clip, dtype="float32")[0]) for clip in clips]
    return torch.softmax(reference(model, waves), dim=-1)


def test_predictions_are_those_of_the_model_as_published(run: RunRecord, model: Path, corpus: Path) -> None:
    with run.predictions_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    wanted = shares_of(model, [corpus.parent / f"{row['id'].removesuffix('.wav')}.wav" for row in rows])
    told = np.array([[float(row["p_low"]), float(row["p_high"])] for row in rows])
    np.testing.assert_allclose(told, np.stack([wanted[:, 0], wanted[:, 1:].sum(1)], axis=1), atol=2e-5)
    assert [row["predicted"] for row in rows] == ["low" if low > high else "high" for low, high in told]
    right = np.mean([row["predicted"] == row["label"] for row in rows])
    assert run.metrics["wa"] == pytest.approx(right)
    assert run.metrics["ua_ci"] is not None
    names = ("mode", "folds", "seeds", "trained_on")
    assert [run.metrics[name] for name in names] == ["zero-shot", "none", 1, "Nothing Else"]
    assert not (run.folder / "heads.safetensors").exists()


def test_labels_that_do_not_count_share_no_probability(corpus: Path, model: Path, tmp_path: Path) -> None:
    two = {"deep": "low", "high": "high"}
    record = embedkit.evaluate(corpus, model=str(model), map=two, runs=tmp_path, limit=7)
    with record.predictions_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    wanted = shares_of(model, [corpus.parent / f"{row['id'].removesuffix('.wav')}.wav" for row in rows])[:, :2]
    np.testing.assert_allclose([float(row["p_low"]) for row in rows], wanted[:, 0] / wanted.sum(1), atol=2e-5)
    assert record.metrics["trained_on"] == "not said"
    assert "trained on: not said" in str(embedkit.table([record]))


def test_what_is_there_is_not_asked_again(
    run: RunRecord, corpus: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PublishedClassifier, "score", None)
    runs = corpus.parents[1] / "r"
    again = embedkit.evaluate(corpus, model=str(model), map=MAP, trained_on="Nothing Else", runs=runs)
    assert again.folder == run.folder


def test_a_stopped_evaluation_goes_on(
    corpus: Path, model: Path, tmp_path: Path, run: RunRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PublishedClassifier.score

    def stopped(self: PublishedClassifier, *arguments: Any, **options: Any) -> Iterator[Any]:
        found = whole(self, *arguments, **options)
        yield from (next(found) for _ in range(4))
        raise KeyboardInterrupt

    options: dict[str, Any] = {
        "model": str(model),
        "map": MAP,
        "trained_on": "Nothing Else",
        "runs": tmp_path,
        "limit": 7,
    }
    with monkeypatch.context() as patch:
        patch.setattr(PublishedClassifier, "score", stopped)
        with pytest.raises(KeyboardInterrupt):
            embedkit.evaluate(corpus, **options)
    told: list[str] = []
    record = embedkit.evaluate(corpus, tell=told.append, **options)
    assert "Continuing: 4 of 7 clips are predicted." in told
    assert record.metrics["utterances"] == 7
    assert {*record.predictions_path.read_text().splitlines()} < {*run.predictions_path.read_text().splitlines()}
    assert not (tmp_path / ".unfinished").exists()


def trained(run: RunRecord, **changes: Any) -> dict[str, Any]:
    """Return the row of a run of heads on the same utterances."""
    own = {"mode": "cached", "loss": "ce", "head": "linear", "encoder": "mfcc", "folds": "speaker", "seeds": 3}
    return {**run.metrics, **own, "budget": {"epochs": 3}, **changes}


def test_it_stands_in_the_table_of_heads_that_were_trained_on_the_same(run: RunRecord) -> None:
    text = str(embedkit.table([run.metrics, trained(run)]))
    assert text.count("UAR in %") == 1
    assert "trained on Nothing Else" in text
    assert text.startswith(f"{run.metrics['corpus']}: UAR in %, 2 classes, folds by speaker\n")
    for apart in ({"utterances": 23}, {"speaker_dependent": True}, {"leak": True}, {"recordings": "other"}):
        assert str(embedkit.table([run.metrics, trained(run, **apart)])).count("UAR in %") == 2


def test_no_mark_compares_it(run: RunRecord) -> None:
    other = dataclasses.replace(run, metrics=trained(run))
    rows = embedkit.table([run, other, dataclasses.replace(other, metrics=trained(run, loss="focal"))]).rows
    tested = {row["loss"]: len(row["tests"]) for row in rows}
    assert tested["zero-shot"] == 0
    assert tested["focal"] == 1


def test_a_model_that_knows_the_corpus_leaks(corpus: Path, model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    options: dict[str, Any] = {"model": str(model), "map": MAP, "runs": tmp_path, "limit": 8}
    record = embedkit.evaluate(corpus, corpus_name="my-speech", trained_on="A, My Speech", tell=told.append, **options)
    assert record.metrics["leak"] is True
    assert ", LEAK" in str(embedkit.table([record]))
    assert any(line.startswith("LEAK") for line in told)


def test_reports_and_figures_read_it(run: RunRecord, tmp_path: Path) -> None:
    assert "as published, zero-shot, has a UAR of" in conclude(embedkit.table([run]).rows)
    panels = plan_panels([run])
    assert draw_weights(panels) == draw_curves(panels) == {}
    (command, *_) = list_commands([run], "runs")
    assert command.startswith("embedkit evaluate ")
    assert "--map shrill=high" in command
    with pytest.raises(RunError, match="name the classifier itself"):
        embedkit.predict(run.folder, tmp_path)
    assert read_run(run.folder).is_zero_shot


def test_attributes_are_told_in_the_corpus_unit(corpus: Path, tmp_path: Path) -> None:
    folder = write_audeering(tmp_path / "dim")
    with pytest.raises(FitError, match="--scale 1,5"):
        embedkit.evaluate(corpus, model=str(folder), runs=tmp_path)
    record = embedkit.evaluate(corpus, model=str(folder), scale=(1, 5), runs=tmp_path, limit=4)
    assert record.metrics["dimensions"] == ["arousal", "valence"]
    with record.predictions_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    clips = [corpus.parent / f"{row['id'].removesuffix('.wav')}.wav" for row in rows]
    ratings = embedkit.predict(folder, clips)
    for row, one in zip(rows, ratings, strict=True):
        assert list(one.dimensions) == ["arousal", "dominance", "valence"]
        for name in ("arousal", "valence"):
            assert float(row[f"predicted_{name}"]) == pytest.approx(1 + 4 * one.dimensions[name], abs=1e-4)


def test_predict_takes_a_classifier_and_a_map(corpus: Path, model: Path, tmp_path: Path, run: RunRecord) -> None:
    clip = corpus.parent / "03.wav"
    (wanted,) = shares_of(model, [clip])
    (whole,) = embedkit.predict(str(model), clip)
    assert list(whole.probabilities) == ["deep", "high", "shrill"]
    np.testing.assert_allclose(list(whole.probabilities.values()), wanted, atol=1e-5)
    (one,) = embedkit.predict(model, [clip], map={"shrill": "up", "high": "up", "deep": "down"})
    assert one.probabilities["up"] == pytest.approx(float(wanted[1:].sum()), abs=1e-5)
    first, *_ = embedkit.predict(model, clip, window=0.2)
    (same,) = embedkit.predict(model, Clip(name="a", path=clip, start=0.0, end=0.2))
    assert (first.start, first.end) == (0.0, 0.2)
    assert first.probabilities == pytest.approx(dict(same.probabilities), abs=1e-5)
    with pytest.raises(ConfigError, match=r"--window is 0\.01, but .* hears no less than"):
        embedkit.predict(model, clip, window=0.01)
    with pytest.raises(ConfigError, match="leave out --fold and --seed"):
        embedkit.predict(model, clip, seed=0)
    with pytest.raises(ConfigError, match="leave out --map"):
        embedkit.predict(run.folder, clip, map={"a": "b"})
    with pytest.raises(RunError, match="No run at"):
        embedkit.predict(tmp_path / "none", clip)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"map": {}}, r"labels \(deep, high, shrill\).*\(high, low\).*only high"),
        ({"map": {"depe": "low"}}, "'deep'"),
        ({"map": {"deep": "low", "high": "hihg"}}, "'high'"),
        ({"map": MAP, "scale": (1, 5)}, "leave out --scale"),
        ({"map": MAP, "scale": (1, 1)}, "two different numbers"),
        ({"map": MAP, "model": ""}, "No model was named"),
        ({"map": MAP, "model": "mfcc"}, "mfcc"),
    ],
)
def test_what_cannot_be_evaluated_is_told(
    options: dict[str, Any], expected: str, corpus: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmbedkitError, match=expected):
        embedkit.evaluate(corpus, **{"model": str(model), "runs": tmp_path} | options)
    assert not list(tmp_path.iterdir())
