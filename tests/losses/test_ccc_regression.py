"""Concordance with ratings: against loops over Lin's formula, and the properties that all losses share."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.evaluation.metrics import concordance_correlation
from embedkit.losses import build_loss
from embedkit.losses.base import Loss


@pytest.fixture
def loss() -> Loss:
    return build_loss("ccc-regression")


def draw(seed: int, *size: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores, ratings = (torch.randn(*size, generator=generator, dtype=torch.float64) for _ in range(2))
    return 2 * scores, ratings + 0.5


def naive(scores: np.ndarray, ratings: np.ndarray) -> float:
    rows, dimensions = scores.shape
    values = []
    for k in range(dimensions):
        x, y = [float(row[k]) for row in scores], [float(row[k]) for row in ratings]
        mx, my = sum(x) / rows, sum(y) / rows
        cov = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / rows
        spread = sum((a - mx) ** 2 for a in x) / rows + sum((b - my) ** 2 for b in y) / rows + (mx - my) ** 2
        values.append(2 * cov / spread)
    return 1 - sum(values) / dimensions


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), dimensions=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_equals_the_naive_computation(rows: int, dimensions: int, seed: int) -> None:
    scores, ratings = draw(seed, rows, dimensions)
    found = build_loss("ccc-regression")(scores, ratings).item()
    assert found == pytest.approx(naive(scores.numpy(), ratings.numpy()), rel=1e-9)
    assert found == pytest.approx(1 - concordance_correlation(scores.T, ratings.T).mean(), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 8))
def test_a_masked_row_is_as_if_it_were_not_there(seed: int, rows: int) -> None:
    loss = build_loss("ccc-regression")
    kept = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6
    scores, ratings = draw(seed, rows, 3)
    spoiled, spoiled_ratings = scores.clone(), ratings.clone()
    spoiled[~kept], spoiled_ratings[~kept] = torch.nan, torch.nan
    spoiled.requires_grad_()
    scores = scores[kept].requires_grad_()
    found, expected = loss(spoiled, spoiled_ratings, mask=kept), loss(scores, ratings[kept])
    found.backward()
    expected.backward()
    assert spoiled.grad is not None
    assert scores.grad is not None
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(spoiled.grad[kept], scores.grad, rtol=1e-9, atol=1e-12)
    assert not spoiled.grad[~kept].any()


def test_leading_dimensions_are_separate_heads(loss: Loss) -> None:
    scores, _ = draw(1, 3, 2, 8, 4)
    ratings = draw(2, 3, 1, 8, 4)[1]
    mask = torch.rand(3, 1, 8, generator=torch.Generator().manual_seed(9)) < 0.7
    found = loss(scores, ratings, mask=mask)
    assert found.shape == (3, 2)
    for group in range(3):
        for member in range(2):
            alone = loss(scores[group, member], ratings[group, 0], mask=mask[group, 0])
            torch.testing.assert_close(found[group, member], alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("mask", [None, torch.tensor([True, False, True, True, True, False])])
def test_gradients_agree_with_finite_differences(loss: Loss, mask: torch.Tensor | None) -> None:
    scores, ratings = draw(3, 2, 6, 3)
    assert torch.autograd.gradcheck(lambda z: loss(z, ratings, mask=mask), (scores.requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("rating", [0.0, 1.0, -200.0])
@pytest.mark.parametrize("score", [0.0, 1.0, 200.0])
@pytest.mark.parametrize("mask", [None, [True, False, False], [False] * 3])
def test_constant_batches_are_finite(
    loss: Loss, dtype: torch.dtype, rating: float, score: float, mask: list[bool] | None
) -> None:
    scores = torch.full((3, 2), score, dtype=dtype, requires_grad=True)
    found = loss(scores, torch.full((3, 2), rating), mask=None if mask is None else torch.tensor(mask))
    found.backward()
    assert scores.grad is not None
    assert torch.isfinite(found)
    assert torch.isfinite(scores.grad).all()
    assert found == (0 if mask == [False] * 3 else 1)


def test_agreement_costs_nothing_and_opposition_most(loss: Loss) -> None:
    ratings = draw(4, 20, 3)[1]
    assert loss(ratings, ratings).item() == pytest.approx(0, abs=1e-12)
    assert loss(-ratings, ratings).item() > 1
    assert loss(torch.zeros(0, 3), torch.zeros(0, 3)) == 0


@pytest.mark.usefixtures("own_parts_typed")
def test_a_plain_loss_is_given_scores_and_ratings_of_one_head() -> None:
    scores, _ = draw(5, 2, 3, 6, 4)
    ratings = draw(6, 2, 1, 6, 4)[1]
    mask = torch.tensor([True, True, False, True, True, False]).expand(2, 1, 6)
    found = build_loss("torch.nn:MSELoss")(scores, ratings, mask=mask)
    expected = (scores - ratings).square()[:, :, mask[0, 0]].mean((-2, -1))
    torch.testing.assert_close(found, expected)
