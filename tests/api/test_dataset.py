"""EmbeddingDataset hands out what the store holds, in this process and in workers."""

from __future__ import annotations

import copy
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import embedkit
from embedkit.api.dataset import EmbeddingDataset
from embedkit.errors import ConfigError, EmbedkitError, FitError, StoreError
from tests.cases import mark_cases
from tests.training.stores import write_synthetic_store


def test_utterances_are_the_stores_means(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    for layer in ("average", "all", 0, 1):
        dataset = embedkit.EmbeddingDataset(store.path, layer=layer)
        assert len(dataset) == len(store)
        np.testing.assert_array_equal(torch.stack([values for values, _ in dataset]).numpy(), store.mean(layer=layer))
    assert [dataset.classes[target] for _, target in dataset] == store.labels.tolist()
    shown = f"<EmbeddingDataset of {store.path}: {len(store)} utterances, {len(dataset.classes)} classes>"
    assert repr(dataset) == shown


def test_the_task_can_be_chosen(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    dataset = EmbeddingDataset(
        store, layer=1, classes=["sadness", "anger"], merge={"happiness": "anger"}, where=["speaker!=s00"]
    )
    expected = store.speakers != "s00"
    assert dataset.classes == ("sadness", "anger")
    assert dataset.task.ids.tolist() == store.ids[expected].tolist()
    assert dataset.targets.tolist() == [0 if label == "sadness" else 1 for label in store.labels[expected]]
    np.testing.assert_array_equal(dataset[-1][0].numpy(), store.mean(layer=1)[expected][-1])


@pytest.mark.parametrize("layer", ["average", "all", 1])
def test_frames_are_padded_behind_their_ends(tmp_path: Path, layer: Any) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", framed=True)
    dataset = EmbeddingDataset(store, "frame", layer=layer)
    items = [dataset[place] for place in range(7)]
    values, lengths, targets = EmbeddingDataset.collate(items)
    assert values.shape[:2] == (7, int(lengths.max()))
    assert targets.tolist() == dataset.targets[:7].tolist()
    for place, (row, length) in enumerate(zip(values, lengths, strict=True)):
        frames = store.frames(place)
        expected = {"average": frames.mean(1), "all": frames}.get(layer, frames[:, 1])
        np.testing.assert_allclose(row[:length].numpy(), expected, rtol=1e-6)
        assert not row[length:].any()


@pytest.mark.parametrize(
    ("level", "method"),
    mark_cases(product(["utterance", "frame"], ["fork", "spawn"]), lambda *case: case != ("utterance", "spawn")),
)
def test_workers_read_the_same(tmp_path: Path, method: str, level: Any) -> None:
    write_synthetic_store(tmp_path / "tiny.h5", framed=True)
    dataset = EmbeddingDataset(tmp_path / "tiny.h5", level)
    dataset[0]
    options: dict[str, Any] = {"batch_size": 16, "collate_fn": dataset.collate if level == "frame" else None}
    here = list(DataLoader(dataset, **options))
    there = list(DataLoader(dataset, **options, num_workers=2, multiprocessing_context=method))
    assert len(here) == len(there) == 4
    for one, other in zip(here, there, strict=True):
        for expected, found in zip(one, other, strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_a_store_that_was_replaced_is_noticed(tmp_path: Path) -> None:
    dataset = EmbeddingDataset(write_synthetic_store(tmp_path / "tiny.h5"))
    write_synthetic_store(tmp_path / "tiny.h5", seed=1)
    with pytest.raises(StoreError, match="replaced"):
        copy.deepcopy(dataset)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"level": "frame"}, FitError, "--level both"),
        ({"level": "frames"}, ConfigError, "expected 'utterance' or 'frame'"),
        ({"layer": 7}, StoreError, "no layer 7"),
        ({"classes": ["angr"]}, FitError, "Did you mean 'anger'"),
    ],
)
def test_what_cannot_be_had_is_told(
    tmp_path: Path, options: dict[str, Any], error: type[EmbedkitError], sentence: str
) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    with pytest.raises(error, match=sentence):
        EmbeddingDataset(store, **options)
