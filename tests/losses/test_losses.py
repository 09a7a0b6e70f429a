"""Every loss against a naive computation in numpy, row by row, and against the properties all losses share."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from embedkit.errors import ConfigError, UnknownNameError
from embedkit.losses import LOSSES, build_loss
from embedkit.losses.base import Loss

pytestmark = pytest.mark.usefixtures("own_parts_typed")

Naive = Callable[[np.ndarray, np.ndarray, np.ndarray], float]


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return e / e.sum()


def weighted_mean(values: list[float], weights: list[float]) -> float:
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights) if sum(weights) else 0.0


def naive_ce(z: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    return weighted_mean([-math.log(softmax(z[i])[y[i]]) for i in range(len(y))], [w[k] for k in y])


def naive_label_smoothing(z: np.ndarray, y: np.ndarray, w: np.ndarray, epsilon: float = 0.1) -> float:
    total, classes = 0.0, z.shape[1]
    for i in range(len(y)):
        p = softmax(z[i])
        for k in range(classes):
            label = epsilon / classes + (1 - epsilon) * (k == y[i])
            total -= label * w[k] * math.log(p[k])
    return total / sum(w[k] for k in y) if len(y) else 0.0


def naive_focal(z: np.ndarray, y: np.ndarray, w: np.ndarray, gamma: float = 2.0) -> float:
    values = []
    for i in range(len(y)):
        p = softmax(z[i])[y[i]]
        values.append(-((1 - p) ** gamma) * math.log(p))
    return weighted_mean(values, [w[k] for k in y])


def naive_aam(c: np.ndarray, y: np.ndarray, w: np.ndarray, scale: float = 30.0, margin: float = 0.2) -> float:
    logits = scale * c
    for i in range(len(y)):
        theta = math.acos(c[i, y[i]])
        beyond = theta + margin > math.pi
        moved = c[i, y[i]] - margin * math.sin(margin) if beyond else math.cos(theta + margin)
        logits[i, y[i]] = scale * moved
    return naive_ce(logits, y, w)


def lin(x: list[float], y: list[float], w: list[float]) -> float:
    mx, my = weighted_mean(x, w), weighted_mean(y, w)
    cov = weighted_mean([(a - mx) * (b - my) for a, b in zip(x, y, strict=True)], w)
    var = weighted_mean([(a - mx) ** 2 + (b - my) ** 2 for a, b in zip(x, y, strict=True)], w)
    return 0.0 if cov == 0 else 2 * cov / (var + (mx - my) ** 2)


def naive_ccc(z: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    present = sorted(set(y.tolist()))
    rows = [w[k] for k in y]
    values = [1 - lin([softmax(r)[k] for r in z], [float(t == k) for t in y], rows) for k in present]
    return sum(values) / len(values) if values else 0.0


def naive_ccc_flat(z: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
    classes = z.shape[1]
    x = [float(v) for r in z for v in softmax(r)]
    t = [float(k == label) for label in y for k in range(classes)]
    return 1 - lin(x, t, [w[label] for label in y for _ in range(classes)]) if len(y) else 0.0


def naive_supcon(s: np.ndarray, y: np.ndarray, w: np.ndarray, temperature: float = 0.1) -> float:
    rows = len(y)
    classes = s.shape[1] - rows
    values, weights = [], []
    for i in range(rows):
        others = [j for j in range(rows) if j != i]
        positives = [j for j in others if y[j] == y[i]]
        if positives:
            total = math.fsum(math.exp(s[i, classes + j] / temperature) for j in others)
            logs = [math.log(math.exp(s[i, classes + j] / temperature) / total) for j in positives]
            values.append(-sum(logs) / len(positives))
            weights.append(w[y[i]])
    return naive_ce(s[:, :classes], y, w) + weighted_mean(values, weights)


NAIVE: dict[str, Naive] = {
    "ce": naive_ce,
    "label-smoothing": naive_label_smoothing,
    "label-smoothing:epsilon=0.3": lambda z, y, w: naive_label_smoothing(z, y, w, 0.3),
    "focal": naive_focal,
    "focal:gamma=0.5": lambda z, y, w: naive_focal(z, y, w, 0.5),
    "aam": naive_aam,
    "aam:scale=15,margin=0.4": lambda z, y, w: naive_aam(z, y, w, 15, 0.4),
    "ccc": naive_ccc,
    "ccc:flat": naive_ccc_flat,
    "class-balanced": naive_ce,
    "supcon": naive_supcon,
    "supcon:temperature=0.7": lambda s, y, w: naive_supcon(s, y, w, 0.7),
}
SPECS = list(NAIVE)


def random_scores(loss: Loss, seed: int, *size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(*size, generator=generator, dtype=torch.float64)
    if loss.classifier == "probe":
        directions = F.normalize(torch.randn(*size[:-1], 3, generator=generator, dtype=torch.float64), dim=-1)
        return torch.cat([3 * raw, directions @ directions.mT], -1)
    return raw.tanh() if loss.classifier == "cosine" else 3 * raw


def keep(loss: Loss, scores: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Leave rows out; where scores hold cosines between rows, their columns as well."""
    if loss.classifier != "probe":
        return scores[kept]
    logits, cosines = scores[kept].split([scores.shape[1] - scores.shape[0], scores.shape[0]], -1)
    return torch.cat([logits, cosines[:, kept]], -1)


