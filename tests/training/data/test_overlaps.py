"""Stretches of one file that are tested and trained on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from embedkit.errors import FitError
from embedkit.training.data.folds import Fold
from embedkit.training.data.recordings import Stretches, find_stretches, require_apart

INF = float("inf")


def fold(train: list[int], test: list[int]) -> Fold:
    return Fold(name="x", train=np.array(train), test=np.array(test), validations=(), refit=True)


@pytest.mark.parametrize(
    ("trained", "tested", "expected"),
    [
        ([(0, 2)], (1, 3), True),
        ([(0, 2)], (1.1, 3.1), False),
        ([(0, 2)], (2, 3), False),
        ([(0, 2), (2, 3)], (1.5, 2.5), True),
        ([(0, 1.2), (1.9, 3)], (1, 2), False),
        ([(0, 1.3), (1.8, 3)], (1, 2), True),
        ([(1.8, 3), (0, 1.3), (0.2, 0.4)], (1, 2), True),
        ([(0, 10)], (4, 5), True),
        ([(4, 5)], (0, 10), False),
        ([(4, INF)], (7, 9), True),
        ([(4, INF)], (2, 3), False),
        ([(4, 5)], (0, INF), True),
        ([(4, 5)], (6, INF), False),
        ([(0, INF)], (3, INF), True),
    ],
)
def test_half_of_a_stretch(trained: list[tuple[float, float]], tested: tuple[float, float], expected: bool) -> None:
    starts, ends = np.array([*trained, tested], dtype=float).T
    count = len(trained)
    found = Stretches(np.zeros(count + 1, np.int64), starts, ends).find_trained(fold([*range(count)], [count]))
    assert found.tolist() == [count] * expected


def test_covered_seconds_are_those_that_are_counted() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        starts = np.round(generator.uniform(0, 20, 12), 1)
        ends = starts + np.round(generator.uniform(0.1, 4, 12), 1)
        found = Stretches(np.zeros(12, np.int64), starts, ends).find_trained(fold([*range(6)], [*range(6, 12)]))
        ticks = np.arange(0, 30, 0.1) + 0.05
        heard = ((ticks[:, None] > starts[:6]) & (ticks[:, None] < ends[:6])).any(1)
        own = (ticks[:, None] > starts[6:]) & (ticks[:, None] < ends[6:])
        shares = (own & heard[:, None]).sum(0) / own.sum(0)
        clear = np.abs(shares - 0.5) > 0.01
        assert (np.isin(np.arange(6, 12), found) == (shares > 0.5))[clear].all()


class Files(SimpleNamespace):
    """Three utterances of a corpus."""

    def __len__(self) -> int:
        return 3

    @property
    def columns(self) -> list[str]:
        return list(self.times)

    def audio_files(self) -> Any:
        return np.array(self.paths)

    def column(self, name: str) -> Any:
        return np.array(self.times[name])


def test_files_of_two_corpora_are_the_same_by_their_place() -> None:
    unknown = [np.nan] * 3
    first: Any = Files(paths=["/a.wav", "/b.wav", ""], times={"start": unknown, "end": unknown, "duration": [2.0] * 3})
    other: Any = Files(paths=["/b.wav", "/c.wav", ""], times={"start": [1.0, 0.0, 0.0], "end": unknown})
    parts: Any = [SimpleNamespace(rows=np.arange(3))] * 2
    found = find_stretches([first, other], parts)
    assert (found.files >= 0).tolist() == [False, True, False, True, False, False]
    assert (found.starts[3], found.ends[1], found.ends[3]) == (1.0, 2.0, INF)
    data: Any = SimpleNamespace(ids=np.array(["a", "b", "c", "d", "e", "f"]))
    with pytest.raises(FitError, match=r"1 of 3 test utterances of the fold 'x' lie by half or more .*\(d\); cut them"):
        require_apart(data, found, fold([0, 1, 2], [3, 4, 5]))
    require_apart(data, found, fold([0, 2], [3, 4, 5]))
