"""The temperature found from slopes is that of a search over the scores themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar

from embedkit.evaluation.calibration import likelihood_losses, scale_temperature
from embedkit.training.stacks.temperature import KEPT, find_temperature, likelihood_slopes


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
    assert slopes.shape == (2, 300, KEPT)
    own = shares[0].double().numpy()
    found = find_temperature(slopes[0].double().sum(0).numpy(), 300)

    def loss(log: float) -> float:
        # One more utterance, of a class by chance.
        scaled = scale_temperature(own, np.exp(log))
        return float(likelihood_losses(targets, scaled).sum() - np.log(scaled).mean())

    best = minimize_scalar(loss, bounds=(-2.7, 2.7), method="bounded")
    assert found == pytest.approx(np.exp(best.x), rel=0.02)
    assert found == pytest.approx(scale, rel=0.25)
    assert loss(np.log(found)) == pytest.approx(best.fun, rel=1e-4)


def test_slopes_of_parts_add_up() -> None:
    targets, shares = draw(3.0)
    slopes = likelihood_slopes(shares, torch.from_numpy(targets))[0].double().numpy()
    parts = [slopes[:100].sum(0), slopes[100:].sum(0)]
    assert find_temperature(parts[0] + parts[1], 300) == find_temperature(slopes.sum(0), 300)
    assert find_temperature(parts[0], 100) != find_temperature(parts[1], 200)


@pytest.mark.parametrize("count", [10, 100])
def test_who_never_erred_is_as_sure_as_the_utterances_allow(count: int) -> None:
    shares = torch.tensor([0.6, 0.2, 0.2]).repeat(count, 1)
    sums = likelihood_slopes(shares, torch.zeros(count, dtype=torch.int64)).sum(0).double().numpy()
    scaled = scale_temperature([0.6, 0.2, 0.2], find_temperature(sums, count))
    assert scaled[0] == pytest.approx((count + 1 / 3) / (count + 1), abs=1e-3)


def test_it_stays_within_bounds_and_is_one_where_nothing_is_known() -> None:
    sure = torch.tensor([[0.51, 0.49], [0.49, 0.51]])
    right = likelihood_slopes(sure, torch.tensor([0, 1])).sum(0).double().numpy()
    wrong = likelihood_slopes(sure, torch.tensor([1, 0])).sum(0).double().numpy()
    assert (find_temperature(right, 2), find_temperature(wrong, 2)) == (1 / 16, 16.0)
    assert find_temperature(np.full(KEPT, np.nan), 2) == 1.0


def test_a_probability_of_zero_is_a_number() -> None:
    slopes = likelihood_slopes(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0]))
    assert np.isfinite(slopes.numpy()).all()
    assert np.isfinite(scale_temperature(np.array([[1.0, 0.0]]), 3.0)).all()
