"""The temperature found from slopes is that of a search over the scores themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from embedkit.evaluation.calibration import negative_log_likelihood, scale_temperature
from embedkit.training.stacks.temperature import INVERSES, find_temperature, likelihood_slopes


def draw(scale: float, *, count: int = 300, classes: int = 5) -> tuple[np.ndarray, torch.Tensor]:
    """Draw classes from the softmax of some scores, and what a head says that multiplies them."""
    generator = torch.Generator().manual_seed(0)
    scores = 2 * torch.randn(2, count, classes, generator=generator)
    targets = torch.multinomial(scores[0].softmax(-1), 1, generator=generator)[:, 0]
    return targets.numpy(), (scale * scores).softmax(-1)


@pytest.mark.parametrize("scale", [0.1, 0.3, 1.0, 4.0, 12.0])
def test_it_is_the_temperature_of_the_smallest_likelihood(scale: float) -> None:
    targets, shares = draw(scale)
    slopes = likelihood_slopes(shares, torch.from_numpy(targets))
    assert slopes.shape == (2, 300, len(INVERSES))
    own = shares[0].double().numpy()
    found = find_temperature(slopes[0].double().sum(0).numpy())
    best = minimize_scalar(
        lambda log: float(negative_log_likelihood(targets, scale_temperature(own, np.exp(log)))),
        bounds=(-3, 3),
        method="bounded",
    )
    assert found == pytest.approx(np.exp(best.x), rel=0.02)
    assert found == pytest.approx(scale, rel=0.25)
    reached = float(negative_log_likelihood(targets, scale_temperature(own, found)))
    assert reached == pytest.approx(best.fun, rel=1e-4)


def test_slopes_of_parts_add_up() -> None:
    targets, shares = draw(3.0)
    slopes = likelihood_slopes(shares, torch.from_numpy(targets))[0].double().numpy()
    parts = [slopes[:100].sum(0), slopes[100:].sum(0)]
    assert find_temperature(parts[0] + parts[1]) == find_temperature(slopes.sum(0))
    assert find_temperature(parts[0]) != find_temperature(parts[1])


def test_it_stays_within_bounds_and_is_one_where_nothing_is_known() -> None:
    sure = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    right = likelihood_slopes(sure, torch.tensor([0, 1])).sum(0).double().numpy()
    wrong = likelihood_slopes(sure, torch.tensor([1, 0])).sum(0).double().numpy()
    assert (find_temperature(right), find_temperature(wrong)) == (1 / 16, 16.0)
    assert find_temperature(np.full(len(INVERSES), np.nan)) == 1.0


def test_a_probability_of_zero_is_a_number() -> None:
    slopes = likelihood_slopes(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert np.isfinite(slopes.numpy()).all()
    assert np.isfinite(scale_temperature(np.array([[1.0, 0.0]]), 3.0)).all()
