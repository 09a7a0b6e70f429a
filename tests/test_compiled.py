"""The compiled loops against the same in float64, and against torch's own Adam."""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import numpy as np
import pytest
import torch
from torch import Tensor

import embedkit
from embedkit import kernels
from embedkit.heads.products import mixed_products
from embedkit.training.stacks.optimizer import StackedAdam

SIZES = [
    # groups, rows, layers, dimensions, members, classes, heads whose norms are taken
    (1, 1, 2, 5, 1, 2, []),
    (2, 4, 3, 16, 2, 4, [0, 3]),
    (2, 6, 7, 33, 3, 7, [2, 4, 5]),
    (3, 9, 13, 8, 5, 1, [*range(15)]),
    (1, 11, 4, 40, 4, 5, [1]),
    (2, 3, 8, 17, 1, 8, [1]),
]


def reference(values: Tensor, shares: Tensor, weight: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
    mixed = torch.einsum("gml,gbld->gmbd", shares, values)
    return torch.einsum("gmbd,gmcd->gmbc", mixed, weight), mixed.norm(dim=-1).flatten(0, 1)[measured]


@pytest.mark.parametrize(("groups", "rows", "layers", "dimensions", "members", "classes", "heads"), SIZES)
def test_products_norms_and_their_gradients_are_those_of_float64(
    groups: int, rows: int, layers: int, dimensions: int, members: int, classes: int, heads: list[int]
) -> None:
    draw = torch.Generator().manual_seed(groups + rows)
    values = torch.randn(groups, layers, rows, dimensions, generator=draw).transpose(1, 2)
    shares = torch.rand(groups, members, layers, generator=draw).softmax(-1)
    weight = torch.randn(groups, members, classes, dimensions, generator=draw)
    measured = torch.tensor(heads, dtype=torch.int64)
    assert kernels.compiled_loops() is not None
    found = []
    for one, dtype in ((partial(mixed_products, compiled=True), torch.float32), (reference, torch.float64)):
        own, mixing = (part.to(dtype, copy=True).requires_grad_() for part in (weight, shares))
        products, norms = one(values.to(dtype), mixing, own, measured)
        slopes = torch.linspace(-1, 1, products.numel(), dtype=dtype).view_as(products)
        (products * slopes).sum().backward(retain_graph=True)
        if heads:
            (norms * torch.linspace(1, 2, norms.numel(), dtype=dtype).view_as(norms)).sum().backward()
        found.append((products, norms, mixing.grad, own.grad))
    for ours, exact in zip(*found, strict=True):
        assert ours is not None
        assert exact is not None
        scale = exact.abs().max() if exact.numel() else 1.0
        torch.testing.assert_close(ours.double() / scale, exact / scale, rtol=0, atol=2e-6)


def test_a_head_comes_out_the_same_beside_whichever_others() -> None:
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(1, 7, 30, 130, generator=draw).transpose(1, 2)
    shares = torch.rand(1, 5, 7, generator=draw).softmax(-1)
    weight, slopes = torch.randn(1, 5, 4, 130, generator=draw), torch.randn(1, 5, 30, 4, generator=draw)

    def compute(members: list[int]) -> list[Tensor]:
        own, mixing = weight[:, members].requires_grad_(), shares[:, members].requires_grad_()
        products, norms = mixed_products(values, mixing, own, torch.arange(len(members)), compiled=True)
        found = torch.autograd.grad([products, norms], [mixing, own], [slopes[:, members], torch.ones_like(norms)])
        return [products[0], norms, *(gradient[0] for gradient in found)]

    together = compute([0, 1, 2, 3, 4])
    for members in ([4, 1], [3], [2, 0, 4]):
        for alone, beside in zip(compute(members), together, strict=True):
            assert torch.equal(alone, beside[members])


def test_the_norm_of_zeros_has_no_gradient() -> None:
    shares = torch.full((1, 1, 2), 0.5, requires_grad=True)
    values, weight = torch.zeros(1, 2, 3, 8).transpose(1, 2), torch.ones(1, 1, 2, 8)
    products, norms = mixed_products(values, shares, weight, torch.tensor([0]), compiled=True)
    (products.sum() + norms.sum()).backward()
    assert shares.grad is not None
    assert shares.grad.tolist() == [[[0.0, 0.0]]]
    assert norms.tolist() == [[pytest.approx(1e-8)] * 3]


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [None, 0.5])
def test_steps_are_those_of_torchs_adam(decay: float, clip: float | None) -> None:
    rates = torch.tensor([[1e-2, 3e-3], [1e-3, 2e-2]])
    draw = torch.Generator().manual_seed(3)
    large, small = torch.randn(2, 2, 5, 7, generator=draw), torch.randn(2, 2, 3, generator=draw)
    ours = [torch.nn.Parameter(values.clone()) for values in (large, small)]
    optimizer = StackedAdam(ours, rates, weight_decay=decay, compiled=True)
    alone = [
        [torch.nn.Parameter(values[g, m].double()) for values in (large, small)] for g in range(2) for m in range(2)
    ]
    exact = [
        torch.optim.AdamW(own, lr=float(rate), weight_decay=decay)
        for own, rate in zip(alone, rates.flatten(), strict=True)
    ]
    for _ in range(5):
        slopes = [torch.randn(values.shape, generator=draw) for values in (large, small)]
        for parameter, slope in zip(ours, slopes, strict=True):
            parameter.grad = slope.clone()
        for head, own in enumerate(alone):
            for parameter, slope in zip(own, slopes, strict=True):
                parameter.grad = slope.flatten(0, 1)[head].double()
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(own, clip)
            exact[head].step()
        optimizer.step(clip=clip)
    for place in range(2):
        wanted = torch.stack([own[place] for own in alone]).view_as(ours[place])
        torch.testing.assert_close(ours[place].double(), wanted, rtol=0, atol=5e-6)


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what was loaded of the loops be loaded anew."""
    monkeypatch.delitem(sys.modules, "embedkit.compiled", raising=False)
    monkeypatch.delattr(embedkit, "compiled", raising=False)


class BrokenLibrary(ModuleType):
    def __getattr__(self, name: str) -> Any:
        raise OSError("Could not find/load shared object file: libllvmlite.so")


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("missing", [None, BrokenLibrary("numba")])
def test_torch_computes_where_numba_cannot_be_imported(
    missing: ModuleType | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "numba", missing)
    with caplog.at_level(logging.INFO):
        assert kernels.compiled_loops.__wrapped__() is None
    assert "numba cannot be used" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_torch_computes_where_numba_is_told_not_to_compile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert kernels.compiled_loops.__wrapped__() is None


def test_loops_are_compiled_beside_a_cache_that_was_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from embedkit.compiled import _outer

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))

    def fill(values: Any) -> None:
        values[0] = 3

    values = np.zeros(1, np.float32)
    for keeps in (True, False):
        _outer(numba.float32[::1])(fill)(values)
        assert values.tolist() == [3.0]
        kept = list(tmp_path.rglob("*.nb?"))
        assert len(kept) == 2
        assert ("cache cannot be used" in caplog.text) is not keeps
        for path in kept:
            path.write_bytes(b"")
        values[0] = 0
        caplog.set_level(logging.INFO)
