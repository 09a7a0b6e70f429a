"""Cross-entropy with the shares of annotators: against a naive computation, and where all are of one mind."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.losses import build_loss
from embedkit.training.stacks.mixed_loss import MixedLoss


def draw(rows: int, classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scores and shares `[rows, classes]`, and weights of classes."""
    generator = torch.Generator().manual_seed(seed)
    votes = torch.randint(0, 4, (rows, classes), generator=generator).double()
    votes[:, seed % classes] += 1
    weights = torch.rand(classes, generator=generator, dtype=torch.float64) + 0.1
    scores = 3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)
    return scores, votes / votes.sum(1, keepdim=True), weights


@settings(max_examples=15, deadline=None)
@given(rows=st.integers(1, 9), classes=st.integers(2, 6), seed=st.integers(0, 10**6), weighted=st.booleans())
def test_equals_the_naive_computation(rows: int, classes: int, seed: int, weighted: bool) -> None:
    scores, shares, weights = draw(rows, classes, seed)
    used = weights.numpy() if weighted else np.ones(classes)
    total = of = 0.0
    for z, p in zip(scores.numpy(), shares.numpy(), strict=True):
        for k in range(classes):
            total -= used[k] * p[k] * math.log(math.exp(z[k]) / sum(math.exp(one) for one in z))
            of += used[k] * p[k]
    found = build_loss("soft-ce")(scores, shares, class_weights=weights if weighted else None)
    assert found.item() == pytest.approx(total / of, rel=1e-9)
    if not weighted:
        torch.testing.assert_close(found, torch.nn.functional.cross_entropy(scores, shares))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)])
def test_annotators_of_one_mind_are_a_label(weights: torch.Tensor | None) -> None:
    scores, targets = draw(7, 3, 0)[0], torch.arange(7) % 3
    mask = torch.tensor([True, False, True, True, False, True, True])
    shares = torch.eye(3, dtype=torch.float64)[targets]
    shares[1] = torch.nan
    found = build_loss("soft-ce")(scores, shares, mask=mask, class_weights=weights)
    torch.testing.assert_close(found, build_loss("ce")(scores, targets, mask=mask, class_weights=weights))


def test_it_is_finite_where_no_row_counts() -> None:
    scores, shares, _ = draw(3, 3, 0)
    scores.requires_grad_()
    found = build_loss("soft-ce")(scores, shares, mask=torch.zeros(3, dtype=torch.bool))
    found.backward()
    assert found.item() == 0
    assert scores.grad is not None
    assert not scores.grad.any()


def test_a_mixed_loss_gives_each_its_part_of_the_targets() -> None:
    losses = [[build_loss(name) for name in ("ce", "soft-ce", "aam")]] * 2
    scores = torch.randn(2, 3, 8, 4, dtype=torch.float64).tanh()
    labels, shares = torch.randint(4, (2, 8)), torch.softmax(torch.randn(2, 8, 4, dtype=torch.float64), -1)
    both = torch.cat([labels.unsqueeze(-1), shares], -1)

    def choose(gathered: torch.Tensor, loss: object) -> torch.Tensor:
        return gathered[..., 1:] if getattr(loss, "soft", False) else gathered[..., 0].long()

    mixed = MixedLoss(losses, np.ones((2, 4), np.int64), torch.device("cpu"), torch.float64, choose)
    found = mixed(scores, both, torch.ones(2, 8, dtype=torch.bool), 0.5)
    for g in range(2):
        for m, loss in enumerate(losses[g]):
            alone = loss(scores[g, m], shares[g] if loss.soft else labels[g], progress=0.5)
            torch.testing.assert_close(found[g, m], alone)
