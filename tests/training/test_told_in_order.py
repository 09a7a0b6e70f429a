"""One line stays of each experiment, in the order of the experiments, whichever is finished first."""

from types import SimpleNamespace
from typing import Any

import pytest

from embedkit.training.train import tell_in_order


class Named(SimpleNamespace):
    """What is told of an experiment."""

    def __str__(self) -> str:
        return str(self.name)


NAMES = ["one", "two", "three", "four"]


def announce_all(order: list[str], told: list[str], *, known: str = "", fails: bool = False) -> None:
    experiments: Any = [Named(name=name, data=SimpleNamespace(task=SimpleNamespace(score_name="UA"))) for name in NAMES]
    edges = {"two": ["search beyond it."]}
    with tell_in_order(experiments, told.append) as announce:
        for name in [*([known] if known else []), *order]:
            record = SimpleNamespace(metrics={"ua": 0.5, "search": {"edges": edges.get(name, [])}})
            announce(experiments[NAMES.index(name)], record, "fitted before" if name == known else "")
        if fails:
            raise RuntimeError


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1], ["three", "one", "four", "two"]])
def test_lines_stand_in_order_and_edges_after_them(order: list[str]) -> None:
    told: list[str] = []
    announce_all(order, told)
    assert told == [*(f"{name}: UAR 50.0 %" for name in NAMES), "two: search beyond it."]


def test_what_is_known_keeps_its_place() -> None:
    told: list[str] = []
    announce_all(["one", "two", "four"], told, known="three")
    assert told[2:] == ["three: UAR 50.0 %, fitted before", "four: UAR 50.0 %", "two: search beyond it."]


def test_where_training_ends_early_nothing_is_lost() -> None:
    told: list[str] = []
    with pytest.raises(RuntimeError):
        announce_all(["three", "one"], told, fails=True)
    assert told == ["one: UAR 50.0 %", "three: UAR 50.0 %"]
