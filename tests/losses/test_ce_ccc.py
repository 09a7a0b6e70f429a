"""Cross-entropy with ratings as a second task: against its two terms, and where ratings are missing."""

from __future__ import annotations

import pytest
import torch

from embedkit.errors import ConfigError
from embedkit.losses import build_loss

CLASSES = 4


def draw(*size: int, missing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return scores of four classes and three ratings, and targets in which a share of the ratings is missing."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(*size, CLASSES + 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(CLASSES, (*size, 1), generator=generator)
    ratings = torch.randn(*size, 3, generator=generator, dtype=torch.float64)
    ratings[torch.rand(*size, 3, generator=generator) < missing] = torch.nan
    return scores, torch.cat([labels, ratings], -1)


@pytest.mark.parametrize(("ce", "ccc"), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.3, 2.0)])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)])
def test_it_is_the_weighted_sum_of_both_losses(ce: float, ccc: float, weights: torch.Tensor | None) -> None:
    scores, targets = draw(9)
    entropy = build_loss("ce")(scores[:, :CLASSES], targets[:, 0].long(), class_weights=weights)
    agreement = build_loss("ccc-regression")(scores[:, CLASSES:], targets[:, 1:])
    found = build_loss(f"ce+ccc:ce={ce},ccc={ccc}")(scores, targets, class_weights=weights)
    torch.testing.assert_close(found, ce * entropy + ccc * agreement)


def test_a_missing_rating_counts_for_the_others_alone() -> None:
    scores, targets = draw(9, missing=0.4)
    scores.requires_grad_()
    found = build_loss("ce+ccc:ce=0,ccc=1")(scores, targets)
    known = targets[:, 1:].isfinite()
    each = [
        build_loss("ccc-regression")(scores[rows, CLASSES + place, None], targets[rows, 1 + place, None])
        for place, rows in enumerate(known.T)
    ]
    torch.testing.assert_close(found, torch.stack(each).mean())
    (gradient,) = torch.autograd.grad(found, scores)
    assert torch.isfinite(gradient).all()
    assert torch.equal(gradient[:, CLASSES:] != 0, known)


@pytest.mark.parametrize("rated", [0, 1])
def test_ratings_that_nobody_has_add_nothing(rated: int) -> None:
    scores, targets = draw(5)
    targets[:, 1 + rated :] = torch.nan
    alone = build_loss("ccc-regression")(scores[:, CLASSES:][:, :rated], targets[:, 1:][:, :rated]) if rated else 0.0
    found = build_loss("ce+ccc:ce=0,ccc=1")(scores, targets)
    torch.testing.assert_close(found, torch.as_tensor(alone, dtype=torch.float64))


@pytest.mark.parametrize("kept", [[0, 2, 3, 6], [4], []])
def test_a_masked_row_is_as_if_it_were_not_there(kept: list[int]) -> None:
    loss = build_loss("ce+ccc")
    scores, targets = draw(2, 3, 7, missing=0.3)
    mask = torch.zeros(7, dtype=torch.bool)
    mask[kept] = True
    spoiled, wrong = scores.masked_fill(~mask[:, None], torch.nan).requires_grad_(), targets.clone()
    wrong[..., ~mask, :] = -1.0
    found = loss(spoiled, wrong, mask=mask)
    torch.testing.assert_close(found, loss(scores[..., kept, :], targets[..., kept, :]))
    found.sum().backward()
    assert spoiled.grad is not None
    assert torch.isfinite(spoiled.grad).all()
    assert not spoiled.grad[..., ~mask, :].any()


def test_its_ratings_are_named_and_its_probabilities_are_of_classes() -> None:
    loss = build_loss("ce+ccc:ratings=valence+arousal")
    assert (loss.name, loss.ratings) == ("ce+ccc", ("valence", "arousal"))
    assert build_loss("ce+ccc").ratings == ("valence", "arousal", "dominance")
    scores = torch.randn(5, 6)
    torch.testing.assert_close(loss.probabilities(scores), scores[:, :4].softmax(-1))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("ce+ccc:ce=-1", "ce is -1.0, expected"),
        ("ce+ccc:ccc=inf", "ccc is inf, expected"),
        ("ce+ccc:raitings=a", "ratings"),
    ],
)
def test_bad_settings_are_refused(spec: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_loss(spec)
