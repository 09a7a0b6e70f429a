"""Each corpus is standardised by what is trained on of it, and marked where it is by what is tested."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import embedkit
from embedkit.errors import FitError, RunError
from embedkit.export.predictor import open_predictor
from embedkit.store import Store
from embedkit.training.data.features import Features, FrameFeatures, Standardiser, UtteranceFeatures
from embedkit.training.data.joined_features import ByCorpus
from embedkit.training.experiment_record import run_folder, run_variant
from tests.training.data.test_pooled import QUICK, collect
from tests.training.stores import write_synthetic_store

OWNERS = np.array(["a"] * 6 + ["b"] * 4)


def utterances(moved: float = 0.0) -> UtteranceFeatures:
    """Draw ten utterances; those of the second corpus may lie elsewhere."""
    values = np.random.default_rng(0).normal(size=(10, 2, 3)).astype(np.float32)
    values[6:] = values[6:] * (1 + moved) + moved
    return UtteranceFeatures(values)


def frames() -> FrameFeatures:
    generator = np.random.default_rng(1)
    lengths = generator.integers(2, 5, 10)
    ends = np.cumsum(lengths)
    values = generator.normal(size=(int(ends[-1]), 2, 3)).astype(np.float32)
    parts = [values[end - length : end] for end, length in zip(ends, lengths, strict=True)]
    means, deviations = (np.stack([getattr(part, name)(0) for part in parts]) for name in ("mean", "std"))
    return FrameFeatures(values, ends - lengths, lengths, means, deviations)


def gather(features: Features, train: Any, index: Any) -> Any:
    own = features.moments(np.array(train))
    return features.gather(np.array([index]), Standardiser.stack([own], torch.device("cpu")))


@pytest.mark.parametrize("build", [utterances, frames])
def test_each_corpus_is_standardised_as_if_it_were_alone(build: Any) -> None:
    train = [0, 1, 2, 3, 6, 7, 8]
    both = gather(ByCorpus(build(), OWNERS, ()), train, [1, 4, 7, 9])
    first, second = gather(build(), train[:4], [1, 4]), gather(build(), train[4:], [7, 9])
    for place, (own, at) in enumerate([(first, 0), (first, 1), (second, 0), (second, 1)]):
        length = own.values.shape[2] if own.lengths is None else int(own.lengths[0, at])
        wanted = own.values[0, at] if own.lengths is None else own.values[0, at, :length]
        got = both.values[0, place] if own.lengths is None else both.values[0, place, :length]
        torch.testing.assert_close(got, wanted)
        if both.lengths is not None:
            assert both.lengths[0, place] == length
            assert not both.values[0, place, length:].any()


def test_where_a_corpus_lies_does_not_matter_then() -> None:
    train = [0, 1, 2, 6, 7]
    near, far = (gather(ByCorpus(utterances(by), OWNERS, ()), train, range(10)).values for by in (0.0, 5.0))
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(gather(utterances(), train, [9]).values, gather(utterances(5.0), train, [9]).values)


def test_only_what_is_tested_alone_is_standardised_by_itself() -> None:
    train, index = [0, 1, 2], [7, 9]
    alone = gather(ByCorpus(utterances(), OWNERS, {"b"}), train, index).values
    torch.testing.assert_close(alone, gather(utterances(), [6, 7, 8, 9], index).values)
    shared = gather(ByCorpus(utterances(), OWNERS, ()), train, index).values
    torch.testing.assert_close(shared, gather(utterances(), train, index).values)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    folder = tmp_path_factory.mktemp("stores")
    return [
        write_synthetic_store(folder / f"{name}.h5", corpus=name, seed=place, framed=True)
        for place, name in enumerate(("one", "two", "three"))
    ]


@pytest.mark.parametrize(
    ("options", "untrained"),
    [
        ({"folds": "speaker"}, set()),
        ({"folds": "corpus"}, {"one", "two"}),
        ({"test_on": "three"}, {"three"}),
        ({"test_on": "three", "pool": False}, {"three"}),
    ],
)
def test_numbers_are_transductive_where_a_tested_corpus_is_not_trained_on(
    stores: list[Store], options: dict[str, Any], untrained: set[str]
) -> None:
    given = {name: stores[2] if name == "test_on" else value for name, value in options.items()}
    own = stores[: 2 if options.get("pool", True) else 1]
    experiment = collect(own, standardise_by="corpus", **given)
    assert experiment.data.untrained == untrained
    assert run_variant(experiment).get("transductive", False) == bool(untrained)
    assert ("TRANSDUCTIVE" in str(experiment)) == bool(untrained)
    assert run_folder(experiment) != run_folder(collect(own, **given))


@pytest.mark.parametrize("head", ["linear", "attentive", "lda"])
def test_runs_say_how_they_were_standardised(stores: list[Store], head: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {**QUICK, "head": head, "epochs": 1, "threads": 1, "runs": tmp_path / "runs"}
    if head == "linear":
        settings["layers"] = "each"
    (record, *_) = embedkit.fit(stores[0], test_on=stores[2], standardise_by="corpus", **settings)
    table = " ".join(str(embedkit.table([record])).split())
    assert "tested on three, TRANSDUCTIVE" in table
    assert "three by all of its own utterances where it is tested alone" in table
    assert "TRANSDUCTIVE: a corpus that is tested without being trained on" in table
    with pytest.raises(RunError, match="standardises each corpus by itself"):
        open_predictor(record)


def test_one_corpus_has_nothing_to_be_standardised_by(stores: list[Store]) -> None:
    with pytest.raises(FitError, match="one corpus to standardise by, one"):
        collect(stores[:1], pool=False, standardise_by="corpus")
    with pytest.raises(FitError, match="beside --noise-snr"):
        collect(stores[:1], pool=False, standardise_by="corpus", noise_snr=(10.0,), test_on=stores[1])