def random_targets(seed: int, classes: int, *size: int) -> torch.Tensor:
    return torch.randint(classes, size, generator=torch.Generator().manual_seed(seed + 1))


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 9), classes=st.integers(2, 6), seed=st.integers(0, 10**6), weighted=st.booleans())
def test_equals_the_naive_computation(spec: str, rows: int, classes: int, seed: int, weighted: bool) -> None:
    loss = build_loss(spec)
    scores, targets = random_scores(loss, seed, rows, classes), random_targets(seed, classes, rows)
    weights = torch.rand(classes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + 0.1
    found = loss(scores, targets, class_weights=weights if weighted else None)
    used = weights.numpy() if weighted else np.ones(classes)
    assert found.shape == ()
    assert found.item() == pytest.approx(NAIVE[spec](scores.numpy(), targets.numpy(), used), rel=1e-9, abs=1e-10)


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.integers(1, 8), weighted=st.booleans())
def test_a_masked_row_is_as_if_it_were_not_there(spec: str, seed: int, rows: int, weighted: bool) -> None:
    loss = build_loss(spec)
    kept = torch.rand(rows, generator=torch.Generator().manual_seed(seed)) < 0.6
    scores, targets = random_scores(loss, seed, rows, 4), random_targets(seed, 4, rows)
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64) if weighted else None
    spoiled, spoiled_targets = scores.clone(), targets.clone()
    spoiled[~kept], spoiled_targets[~kept] = torch.nan, -1
    spoiled.requires_grad_()
    if loss.classifier == "probe":
        spoiled.detach()[:, 4:][:, ~kept] = torch.nan
    scores = keep(loss, scores, kept).requires_grad_()
    found = loss(spoiled, spoiled_targets, mask=kept, class_weights=weights)
    expected = loss(scores, targets[kept], class_weights=weights)
    found.backward()
    expected.backward()
    assert spoiled.grad is not None
    assert scores.grad is not None
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(keep(loss, spoiled.grad, kept), scores.grad, rtol=1e-9, atol=1e-12)
    assert not spoiled.grad[~kept].any()
    if loss.classifier == "probe":
        assert not spoiled.grad[:, 4:][:, ~kept].any()


