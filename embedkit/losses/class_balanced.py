"""Class-balanced cross-entropy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from embedkit.errors import ConfigError
from embedkit.losses.cross_entropy import CrossEntropy


class ClassBalanced(CrossEntropy):
    """Cross-entropy weighted by the inverse effective number of utterances of each class (Cui et al. 2019).

    A class of n utterances on the training set counts as (1 - beta^n) / (1 - beta) of them: between one for all
    (beta = 0) and n (beta towards 1).
    """

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the loss.

        Attributes:
            beta: How much further utterances of a class still add, from 0 to below 1.
        """

        beta: float = 0.999

        def __post_init__(self) -> None:
            if not 0 <= self.beta < 1:
                raise ConfigError(f"The loss 'class-balanced': beta is {self.beta}, expected 0 <= beta < 1.")

    def weigh_classes(self, counts: Tensor) -> Tensor:
        """Return weights `[..., classes]` with mean 1 over the classes present; an absent class weighs as one row."""
        rate = math.log(self.options.beta) if self.options.beta else -math.inf
        numbers = -torch.expm1(rate * counts.double().clamp_min(1)) / (1 - self.options.beta)
        present = (counts > 0).double()
        mean = (present / numbers).sum(-1, keepdim=True) / present.sum(-1, keepdim=True).clamp_min(1)
        weights: Tensor = 1 / (numbers * mean)
        return weights
