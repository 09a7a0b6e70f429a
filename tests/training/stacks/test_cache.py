"""The cache of results: a training that was stopped goes on with the stacks it has finished, and with no others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.store import Store
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import define_task
from embedkit.training.stacks import schedule
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.schedule import run_groups
from embedkit.training.stacks.stack import Group, GroupResult, Member, TrainingConfig
from tests.training.stores import write_synthetic_store

CONFIG = TrainingConfig(head=resolve_head("linear"), classes=3, epochs=2, batch_size=8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_synthetic_store(tmp_path / "tiny.h5", speakers=4, each=9)


def groups() -> list[Group]:
    return [
        Group(
            train=np.arange(start, 20 + 8 * start),
            validate=np.arange(30, 36),
            seed=start,
            members=tuple(
                Member(loss=build_loss(loss), seed=start, learning_rate=1e-2, epochs=2) for loss in ("ce", "focal")
            ),
        )
        for start in range(2)
    ]


def train(
    store: Store, cache: ResultCache | None, monkeypatch: pytest.MonkeyPatch, config: TrainingConfig = CONFIG
) -> tuple[list[GroupResult], int]:
    """Train two stacks in this process; return the results and how many stacks were trained."""
    data = define_task(StoreSource(store))
    trained: list[int] = []
    train_stack = schedule.train_stack

    def counting(*arguments: object, **keywords: object) -> list[GroupResult]:
        trained.append(1)
        return train_stack(*arguments, **keywords)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(schedule, "train_stack", counting)
        results = run_groups(
            StoreSource(store).features(data.rows, "utterance"),
            data.targets,
            groups(),
            config,
            keep_best=False,
            threads=1,
            cache=cache,
        )
    return results, len(trained)


def assert_equal(first: list[GroupResult], second: list[GroupResult]) -> None:
    for one, other in zip(first, second, strict=True):
        for name in ("losses", "dev_scores", "predictions"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert getattr(one, name).dtype == getattr(other, name).dtype
        assert one.standardiser.mean.equal(other.standardiser.mean)
        assert one.standardiser.scale.equal(other.standardiser.scale)
        for own, found in zip(one.states, other.states, strict=True):
            assert own.keys() == found.keys()
            assert all(own[name].equal(found[name]) for name in own)


def test_finished_stacks_are_not_trained_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ResultCache(tmp_path / "kept" / "x", {"task": 1})
    first, trained = train(store, cache, monkeypatch)
    assert trained == 2
    again, trained = train(store, cache, monkeypatch)
    assert trained == 0
    assert_equal(first, again)
    next(cache.folder.iterdir()).unlink()
    again, trained = train(store, cache, monkeypatch)
    assert trained == 1
    assert_equal(first, again)
    cache.clear()
    assert not cache.folder.parent.exists()


def test_other_data_or_settings_are_other_stacks(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(store, ResultCache(tmp_path / "x", {"task": 1}), monkeypatch)
    assert train(store, ResultCache(tmp_path / "x", {"task": 2}), monkeypatch)[1] == 2
    other = replace(CONFIG, batch_size=9)
    assert train(store, ResultCache(tmp_path / "x", {"task": 1}), monkeypatch, other)[1] > 0


@pytest.mark.parametrize("content", [b"", b"not safetensors", None])
def test_a_damaged_file_is_a_stack_not_finished(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    cache = ResultCache(tmp_path / "x", {})
    first, _ = train(store, cache, monkeypatch)
    for path in cache.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    again, trained = train(store, cache, monkeypatch)
    assert trained == 2
    assert_equal(first, again)


def test_a_full_disk_only_costs_the_cache(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    results, _ = train(store, ResultCache(tmp_path / "file" / "x", {}), monkeypatch)
    assert_equal(results, train(store, None, monkeypatch)[0])
