"""Results of stacks as bytes in the safetensors format, for files and for other processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from safetensors.torch import load, save
from torch import Tensor

from embedkit.training.data.features import Standardiser
from embedkit.training.data.targets import Scale
from embedkit.training.stacks.stack import RESULT_ARRAYS, Group, GroupResult, State


def pack(results: Sequence[GroupResult], beside: Mapping[str, Tensor] = MappingProxyType({})) -> bytes:
    """Write everything that results hold, named `<group>/<array>` and `<group>/<member>/<parameter>`; and more."""
    named: dict[str, Tensor] = dict(beside)
    for place, result in enumerate(results):
        for name in RESULT_ARRAYS:
            named[f"{place}/{name}"] = torch.from_numpy(getattr(result, name))
        named[f"{place}/mean"] = result.standardiser.mean.cpu().clone()
        named[f"{place}/scale"] = result.standardiser.scale.cpu().clone()
        named |= result.scale.named(f"{place}/") if result.scale is not None else {}
        for member, state in enumerate(result.states):
            named.update({f"{place}/{member}/{name}": value for name, value in state.items()})
    return save(named)


def unpack(packed: bytes, groups: Sequence[Group]) -> list[GroupResult]:
    """Undo `pack` for the groups the results are of.

    Raises:
        SafetensorError: the bytes are damaged.
        KeyError, ValueError: something is missing, or has another name.
    """
    tensors = load(packed)
    states: dict[tuple[int, int], State] = {}
    for path, value in tensors.items():
        place, name = path.split("/", 1)
        member, _, parameter = name.partition("/")
        if parameter:
            states.setdefault((int(place), int(member)), {})[parameter] = value
    return [
        _take(tensors, place, [states.get((place, member), {}) for member in range(len(group.members))])
        for place, group in enumerate(groups)
    ]


def _take(tensors: Mapping[str, Tensor], place: int, states: list[State]) -> GroupResult:
    return GroupResult(
        **{name: tensors[f"{place}/{name}"].numpy() for name in RESULT_ARRAYS},
        states=states,
        standardiser=Standardiser(mean=tensors[f"{place}/mean"], scale=tensors[f"{place}/scale"]),
        scale=Scale.load(tensors, f"{place}/"),
    )
