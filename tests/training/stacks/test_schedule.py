"""Which groups of heads train together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.training.stacks.batches import count_steps
from embedkit.training.stacks.schedule import MOST_HEADS, plan_stacks
from embedkit.training.stacks.stack import Group, Member, TrainingConfig

CONFIG = TrainingConfig(head=resolve_head("linear"), classes=4)
LOSS = build_loss("ce")


def group_of(utterances: int, members: int) -> Group:
    member = Member(loss=LOSS, seed=0, learning_rate=1e-3, epochs=2)
    return Group(train=np.arange(utterances), validate=np.zeros(0, dtype=np.int64), seed=0, members=(member,) * members)


@given(
    st.lists(st.tuples(st.sampled_from([90, 96, 200]), st.sampled_from([1, 15, 150, 300])), min_size=1, max_size=40),
    st.integers(1, 5),
)
def test_every_group_stands_in_one_stack_of_its_kind_that_is_no_larger_than_pays(
    kinds: list[tuple[int, int]], threads: int
) -> None:
    groups = [group_of(*kind) for kind in kinds]
    stacks = plan_stacks(groups, CONFIG, "utterance", threads)
    assert sorted(place for stack in stacks for place in stack) == list(range(len(groups)))
    for stack in stacks:
        own = [groups[place] for place in stack]
        assert len({(count_steps(len(group.train), CONFIG.batch_size), len(group.members)) for group in own}) == 1
        assert len(own) == 1 or sum(len(group.members) for group in own) <= MOST_HEADS


def test_every_thread_gets_as_many_heads() -> None:
    groups = [group_of(100, 15)] * 18 + [group_of(140, 15)] * 12
    stacks = plan_stacks(groups, CONFIG, "utterance", 2)
    assert [15 * len(stack) for stack in stacks] == [135, 135, 90, 90]
