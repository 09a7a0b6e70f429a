"""Losses out of users' plain functions and modules: called head by head on the rows that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from types import FunctionType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from embedkit.errors import ConfigError
from embedkit.losses.base import Loss
from embedkit.signatures import derive_options


class FunctionLoss(Loss):
    """A loss (scores, targets) -> scalar, for every head of a stack in turn.

    Scores are `[batch, classes]` and targets `[batch]`, or both `[batch, dimensions]`.
    """

    tasks = ("classes", "dimensions")
    target: ClassVar[Callable[..., Any]]

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.call: Callable[..., Any] = self.target(**asdict(options)) if isinstance(self.target, type) else self.target
        self.label = getattr(self.target, "__name__", "?")
        if isinstance(self.call, nn.Module) and any(True for _ in self.call.parameters()):
            raise ConfigError(
                f"The loss {self.label!r} has parameters of its own, which nothing trains; "
                "expected a loss without, put them into the head."
            )

    def __call__(
        self,
        scores: Tensor,
        targets: Tensor,
        *,
        mask: Tensor | None = None,
        class_weights: Tensor | None = None,
        progress: float = 1.0,
    ) -> Tensor:
        """Return `[...]` from `[..., batch, classes]`: zero for a head whose rows are all masked.

        Raises:
            ConfigError: the loss returns anything but one number.
        """
        batch, classes = scores.shape[-2:]
        rows = scores.reshape(-1, batch, classes).unbind()
        one = (batch, classes) if targets.is_floating_point() else (batch,)
        labels = targets.expand(*scores.shape[:-2], *one).reshape(-1, *one).unbind()
        if mask is None:
            values = [self._value(row, label) for row, label in zip(rows, labels, strict=True)]
        else:
            kept = mask.expand(scores.shape[:-1]).reshape(-1, batch).unbind()
            values = [self._value(row[own], label[own]) for row, label, own in zip(rows, labels, kept, strict=True)]
        return torch.stack(values).view(scores.shape[:-2])

    def probabilities(self, scores: Tensor) -> Tensor:
        """Return what the loss says in a method of this name, else the softmax of `[..., classes]`."""
        own = getattr(self.call, "probabilities", None)
        shares: Tensor = own(scores) if own is not None else scores.softmax(-1)
        return shares

    def _value(self, scores: Tensor, targets: Tensor) -> Tensor:
        if not len(scores):
            return scores.sum()
        value = self.call(scores, targets)
        if not isinstance(value, Tensor) or value.dim() > 0:
            found = f"a tensor {list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ConfigError(f"The loss {self.label!r} returned {found}, expected a tensor that holds one number.")
        return value


@lru_cache
def plain_loss(target: Any, name: str) -> type[FunctionLoss]:
    """Make a loss class of a function, or of a class whose instances are called.

    Arguments with plain defaults are the settings of a class; a function has none.

    Raises:
        ConfigError: neither of these, or a class with an argument that has no default.
    """
    is_class = isinstance(target, type) and any("__call__" in vars(base) for base in target.__mro__)
    if not (is_class or isinstance(target, FunctionType)):
        raise ConfigError(
            f"The loss {name!r} is {target!r}, expected a subclass of embedkit.losses.base.Loss, "
            "or a function or a torch module from scores and targets to one number."
        )
    owner = f"The loss {name!r}"
    options = derive_options(target if is_class else lambda: None, given=(), owner=owner)
    held = target if is_class else staticmethod(target)
    return type(f"Plain{target.__name__}", (FunctionLoss,), {"target": held, "Options": options})
