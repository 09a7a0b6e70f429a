"""Statistics over own frames only, against numpy in float64."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.encoders.pooling import pool_masked
from embedkit.errors import ExtractionError
from embedkit.extraction.pooling import Pool, is_finite
from embedkit.extraction.windows import Merge


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=5), st.integers(0, 9), st.sampled_from([0.0, 1e3]))
def test_statistics_equal_numpys_and_ignore_padding(lengths: list[int], seed: int, offset: float) -> None:
    generator = np.random.default_rng(seed)
    clips = [generator.normal(offset, 1, size=(length, 2, 3)) for length in lengths]
    pool = Pool(frame_dtype="float32")
    for layer in range(2):
        values = torch.full((len(clips), max(lengths) + 2, 3), torch.nan)
        for index, clip in enumerate(clips):
            values[index, : len(clip)] = torch.from_numpy(clip[:, layer])
        pool(layer, values, torch.tensor(lengths))
        mean, std = pool_masked(values, lengths)
        expected = [clip[:, layer].astype("float32").astype("float64") for clip in clips]
        np.testing.assert_allclose(mean, [clip.mean(0) for clip in expected], rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(std, [clip.std(0) for clip in expected], rtol=1e-4, atol=1e-6 + 2e-7 * offset)
    for row, clip in zip(pool.rows(), clips, strict=True):
        exact = clip.astype("float32").astype("float64")
        np.testing.assert_allclose(row.mean, exact.mean(0), rtol=2e-6, atol=1e-6)
        np.testing.assert_allclose(row.std, exact.std(0), rtol=1e-4, atol=1e-6 + 2e-7 * offset)
        np.testing.assert_array_equal(row.frames, clip.astype("float32"))


def test_padding_changes_no_bit() -> None:
    clip = torch.randn(7, 5, generator=torch.Generator().manual_seed(0))
    alone, beside = Pool(), Pool()
    alone(0, clip[None], torch.tensor([7]))
    padded = torch.nn.functional.pad(clip, (0, 0, 0, 30), value=torch.inf)
    beside(0, torch.stack([torch.randn(37, 5), padded]), torch.tensor([37, 7]))
    np.testing.assert_array_equal(alone.rows()[0].mean, beside.rows()[1].mean)
    np.testing.assert_array_equal(alone.rows()[0].std, beside.rows()[1].std)


def test_half_precision_layers_are_pooled_in_float32() -> None:
    values = torch.full((1, 3000, 2), 1.001, dtype=torch.bfloat16)
    pool = Pool()
    pool(0, values, torch.tensor([3000]))
    assert pool.rows()[0].mean.dtype == np.float32
    np.testing.assert_allclose(pool.rows()[0].mean, float(values[0, 0, 0]), rtol=1e-6)


@pytest.mark.parametrize(("value", "frames"), [(-23.03, 3_000), (-80.01, 60_000)])
def test_long_clips_far_from_zero_lose_nothing(value: float, frames: int) -> None:
    values = torch.full((1, frames, 2), value)
    values[0, : frames // 2, 1] += 1.0
    pool = Pool()
    pool(0, values, torch.tensor([frames]))
    exact = values[0].double()
    np.testing.assert_allclose(pool.rows()[0].mean[0], exact.mean(0), rtol=1e-7)
    np.testing.assert_allclose(pool.rows()[0].std[0], exact.std(0, correction=0), rtol=1e-6, atol=1e-7)


def test_a_clip_without_frames_is_not_finite_and_the_others_are() -> None:
    pool = Pool()
    pool(0, torch.ones(2, 3, 4), torch.tensor([0, 3]))
    assert [is_finite(row) for row in pool.rows()] == [False, True]


def test_layers_out_of_order_are_an_error() -> None:
    with pytest.raises(ExtractionError, match="layer 1 where layer 0"):
        Pool()(1, torch.zeros(1, 1, 1), torch.tensor([1]))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 5))
def test_merging_pieces_equals_one_pass(sizes: list[int], seed: int) -> None:
    frames = np.random.default_rng(seed).normal(100, 1, size=(sum(sizes), 2, 3)).astype("float32")
    merge = Merge()
    for piece in np.split(frames, np.cumsum(sizes)[:-1]):
        merge.add(piece)
    np.testing.assert_allclose(merge.rows().mean, frames.astype("float64").mean(0), rtol=1e-6)
    np.testing.assert_allclose(merge.rows().std, frames.astype("float64").std(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("frame_dtype", [None, "float16", "float32"])
def test_layers_are_let_go_before_the_next_one(frame_dtype: str | None) -> None:
    pool = Pool(frame_dtype=frame_dtype)
    for position in range(3):
        array = np.ones((2, 50, 4), np.float32)
        before = sys.getrefcount(array)
        pool(position, torch.from_numpy(array), torch.tensor([50, 20]))
        assert sys.getrefcount(array) == before
    pool.rows()
