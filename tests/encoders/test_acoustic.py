"""MFCC and log-mel against librosa called directly, alone and in batches."""

import json
import warnings

import librosa
import numpy as np
import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.encoders.acoustic import AcousticEncoder, LogMelEncoder, MfccEncoder
from tests.encoders.single_layer import encode, speechlike

ENCODERS = (MfccEncoder("mfcc"), LogMelEncoder("logmel"))
STFT = {"sr": 16_000, "n_fft": 512, "hop_length": 320, "win_length": 400}


@pytest.mark.parametrize("samples", [2560, 16_000, 50_001])
def test_mfcc_is_librosas_with_deltas_and_delta_deltas(samples: int) -> None:
    clip = speechlike(samples)
    mfcc = librosa.feature.mfcc(y=clip.numpy(), n_mfcc=13, n_mels=40, **STFT)
    expected = np.concatenate([mfcc, librosa.feature.delta(mfcc), librosa.feature.delta(mfcc, order=2)]).T
    (values,) = encode(ENCODERS[0], [clip])
    np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize("samples", [512, 16_000, 50_001])
def test_logmel_is_librosas(samples: int) -> None:
    clip = speechlike(samples)
    expected = librosa.power_to_db(librosa.feature.melspectrogram(y=clip.numpy(), n_mels=64, **STFT)).T
    (values,) = encode(ENCODERS[1], [clip])
    np.testing.assert_array_equal(values, expected)


LIKE_LIBROSA = {
    "n_fft": 512,
    "win_length": 400,
    "hop_length": 320,
    "pad_mode": "constant",
    "norm": "slaney",
    "mel_scale": "slaney",
}
"""torchaudio's own conventions are HTK's scale, filters of one height, and ends that are mirrored."""


@pytest.mark.parametrize("samples", [512, 16_000, 50_001])
def test_logmel_and_mfcc_are_torchaudios_under_librosas_conventions(samples: int) -> None:
    clip = speechlike(samples)
    bands = torchaudio.transforms.MelSpectrogram(16_000, n_mels=64, **LIKE_LIBROSA)(clip)
    logmel = torchaudio.transforms.AmplitudeToDB("power", top_db=80)(bands).T
    mfcc = torchaudio.transforms.MFCC(16_000, 13, melkwargs={"n_mels": 40, **LIKE_LIBROSA})(clip)
    # In decibels, of single precision: both sum the same products in another order.
    np.testing.assert_allclose(encode(ENCODERS[1], [clip])[0], logmel, atol=5e-4)
    values = encode(ENCODERS[0], [clip])[0]
    np.testing.assert_allclose(values[:, :13], mfcc.T, atol=5e-4)
    # The slope over nine frames; the ends, of four frames each, are continued by other rules. Second deltas are fits of
    # a parabola here, and slopes of slopes there.
    deltas = torchaudio.functional.compute_deltas(mfcc, win_length=9).T
    np.testing.assert_allclose(values[4:-4, 13:26], deltas[4:-4], atol=5e-4)


def test_clips_too_short_for_the_delta_window_are_continued_with_their_end_frames() -> None:
    clip = speechlike(2000)
    mfcc = librosa.feature.mfcc(y=clip.numpy(), n_mfcc=13, n_mels=40, **STFT)
    continued = np.pad(mfcc, ((0, 0), (4, 4)), mode="edge")
    (values,) = encode(ENCODERS[0], [clip])
    for order, columns in ((1, slice(13, 26)), (2, slice(26, 39))):
        expected = librosa.feature.delta(np.pad(continued, ((0, 0), (9, 9)), mode="edge"), order=order)[:, 13:-13]
        np.testing.assert_allclose(values[:, columns], expected.T, rtol=1e-4, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=5))
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_a_clip_never_depends_on_its_batch(encoder: AcousticEncoder, lengths: list[int]) -> None:
    clips = [speechlike(samples, seed) for seed, samples in enumerate(lengths)]
    for clip, values in zip(clips, encode(encoder, clips), strict=True):
        assert len(values) == encoder.frame_count(len(clip))
        np.testing.assert_array_equal(values, encode(encoder, [clip])[0])


@pytest.mark.parametrize("samples", [1, 160, 511, 512, 2559, 16_000])
@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_silence_and_tiny_clips_are_finite_and_raise_no_warning(encoder: AcousticEncoder, samples: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for clip in (torch.zeros(samples), torch.ones(samples), speechlike(samples)):
            (values,) = encode(encoder, [clip])
            assert np.isfinite(values).all()
            assert len(values) == encoder.frame_count(samples)


def test_a_short_clip_is_one_padded_to_the_smallest_input() -> None:
    clip = speechlike(300)
    padded = torch.cat([clip, torch.zeros(212)])
    for encoder in ENCODERS:
        np.testing.assert_array_equal(encode(encoder, [clip])[0], encode(encoder, [padded])[0])


def test_the_study_s_head_and_both_levels_are_the_default() -> None:
    assert [encoder.default_head for encoder in ENCODERS] == ["lstm", "cnn"]
    for encoder in ENCODERS:
        assert encoder.default_levels == ("utterance", "frame")
        assert encoder.default_frame_dtype == "float32"
        assert encoder.layers == (0,)


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
def test_identity_is_json_and_complete(encoder: AcousticEncoder) -> None:
    identity = json.loads(json.dumps(encoder.identity()))
    for key in ("name", "family", "layers", "sampling_rate", "frame_rate", "dimensions", "window", "versions"):
        assert identity[key], key
    assert {"source", "revision", "weights_digest", "normalisation", "precision"} <= identity.keys()


@pytest.mark.parametrize("encoder", ENCODERS, ids=lambda encoder: encoder.name)
@pytest.mark.parametrize("level", [1e19, 3e38])
def test_absurdly_loud_samples_give_values_that_are_not_finite_and_no_error(
    encoder: AcousticEncoder, level: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        quiet, loud = encode(encoder, [speechlike(4000), torch.full((8000,), level)])
    assert np.isfinite(quiet).all()
    assert not np.isfinite(loud).all()
