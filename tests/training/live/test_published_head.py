"""Training can begin with the head that a published classifier carries."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import embedkit
from embedkit.encoders.classifiers import EMOTION2VEC_LABELS
from embedkit.errors import EmbedkitError
from embedkit.training.data.targets import build_targets
from embedkit.training.experiment_record import run_folder
from embedkit.training.runs import RunRecord
from embedkit.training.stacks.initial import InitialHead
from tests.encoders.checkpoints import LARGE, SHAPE, write_conv_checkpoint, write_pair
from tests.encoders.emotion2vec import random_weights, write_published
from tests.encoders.test_classifiers import write_audeering, write_classifier
from tests.training.test_identity import assert_repeated, collect
from tests.workflows.tones import write_tones

SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 32, "id2label": {0: "deep", 1: "high", 2: "shrill"}}
MAP = {"deep": "low", "high": "high"}
STILL: dict[str, Any] = {"lr": (1e-12,), "encoder_lr": 1e-12, "epochs": 1, "seeds": 1}
"""A training that leaves everything as it was."""


def write_emotion2vec(folder: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    head = {"proj.weight": torch.randn(9, 32, generator=generator), "proj.bias": torch.randn(9, generator=generator)}
    weights = random_weights(32, 4, 16) | head
    folder.mkdir()
    return write_published(folder / "model.pt", weights).parent


MODELS: dict[str, Any] = {
    "weighted sum": lambda folder: write_classifier(folder, "Hubert", SMALL | {"use_weighted_layer_sum": True}),
    "last layer": lambda folder: write_classifier(folder, "Wav2Vec2", SMALL | LARGE | {"hidden_size": 32}),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("tones") / "tones") / "corpus.csv"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS["weighted sum"](tmp_path_factory.mktemp("model") / "it")


def begin(corpus: Path, model: Path, runs: Path, **options: Any) -> RunRecord:
    told = {"mode": "finetune", "init_head": "published", "folds": "speaker", **STILL, **options}
    if told["mode"] == "frozen":
        told.pop("encoder_lr")
    (record,) = embedkit.fit(corpus, encoder=str(model), runs=runs, **told)
    return record


def read(record: RunRecord, prefix: str) -> dict[str, list[float]]:
    with record.predictions_path.open(newline="") as file:
        return {
            row["id"]: [float(value) for name, value in row.items() if name.startswith(prefix)]
            for row in csv.DictReader(file)
        }


@pytest.mark.parametrize(
    ("kind", "mode"), [("weighted sum", "finetune"), ("weighted sum", "frozen"), ("last layer", "frozen")]
)
def test_before_it_learns_it_says_what_was_published(kind: str, mode: str, corpus: Path, tmp_path: Path) -> None:
    folder = MODELS[kind](tmp_path / "it")
    trained = read(begin(corpus, folder, tmp_path / "runs", map=MAP, mode=mode), "p_")
    asked = read(embedkit.evaluate(corpus, model=str(folder), map=MAP, runs=tmp_path / "asked"), "p_")
    assert trained.keys() == asked.keys()
    for name, shares in asked.items():
        np.testing.assert_allclose(trained[name], shares, atol=2e-5)


def test_ratings_begin_in_the_unit_of_the_corpus(corpus: Path, tmp_path: Path) -> None:
    folder = write_audeering(tmp_path / "dim")
    told: list[str] = []
    options: dict[str, Any] = {"targets": ("valence", "arousal"), "tell": told.append}
    trained = read(begin(corpus, folder, tmp_path / "runs", **options), "predicted_")
    clear = embedkit.evaluate(corpus, model=str(folder), map={"valence": "valence"}, scale=(-3, 2), runs=tmp_path / "a")
    asked = read(clear, "predicted_")
    assert asked
    for name, ratings in asked.items():
        np.testing.assert_allclose(trained[name][:1], ratings, atol=1e-4)
    assert any("the lowest and the highest rating of each training set" in line for line in told)


def test_it_goes_on_learning_and_a_class_without_a_label_begins_anew(corpus: Path, model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    options: dict[str, Any] = {
        "lr": (1e-2,),
        "encoder_lr": 1e-5,
        "epochs": 1,
        "tell": told.append,
        "where": ("speaker!=s3",),
    }
    first = begin(corpus, model, tmp_path / "runs", map=MAP, **options)
    other = begin(corpus, model, tmp_path / "runs", map={"deep": "high", "shrill": "low"}, **options)
    assert first.folder != other.folder
    assert read(first, "p_") != read(other, "p_")
    assert first.config["head_spec"] == "superb:hidden=12"
    assert first.metrics["standardised"] == "not, as the published head reads embeddings"
    assert "Labels of the model that count: deep as low, high." in told
    shape = {"classifier.weight": torch.tensor([[1.0, 2.0], [torch.nan, torch.nan]]), "classifier.bias": torch.zeros(2)}
    head = build_linear()
    before = head.state_dict()["classifier.weight"].clone()
    InitialHead(state=shape).fill(head, build_targets(np.array([0, 1]), 2), [np.array([0]), np.array([1])])
    after = head.state_dict()["classifier.weight"]
    assert after[:, :, 0].tolist() == [[[1.0, 2.0]] * 3] * 2
    assert torch.equal(after[:, :, 1], before[:, :, 1])


def build_linear() -> Any:
    from embedkit.heads import resolve_head
    from embedkit.heads.base import HeadShape

    found = resolve_head("linear")
    shape = HeadShape(groups=2, members=3, layers=1, dimensions=2, classes=2)
    return found.cls(shape, found.options, [torch.Generator().manual_seed(seed) for seed in range(6)])


def test_the_reports_command_begins_with_it_too(corpus: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Any] = {"mode": "finetune", "encoder": [str(model)], "init_head": "published", "head": None}
    wanted = collect(corpus, map=MAP, **told)
    assert not {run_folder(one) for one in wanted} & {
        run_folder(one) for one in collect(corpus, map={**MAP, "shrill": "low"}, **told)
    }
    assert_repeated(wanted, monkeypatch)


def test_emotion2vec_brings_a_linear_head(tmp_path: Path) -> None:
    from embedkit.training.live.published_head import read_head_start

    start = read_head_start(str(write_emotion2vec(tmp_path / "e2v")), {})
    assert (start.spec, start.layers, start.labels) == ("linear", (12,), EMOTION2VEC_LABELS)
    pooled = start.begin(("a", "b"), {"angry": "a", "sad": "b", "disgusted": "b"}, None).state["classifier.weight"]
    weights = start.state["classifier.weight"]
    torch.testing.assert_close(pooled, torch.stack([weights[0], (weights[1] + weights[6]) / 2]))


def write_ast(folder: Path) -> Path:
    config = transformers.ASTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        max_length=128,
        num_mel_bins=32,
    )
    extractor = transformers.ASTFeatureExtractor(max_length=128, num_mel_bins=32)
    return write_pair(folder, transformers.ASTForAudioClassification(config), extractor)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no label in common": ({}, "--map LABEL=CLASS"),
    "a label that is none": ({"map": {"loud": "low"}}, "loud"),
    "a class that is none": ({"map": {"deep": "middle"}}, "middle"),
    "one class alone": ({"map": {"deep": "low"}}, "at least 2 needed"),
    "another head": ({"map": MAP, "head": ("mlp",)}, "leave out --head or --init-head"),
    "cosines": ({"map": MAP, "loss": ("aam",)}, "choose another loss"),
    "ratings": ({"targets": ("valence",)}, "leave out --targets"),
    "other layers": ({"map": MAP, "layers": "1"}, "leave out --layers or --init-head"),
    "a map alone": ({"map": MAP, "init_head": "random"}, "add --init-head published"),
    "stored embeddings": ({"map": MAP, "mode": "cached"}, "--mode frozen, finetune or lora"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_a_sentence(case: str, corpus: Path, model: Path, tmp_path: Path) -> None:
    options, expected = REFUSED[case]
    with pytest.raises(EmbedkitError, match=expected) as caught:
        begin(corpus, model, tmp_path / "runs", **{"encoder_lr": None} | options)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (write_ast, "own forward pass"),
        (lambda folder: write_conv_checkpoint(folder, "hubert", **SHAPE) or folder, "holds no classifier"),
        (lambda folder: Path("mfcc"), "has no published head"),
    ],
)
def test_encoders_without_such_a_head_are_refused(write: Any, expected: str, corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbedkitError, match=expected):
        begin(corpus, write(tmp_path / "it"), tmp_path / "runs", map=MAP)