@pytest.mark.parametrize("spec", SPECS)
def test_leading_dimensions_are_separate_heads(spec: str) -> None:
    loss = build_loss(spec)
    scores, targets = random_scores(loss, 5, 3, 2, 8, 4), random_targets(5, 4, 3, 1, 8)
    mask = torch.rand(3, 1, 8, generator=torch.Generator().manual_seed(9)) < 0.7
    weights = torch.rand(3, 1, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.5
    found = loss(scores, targets, mask=mask, class_weights=weights, progress=0.1)
    assert found.shape == (3, 2)
    for group in range(3):
        for member in range(2):
            alone = loss(
                scores[group, member],
                targets[group, 0],
                mask=mask[group, 0],
                class_weights=weights[group, 0],
                progress=0.1,
            )
            torch.testing.assert_close(found[group, member], alone, rtol=1e-12, atol=0)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_agree_with_finite_differences(spec: str, masked: bool) -> None:
    loss = build_loss(spec)
    scores = (0.9 * random_scores(loss, 3, 2, 6, 4)).requires_grad_()
    targets = random_targets(3, 4, 2, 6)
    mask = torch.tensor([True, False, True, True, True, False]) if masked else None
    weights = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64) if masked else None
    assert torch.autograd.gradcheck(
        lambda z: loss(z, targets, mask=mask, class_weights=weights, progress=1.0), (scores,), eps=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("extreme", [0.0, 1.0, 200.0])
@pytest.mark.parametrize(
    ("targets", "mask"),
    [
        ([1, 1, 1], None),
        ([2], None),
        ([0, 3, 3], [True, True, False]),
        ([0, 1, 2], [False, False, True]),
        ([0, 1, 2], [False, False, False]),
        ([], None),
    ],
    ids=["one class", "one row", "absent classes", "one row counts", "no row counts", "no row"],
)
def test_every_legal_batch_gives_a_finite_loss_and_gradient(
    spec: str, dtype: torch.dtype, extreme: float, targets: list[int], mask: list[bool] | None
) -> None:
    loss = build_loss(spec)
    signs = torch.tensor([[1, -1, 1, -1], [-1, 1, -1, 1], [1, 1, -1, -1]])[: len(targets)]
    scores = (signs * (min(extreme, 1.0) if loss.classifier == "cosine" else extreme)).to(dtype)
    if loss.classifier == "probe":
        directions = signs[:, :2].to(dtype) * min(extreme, 0.5**0.5)
        scores = torch.cat([scores, directions @ directions.mT], -1)
    scores = scores.requires_grad_()
    rows = torch.tensor(mask) if mask is not None else None
    found = loss(scores, torch.tensor(targets, dtype=torch.int64), mask=rows)
    found.backward()
    assert scores.grad is not None
    assert torch.isfinite(found)
    assert torch.isfinite(scores.grad).all()
    if not targets or mask == [False] * 3:
        assert found == 0
        assert not scores.grad.any()


@pytest.mark.parametrize("spec", SPECS)
def test_probabilities_sum_to_one_and_keep_the_order_of_the_scores(spec: str) -> None:
    loss = build_loss(spec)
    scores = random_scores(loss, 8, 5, 4)[:, :4]
    found = loss.probabilities(scores)
    torch.testing.assert_close(found.sum(-1), torch.ones(5, dtype=torch.float64))
    assert torch.equal(found.argsort(-1), scores.argsort(-1))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.5, 4.0])])
def test_cross_entropies_equal_pytorch(weights: torch.Tensor | None) -> None:
    scores, targets = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), random_targets(0, 3, 20)
    expected = F.cross_entropy(scores, targets, weight=weights)
    torch.testing.assert_close(build_loss("ce")(scores, targets, class_weights=weights), expected)
    torch.testing.assert_close(build_loss("focal:gamma=0")(scores, targets, class_weights=weights), expected)
    torch.testing.assert_close(
        build_loss("label-smoothing")(scores, targets, class_weights=weights),
        F.cross_entropy(scores, targets, weight=weights, label_smoothing=0.1),
    )


