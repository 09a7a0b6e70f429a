"""Heads out of users' plain modules: trained one by one, in the same stacks, with the same result as alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn
from torch.func import functional_call

from embedkit.errors import ConfigError
from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.signatures import accepted_names, derive_options

REQUIRED = ("dimensions", "classes")
GIVEN = (*REQUIRED, "layers")

_RANDOM = threading.Lock()
"""Plain modules draw from torch's global generator, which the threads of a process share."""

_MADE: dict[type[nn.Module], type[ModuleHead]] = {}


class ModuleHead(Head):
    """A stack of plain modules, each called on its own.

    The module's parameters and buffers are kept in its own structure as `[groups, members, ...]`; whatever it draws at
    random comes from its head's generator.
    """

    level = "utterance"
    module_class: ClassVar[type[nn.Module]]

    def __init__(self, shape: HeadShape, options: Any, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        if shape.classifier != "affine":
            raise ConfigError(
                f"The head {self.module_class.__name__!r} gives logits, but the loss needs cosines; choose another "
                "loss, or write the head as a subclass of embedkit.heads.base.Head with a StackedClassifier."
            )
        sizes = {"dimensions": shape.dimensions, "classes": shape.classes, "layers": shape.layers}
        accepted = accepted_names(self.module_class)
        arguments = {name: size for name, size in sizes.items() if name in accepted} | asdict(options)
        modules = []
        for generator in self.generators:
            with _seeded(generator):
                modules.append(self.module_class(**arguments))
        self.module = modules[0]
        _stack(self.module, modules, shape)

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`, head by head.

        Raises:
            ConfigError: the module returns anything but `[batch, classes]`.
        """
        shape = self.shape
        tensors = {name: values.flatten(0, 1).unbind() for name, values in _tensors(self.module)}
        scores = []
        for place, generator in enumerate(self.generators):
            own = {name: values[place] for name, values in tensors.items()}
            values = inputs.values[place // shape.members].contiguous()
            if self.training:
                with _seeded(generator, values.device):
                    found = functional_call(self.module, own, (values,), tie_weights=False)
            else:
                found = functional_call(self.module, own, (values,), tie_weights=False)
            self._check(found, len(values))
            scores.append(found)
        return torch.stack(scores).view(shape.groups, shape.members, *scores[0].shape)

    def _check(self, scores: Any, batch: int) -> None:
        expected = (batch, self.shape.classes)
        if not isinstance(scores, Tensor) or tuple(scores.shape) != expected:
            found = f"a tensor {list(scores.shape)}" if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
            raise ConfigError(
                f"The head {self.module_class.__name__!r} returned {found}, expected logits {list(expected)}: "
                "one row for each utterance, one column for each class."
            )


def plain_head(module_class: type[nn.Module]) -> type[ModuleHead]:
    """Make a head class of a module class `__init__(self, dimensions, classes, layers=1, ...)`.

    Its `forward` gets `[batch, layers, dimensions]` and returns logits `[batch, classes]`; further arguments with plain
    defaults are the head's settings.

    Raises:
        ConfigError: a class that cannot be made so.
    """
    if module_class in _MADE:
        return _MADE[module_class]
    name = module_class.__name__
    accepted = accepted_names(module_class)
    missing = [argument for argument in REQUIRED if argument not in accepted]
    if missing:
        raise ConfigError(
            f"The head {name!r} takes no argument {missing[0]!r}, "
            "expected a class with __init__(self, dimensions, classes, layers=1)."
        )
    options = derive_options(module_class, given=GIVEN, owner=f"The head {name!r}")
    _MADE[module_class] = type(f"Plain{name}", (ModuleHead,), {"module_class": module_class, "Options": options})
    return _MADE[module_class]


def _stack(target: nn.Module, modules: Sequence[nn.Module], shape: HeadShape) -> None:
    """Replace a module's tensors by those of all modules, `[groups, members, ...]`; shared ones stay shared."""
    stacked: dict[int, Tensor] = {}
    others = [dict(_tensors(module)) for module in modules]
    for path, values in list(_tensors(target)):
        if id(values) not in stacked:
            joined = torch.stack([tensors[path].detach() for tensors in others])
            joined = joined.view(shape.groups, shape.members, *values.shape)
            is_parameter = isinstance(values, nn.Parameter)
            stacked[id(values)] = nn.Parameter(joined, values.requires_grad) if is_parameter else joined
        owner, _, name = path.rpartition(".")
        setattr(target.get_submodule(owner), name, stacked[id(values)])


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of every part once, with all names of those that several parts share."""
    for path, part in module.named_modules():
        for name, values in (*part._parameters.items(), *part._buffers.items()):
            if values is not None:
                yield f"{path}.{name}" if path else name, values


@contextmanager
def _seeded(generator: Generator, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's global generator from a head's own for a while, and put it back."""
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    devices = [device] if device is not None and device.type == "cuda" else []
    with _RANDOM, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield
