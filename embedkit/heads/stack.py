"""Take heads out of a stack, put saved heads into one, and make smaller stacks of those that go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor

from embedkit.errors import ConfigError
from embedkit.heads.base import Head
from embedkit.heads.layers import StackedClassifier


def slice_state(head: Head, group: int, member: int) -> dict[str, Tensor]:
    """Return a copy of one head's parameters and buffers, without the two leading dimensions, on the CPU."""
    state, lacking = head.state_dict(), _lacking(head, group, member)
    return {
        name: values[group, member].detach().to("cpu", copy=True).contiguous()
        for name, values in state.items()
        if name not in lacking
    }


def _lacking(head: Head, group: int, member: int) -> set[str]:
    """Name the parameters of a stack that one of its heads does not have: the biases of cosine heads."""
    parts = [(name, part) for name, part in head.named_modules() if isinstance(part, StackedClassifier)]
    return {f"{name}.bias" for name, part in parts if part.lacks_bias(group * head.shape.members + member)}


def load_states(head: Head, states: Sequence[Sequence[Mapping[str, Tensor]]]) -> None:
    """Fill a stack with the states of single heads, `states[group][member]` as `slice_state` gives them.

    Raises:
        ConfigError: too few or too many states, or tensors that are missing, unknown or of another size.
    """
    states = head.prepare(states)
    own = head.state_dict()
    for name, target in own.items():
        groups, members = target.shape[:2]
        if len(states) != groups or any(len(row) != members for row in states):
            found = " + ".join(str(len(row)) for row in states)
            raise ConfigError(f"Found states of {found} heads, expected {groups} groups of {members}.")
        for group, row in enumerate(states):
            for member, state in enumerate(row):
                if name not in _lacking(head, group, member):
                    _check(name, target, state, own)
    with torch.no_grad():
        for name, target in own.items():
            nothing = torch.zeros(target.shape[2:])
            target.copy_(torch.stack([torch.stack([state.get(name, nothing) for state in row]) for row in states]))


def _check(name: str, target: Tensor, state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    unknown = sorted(set(state) - set(own))
    if unknown:
        raise ConfigError(f"The head's weights hold {unknown[0]!r}, expected only {', '.join(own)}.")
    if name not in state:
        raise ConfigError(f"The head's weights lack {name!r}, expected {', '.join(own)}.")
    if state[name].shape != target.shape[2:]:
        found, expected = list(state[name].shape), list(target.shape[2:])
        raise ConfigError(f"The head's weights hold {name!r} of size {found}, expected {expected}.")


def restack(head: Head, keep: Sequence[Sequence[tuple[int, int]]]) -> Head:
    """Return a new stack of some of a stack's heads, `keep[group][member]` naming each by (group, member).

    Their generators go on where they were, so that the new stack continues exactly as the old one would have.

    Raises:
        ConfigError: groups of unequal size, or none.
    """
    if not keep or not keep[0] or len({len(row) for row in keep}) > 1:
        raise ConfigError(f"Found groups of {[len(row) for row in keep]} heads, expected groups of one size, above 0.")
    kinds = tuple(tuple(head.shape.kinds[group][member] for group, member in row) for row in keep if head.shape.kinds)
    shape = replace(head.shape, groups=len(keep), members=len(keep[0]), kinds=kinds)
    kept = [head.generators[group * head.shape.members + member] for row in keep for group, member in row]
    smaller = type(head)(shape, head.options, [Generator() for _ in kept])
    example = next(head.parameters())
    smaller.to(example.device, example.dtype).train(head.training)
    load_states(smaller, [[slice_state(head, group, member) for group, member in row] for row in keep])
    smaller.generators, smaller.compiled = kept, head.compiled
    return smaller