@pytest.mark.parametrize("theta", [0.0, 1e-3, 0.5, math.pi / 2, math.pi - 0.2 - 1e-6, math.pi - 0.1, math.pi])
def test_aam_at_hand_placed_angles(theta: float) -> None:
    scores = torch.tensor([[math.cos(theta), 0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    found = build_loss("aam")(scores, torch.tensor([0]))
    expected = naive_aam(scores.detach().numpy(), np.array([0]), np.ones(3))
    assert found.item() == pytest.approx(expected, abs=1e-6)
    found.backward()
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 0] < 0 or found < 1e-6


@pytest.mark.parametrize("cosine", [-math.cos(0.2) - 1e-6, -0.99, -1.0, -1.0 - 1e-7])
def test_aam_pulls_as_hard_at_an_angle_of_pi_as_before_it(cosine: float) -> None:
    scores = torch.tensor([[cosine, 0.3, -0.4]], dtype=torch.float64, requires_grad=True)
    build_loss("aam")(scores, torch.tensor([0])).backward()
    assert scores.grad is not None
    # Past pi - margin the logit is 30 (cosine - margin sin(margin)), and the true class has next to no probability.
    assert scores.grad[0].tolist() == pytest.approx([-30.0, 30.0, 0.0], abs=1e-6)


def test_aam_falls_with_the_angle_also_beyond_pi() -> None:
    angles = torch.linspace(1e-3, math.pi - 1e-3, 400, dtype=torch.float64)
    scores = torch.stack([angles.cos(), torch.zeros_like(angles)], -1).unsqueeze(1)
    for margin in (0.0, 0.2, 0.5, 1.5):
        found = build_loss(f"aam:margin={margin}")(scores, torch.zeros(400, 1, dtype=torch.int64))
        assert (found.diff() > 0).logical_or(found[:-1] < 1e-9).all()


def test_aam_warms_its_margin_up() -> None:
    scores, targets = torch.tensor([[0.5, 0.2]]), torch.tensor([0])
    loss = build_loss("aam:warmup=0.5,margin=0.4")
    start, middle, end = (loss(scores, targets, progress=p).item() for p in (0.0, 0.25, 0.5))
    assert start == pytest.approx(F.cross_entropy(30 * scores, targets).item())
    assert middle == pytest.approx(build_loss("aam:warmup=0,margin=0.2")(scores, targets, progress=0.0).item())
    assert start < middle < end
    assert end == loss(scores, targets).item()


def test_aam_scores_slightly_outside_the_cosines_range_are_harmless() -> None:
    scores = torch.tensor([[1 + 1e-6, -1 - 1e-6]], requires_grad=True)
    found = build_loss("aam")(scores, torch.tensor([1]))
    found.backward()
    assert scores.grad is not None
    assert torch.isfinite(found)
    assert torch.isfinite(scores.grad).all()


def test_perfect_predictions_concord() -> None:
    targets = torch.tensor([0, 1, 2, 1])
    scores = 60 * F.one_hot(targets, 4).double()
    assert build_loss("ccc")(scores, targets).item() == pytest.approx(0, abs=1e-9)
    assert build_loss("ccc:flat")(scores, targets).item() == pytest.approx(0, abs=1e-9)
    assert build_loss("ccc")(-scores, targets).item() > 1


def test_utterances_without_a_partner_are_drawn_nowhere() -> None:
    loss = build_loss("supcon")
    scores = random_scores(loss, 1, 4, 3).requires_grad_()
    loss(scores, torch.tensor([0, 1, 2, 1])).backward()
    assert scores.grad is not None
    assert scores.grad[:, :3].any(-1).all()
    assert scores.grad[:, 3:].any(-1).tolist() == [False, True, False, True]


def naive_effective_weights(counts: list[int], beta: float) -> list[float]:
    numbers = [sum(beta**k for k in range(count)) for count in counts]
    mean = sum(1 / number for number in numbers) / len(numbers)
    return [1 / number / mean for number in numbers]


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999, 0.9999])
def test_class_balanced_weighs_by_effective_numbers(beta: float) -> None:
    counts = [[5, 40, 300], [7, 7, 7]]
    found = build_loss(f"class-balanced:beta={beta}").weigh_classes(torch.tensor(counts))
    assert found is not None
    for row, weights in zip(counts, found.tolist(), strict=True):
        assert weights == pytest.approx(naive_effective_weights(row, beta), rel=1e-9)


