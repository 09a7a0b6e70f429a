"""Encoders that say they are reentrant: passes in several threads give what they give one after the other."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import torch

from embedkit.encoders import load_encoder
from embedkit.encoders.precision import has_fast_bf16, true_fp32
from embedkit.extraction.threads import computing_with, open_ahead
from tests.cases import mark_cases
from tests.encoders.checkpoints import (
    CONV_FAMILIES,
    collect,
    speechlike,
    write_conv_checkpoint,
    write_whisper_checkpoint,
)

THREADS = 3


def write(folder: Path, name: str) -> str:
    """Write the checkpoints of an encoder; return what it is called."""
    if "+" in name:
        return "+".join(write(folder, part) for part in name.split("+"))
    if name in CONV_FAMILIES:
        return str(write_conv_checkpoint(folder / name, name))
    return str(write_whisper_checkpoint(folder / name)) if name == "whisper" else name


@pytest.mark.parametrize(
    ("name", "precision"),
    mark_cases(
        product([*CONV_FAMILIES, "whisper", "vggish-scratch", "hubert+whisper"], ["fp32", "bf16"]),
        lambda name, precision: precision == "fp32" or name == "hubert",
    ),
)
def test_passes_side_by_side_equal_those_alone_to_the_bit(name: str, precision: str, tmp_path: Path) -> None:
    if precision == "bf16" and (name == "vggish-scratch" or not has_fast_bf16(torch.device("cpu"))):
        pytest.skip("VGGish computes in fp32 only" if name == "vggish-scratch" else "this CPU has no bf16 instructions")
    encoder = load_encoder(write(tmp_path, name), precision=precision)
    assert encoder.reentrant
    lengths = [(2_000 + 900 * number, 16_000 - 700 * number) for number in range(3 * THREADS)]
    batches = [[speechlike(length, length) for length in pair] for pair in lengths]
    with computing_with(1), open_ahead(THREADS, 1) as ahead:
        alone = [collect(encoder, batch) for batch in batches]
        beside = list(ahead.map(lambda batch: collect(encoder, batch), batches))
    for one, other in zip(alone, beside, strict=True):
        for clip, same in zip(one, other, strict=True):
            assert all(torch.equal(values, found) for values, found in zip(clip, same, strict=True))


def test_one_thread_that_leaves_full_precision_takes_it_from_no_other() -> None:
    before = torch.backends.mkldnn.matmul.fp32_precision
    first, second = true_fp32(), true_fp32()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    second.__exit__(None, None, None)
    assert torch.backends.mkldnn.matmul.fp32_precision == before


@pytest.mark.parametrize("of_the_process", [1, 4])
def test_threads_compute_with_what_they_are_given_whatever_the_process_does(of_the_process: int) -> None:
    def computes_with(_: int) -> int:
        torch.ones(3).sum()
        return torch.get_num_threads()

    with computing_with(2), open_ahead(2, 3) as ahead:
        torch.set_num_threads(of_the_process)
        assert list(ahead.map(computes_with, range(4))) == [3] * 4
