"""Layers, precision and device: what may be asked for."""

from __future__ import annotations

import pytest
import torch

from embedkit.encoders import precision as precisions
from embedkit.encoders.base import select_layers
from embedkit.encoders.kernels import PackedLinear
from embedkit.encoders.precision import resolve_precision, true_fp32
from embedkit.errors import EncoderError
from embedkit.kernels import has_onednn

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("spec", "layers"),
    [
        ("all", (0, 1, 2, 3, 4)),
        ("last", (4,)),
        ("0", (0,)),
        ("1-3", (1, 2, 3)),
        ("3,1", (1, 3)),
        (" 0, 2-3 ", (0, 2, 3)),
        ("ALL", (0, 1, 2, 3, 4)),
    ],
)
def test_layers_are_read(spec: str, layers: tuple[int, ...]) -> None:
    assert select_layers(spec, 4) == layers


@pytest.mark.parametrize("spec", ["", "5", "3-1", "2-9", "-1", "first", "1;2", "1-2-3", "1.5"])
def test_layers_that_are_not_there_are_refused(spec: str) -> None:
    with pytest.raises(EncoderError, match=r"expected"):
        select_layers(spec, 4)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [({"avx2", "avx512_bf16"}, "bf16"), ({"amx_bf16"}, "bf16"), ({"avx2", "avx512f"}, "fp32"), (set(), "fp32")],
)
def test_auto_follows_the_cpu(flags: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "read_cpu_flags", lambda: flags)
    assert resolve_precision("auto", CPU) == expected
    assert resolve_precision("fp32", CPU) == "fp32"


def test_fp16_on_a_cpu_is_refused() -> None:
    with pytest.raises(EncoderError, match="hundreds of times slower"):
        resolve_precision("fp16", CPU)


def test_unknown_precisions_are_refused() -> None:
    with pytest.raises(EncoderError, match="expected auto, fp32, bf16 or fp16"):
        resolve_precision("int8", CPU)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_mps_computes_in_fp32_alone(precision: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "read_cpu_flags", lambda: {"avx512_bf16"})
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    assert resolve_precision("fp32", torch.device("mps")) == "fp32"
    with pytest.raises(EncoderError, match=f"Precision {precision} is untried on MPS; expected fp32 or auto"):
        resolve_precision(precision, torch.device("mps"))


def test_fp32_stays_fp32_whatever_the_caller_has_set() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with true_fp32():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before


@pytest.mark.skipif(not has_onednn(), reason="this build of PyTorch has no oneDNN linear operators")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_linears_equal_plain_ones(dtype: torch.dtype, bias: bool) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(48, 80, bias=bias).to(dtype)
    packed = PackedLinear(linear.weight, linear.bias)
    for shape in ((3, 7, 48), (1, 1, 48), (2, 48)):
        values = torch.randn(shape).to(dtype)
        strided = torch.randn(*shape[:-1], 96).to(dtype)[..., ::2]
        for given in (values, strided):
            reference = torch.nn.functional.linear(given.double(), linear.weight.double())
            reference = reference + (linear.bias.double() if bias else 0.0)
            error = (packed(given).double() - reference).norm() / reference.norm()
            assert error < (1e-6 if dtype == torch.float32 else 1e-2)