def test_class_balanced_lies_between_equal_and_balanced_weights() -> None:
    counts = torch.tensor([5, 40, 300])
    equal = build_loss("class-balanced:beta=0").weigh_classes(counts)
    torch.testing.assert_close(equal, torch.ones(3, dtype=torch.float64))
    nearly = build_loss("class-balanced:beta=0.9999999").weigh_classes(counts)
    balanced = build_loss("ce:weights=balanced").weigh_classes(counts)
    assert nearly is not None
    assert balanced is not None
    torch.testing.assert_close(nearly / nearly[0], balanced / balanced[0], rtol=1e-4, atol=0)


@pytest.mark.parametrize("spec", ["class-balanced", "class-balanced:beta=0", "ce:weights=balanced"])
def test_class_weights_are_finite_where_a_class_is_absent(spec: str) -> None:
    found = build_loss(spec).weigh_classes(torch.tensor([[0, 3, 1], [0, 0, 2]]))
    assert found is not None
    assert torch.isfinite(found).all()


def test_balanced_weights_have_mean_one_over_the_utterances() -> None:
    counts = torch.tensor([5, 40, 300])
    weights = build_loss("focal:weights=balanced").weigh_classes(counts)
    assert weights is not None
    torch.testing.assert_close(weights * counts, torch.full((3,), 115.0, dtype=torch.float64))
    assert build_loss("focal").weigh_classes(counts) is None


def test_all_stands_for_the_studys_five() -> None:
    assert LOSSES.names_in_all == ["ce", "label-smoothing", "focal", "aam", "ccc"]


@pytest.mark.parametrize("name", LOSSES.names_in_all)
def test_every_loss_of_the_study_can_ask_for_balanced_class_weights(name: str) -> None:
    assert build_loss(f"{name}:weights=balanced").options.weights == "balanced"
    assert build_loss(name).options.weights == "none"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("cce", "Did you mean 'ce'"),
        ("focal:gama=1", "Did you mean 'gamma'"),
        ("focal:gamma=-1", "gamma is -1.0, expected"),
        ("focal:gamma=nan", "gamma is nan, expected"),
        ("label-smoothing:epsilon=1", "epsilon is 1.0, expected"),
        ("aam:scale=0", "scale is 0.0, expected"),
        ("aam:margin=2", "margin is 2.0, expected"),
        ("aam:warmup=inf", "warmup is inf, expected"),
        ("class-balanced:beta=1", "beta is 1.0, expected"),
        ("supcon:temperature=0", "temperature is 0.0, expected"),
        ("ccc:flat=maybe", "flat is 'maybe', expected"),
        ("ce:weights=heavy", "weights is 'heavy', expected one of"),
        ("no.such_module:Loss", "Cannot import 'no.such_module:Loss'"),
        ("embedkit.registry:Part", "expected a subclass of embedkit.losses.base.Loss"),
    ],
)
def test_bad_specs_are_told_in_one_sentence(spec: str, words: str) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        build_loss(spec)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_users_own_loss_is_built_with_its_settings() -> None:
    loss = build_loss("embedkit.losses.focal:Focal:gamma=1.5")
    assert loss.options.gamma == 1.5


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2])
def test_focal_is_finite_where_the_true_class_is_certain(gamma: float) -> None:
    scores = torch.tensor([[300.0, -300.0], [-300.0, 300.0]], requires_grad=True)
    found = build_loss(f"focal:gamma={gamma}")(scores, torch.tensor([0, 1]))
    found.backward()
    assert found == 0
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
