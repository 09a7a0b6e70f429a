"""Plans: every item once, similar lengths together, stable names of shards."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import ExtractionError
from embedkit.extraction.plan import ExtractionPlan, plan_batches
from embedkit.extraction.segments import AudioSegment

PLAN = ExtractionPlan(
    fingerprint="f",
    batch_seconds=20,
    shard_seconds=50,
    threads=1,
    device="cpu",
    sampling_rate=100,
    versions={"torch": "2"},
)


def items_of(lengths: list[int]) -> list[AudioSegment]:
    return [
        AudioSegment(f"u{index}", f"u{index}.wav", None, None, length, 9, 9) for index, length in enumerate(lengths)
    ]


@given(st.lists(st.integers(1, 5000), max_size=60))
def test_every_item_is_planned_once_within_the_limits(lengths: list[int]) -> None:
    items = items_of(lengths)
    plan = PLAN.revise(items)
    assert sorted(plan.segments) == sorted(items)
    for batch in (batch for shard in plan.shards for batch in shard):
        sizes = [item.samples for item in batch]
        assert sizes == sorted(sizes, reverse=True)
        assert len(batch) == 1 or len(batch) * sizes[0] <= PLAN.batch_seconds * 100
        assert sizes[-1] >= sizes[0] / 2
    for shard in plan.shards[:-1]:
        assert sum(item.samples for batch in shard for item in batch) >= PLAN.shard_seconds * 100
        assert sum(item.samples for batch in shard[:-1] for item in batch) < PLAN.shard_seconds * 100


def test_padding_stays_under_three_percent_on_a_usual_corpus() -> None:
    lengths = np.random.default_rng(0).lognormal(np.log(350), 0.6, 500).clip(60, 3400).astype(int).tolist()
    batches = list(plan_batches(items_of(lengths), 16.0 * 100))
    computed = sum(len(batch) * batch[0].samples for batch in batches)
    assert 1 - sum(lengths) / computed < 0.03


def test_the_plan_does_not_depend_on_the_order_of_the_items() -> None:
    items = items_of([5, 9, 9, 3, 9])
    assert PLAN.revise(items) == PLAN.revise(items[::-1])


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = PLAN.revise([*items_of([500, 4000, 30]), AudioSegment("é [1]\n", "a b.wav", 0.1, 1 / 3, 77, 1, 2)])
    plan.save(tmp_path / "plan.json")
    assert ExtractionPlan.load(tmp_path / "plan.json") == plan
    assert ExtractionPlan.load(tmp_path / "plan.json").keys == plan.keys


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2}', '{"version": 1}'])
def test_a_file_that_is_no_plan_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ExtractionError, match="cannot be read"):
        ExtractionPlan.load(tmp_path / "plan.json")


def test_names_of_shards_change_with_everything_that_matters() -> None:
    plan = PLAN.revise(items_of([500, 400]))
    ((first, *rest),) = plan.shards[0]
    others = [
        replace(plan, fingerprint="g"),
        replace(plan, threads=2),
        replace(plan, shards=(((first._replace(mtime=10), *rest),),)),
    ]
    assert len({one.keys for one in (plan, *others)}) == 4


def test_a_revised_plan_keeps_finished_shards_and_plans_the_rest() -> None:
    items = items_of([3000, 2900, 2800, 2700, 2600, 2500])
    plan = PLAN.revise(items)
    finished = {plan.keys[0]}
    changed = [items[0]._replace(size=10), *items[1:5], AudioSegment("new", "new.wav", None, None, 100, 1, 1)]
    revised = plan.revise(changed, finished)
    assert revised.keys[0] in finished
    rest = [item for shard in revised.shards[1:] for batch in shard for item in batch]
    assert set(rest) == set(changed) - set(plan.shards[0][0]) - set(plan.shards[0][1])


def test_a_finished_shard_that_nobody_wants_any_more_is_dropped() -> None:
    plan = PLAN.revise(items_of([3000, 2900, 2800, 2700, 2600, 2500]))
    wanted = [item for shard in plan.shards[1:] for batch in shard for item in batch]
    assert plan.keys[0] not in plan.revise(wanted, set(plan.keys)).keys
