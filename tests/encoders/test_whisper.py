"""Whisper's encoder on windows: equal to the bare encoder with its position table cut."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import (
    bare_extractor,
    bare_whisper_states,
    collect,
    pooled,
    relative_error,
    speechlike,
    write_whisper_checkpoint,
)

FRAME = 320
LENGTHS = st.lists(st.integers(1, 12_000), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write_whisper_checkpoint(tmp_path_factory.mktemp(kind), kind) for kind in ("full", "model", "bare")}


@pytest.fixture(scope="module")
def encoders(checkpoints: dict[str, Path]) -> dict[str | float, Encoder]:
    return {window: load_encoder(str(checkpoints["full"]), window=window) for window in ("clip", 1.0)}


def check_against_bare(encoder: Encoder, folder: Path, clips: list[torch.Tensor], window: int | None) -> None:
    for clip, layers in zip(clips, collect(encoder, clips), strict=True):
        own = math.ceil(max(len(clip), FRAME) / FRAME)
        alone = bare_whisper_states(folder, pad(clip, (0, max(0, FRAME - len(clip)))), window or own)
        assert len(layers) == len(alone)
        for values, reference in zip(layers, alone, strict=True):
            assert len(values) == own == encoder.frame_count(len(clip))
            assert relative_error(values, reference[:own]) <= 1e-5
            assert relative_error(pooled(values), pooled(reference[:own])) <= 1e-5


@pytest.mark.parametrize("window", ["clip", 1.0])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=LENGTHS)
def test_batched_equals_alone(
    window: str | float, lengths: list[int], checkpoints: dict[str, Path], encoders: dict[str | float, Encoder]
) -> None:
    clips = [speechlike(length, seed) for seed, length in enumerate(lengths)]
    check_against_bare(encoders[window], checkpoints["full"], clips, None if window == "clip" else 50)


@pytest.mark.parametrize("kind", ["model", "bare"])
def test_every_layout_gives_the_same(
    kind: str, checkpoints: dict[str, Path], encoders: dict[str | float, Encoder]
) -> None:
    other = load_encoder(str(checkpoints[kind]))
    clips = [speechlike(5_000, 0), speechlike(9_000, 1)]
    for first, second in zip(collect(other, clips), collect(encoders["clip"], clips), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert other.identity()["weights_digest"] == encoders["clip"].identity()["weights_digest"]


def test_half_precision_weights_are_raised_to_fp32(tmp_path: Path) -> None:
    write_whisper_checkpoint(tmp_path, "bare", dtype=torch.float16)
    check_against_bare(load_encoder(str(tmp_path)), tmp_path, [speechlike(5_000, 0), speechlike(9_000, 1)], None)


def test_log_mel_equals_the_published_extractor(
    checkpoints: dict[str, Path], encoders: dict[str | float, Encoder]
) -> None:
    clips = [0.001 * speechlike(4_000, 0), speechlike(11_111, 1), torch.zeros(3_000)]
    windows = [math.ceil(len(clip) / FRAME) * FRAME for clip in clips]
    features = encoders["clip"]._log_mel(clips, windows)
    for clip, window, ours in zip(clips, windows, features, strict=True):
        theirs = bare_extractor(checkpoints["full"])(
            clip.numpy(), sampling_rate=16_000, return_tensors="pt", max_length=window
        ).input_features[0]
        frames = window // 160
        torch.testing.assert_close(ours[:, :frames], theirs, rtol=0, atol=2e-5)
        assert not ours[:, frames:].any()


def test_a_window_is_rounded_up_to_frames_and_told(checkpoints: dict[str, Path]) -> None:
    encoder = load_encoder(str(checkpoints["full"]), window="1.53")
    assert encoder.identity()["window"] == 1.54
    assert encoder.largest_input == 77 * FRAME


@pytest.mark.parametrize("window", ["long", 0, -1, 3.02, "nan"])
def test_an_impossible_window_is_refused(window: str | float, checkpoints: dict[str, Path]) -> None:
    with pytest.raises(EncoderError, match=r"expected 'clip' or seconds from 0\.02 to 3"):
        load_encoder(str(checkpoints["full"]), window=window)


@pytest.mark.parametrize(("window", "limit"), [("clip", 48_000), (1.0, 16_000)])
def test_a_clip_beyond_the_window_is_refused(
    window: str | float, limit: int, encoders: dict[str | float, Encoder]
) -> None:
    encoder = encoders[window]
    assert encoder.largest_input == limit
    collect(encoder, [torch.zeros(limit)])
    with pytest.raises(EncoderError, match=f"at most {limit}"):
        collect(encoder, [torch.zeros(limit + 1)])


def test_a_run_that_stops_early_has_not_passed_the_final_norm(
    checkpoints: dict[str, Path], encoders: dict[str | float, Encoder]
) -> None:
    clips = [speechlike(5_000, 0), speechlike(9_000, 1)]
    middle = load_encoder(str(checkpoints["full"]), layers="2")
    for some, everything in zip(collect(middle, clips), collect(encoders["clip"], clips), strict=True):
        assert relative_error(some[0], everything[2]) <= 1e-6


def test_real_weights_on_real_speech() -> None:
    shared = os.environ.get("EMBEDKIT_SHARED")
    if not shared:
        pytest.skip("EMBEDKIT_SHARED is not set: no real weights and speech here")
    import soundfile

    folder = Path(shared) / "encoders" / "whisper-base"
    files = sorted((Path(shared) / "data" / "emodb").rglob("*.flac"))[::150]
    clips = [torch.from_numpy(soundfile.read(file, dtype="float32")[0]) for file in files]
    check_against_bare(load_encoder(str(folder)), folder, clips, None)
