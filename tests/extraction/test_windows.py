"""Windows cover a long clip exactly; where the encoder looks no further than its frame, they change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st

from embedkit.corpora.base import Corpus, Utterance
from embedkit.errors import ExtractionError
from embedkit.extraction.run import run_extraction
from embedkit.extraction.windows import Windows
from embedkit.store import open_store
from tests.extraction.fakes import HOP, RATE, FakeEncoder, request_for, write_clip


@given(st.integers(1, 60_000), st.integers(10, 60))
def test_kept_frames_are_all_frames_in_order(samples: int, frames: int) -> None:
    encoder = FakeEncoder()
    windows = Windows.for_encoder(encoder, frames * HOP / RATE)
    assert windows is not None
    kept: list[int] = []
    for window in windows.cut(samples):
        count = encoder.frame_count(window.end - window.start)
        assert window.end - window.start <= frames * HOP
        assert window.start % HOP == 0
        kept += [window.start // HOP + index for index in range(count)][window.first : window.last]
    assert kept == list(range(encoder.frame_count(samples)))


@pytest.mark.parametrize("dtype", [None, "float32"])
@pytest.mark.parametrize("equal_lengths", [False, True])
def test_a_long_clip_equals_the_whole_pass(tmp_path: Path, dtype: str | None, equal_lengths: bool) -> None:
    write_clip(tmp_path / "long.wav", 7.77, 3)
    write_clip(tmp_path / "short.wav", 1.0, 4)
    utterances = (
        Utterance(id="long", path="long.wav", label="a"),
        Utterance(id="part", path="long.wav", label="a", start=0.5, end=6.5),
        Utterance(id="short", path="short.wav", label="b"),
    )
    corpus = Corpus(name="c", kind="manifest", root=tmp_path, utterances=utterances)
    encoder = FakeEncoder(largest_input=1500, equal_lengths=equal_lengths)
    windows = Windows.for_encoder(encoder, None)
    levels = ("utterance", "frame") if dtype else ("utterance",)
    run_extraction(
        request_for(corpus, tmp_path / "w.h5", encoder, windows=windows, levels=levels, frame_dtype=dtype or "float32")
    )
    assert max(max(call) for call in encoder.calls) <= 1500
    whole, _ = soundfile.read(tmp_path / "long.wav", dtype="float32")
    pieces = {
        "long": whole,
        "part": whole[500:6500],
        "short": soundfile.read(tmp_path / "short.wav", dtype="float32")[0],
    }
    with open_store(tmp_path / "w.h5") as store:
        for index, name in enumerate(store.ids.tolist()):
            expected = encoder.one(torch.from_numpy(pieces[name]), 2).numpy()
            np.testing.assert_allclose(store.mean(2)[index], expected.mean(0), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(store.std(2)[index], expected.std(0), rtol=1e-5, atol=1e-6)
            assert store.column("duration")[index] == len(pieces[name]) / RATE
            if dtype:
                np.testing.assert_allclose(store.frames(index)[:, 2], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "seconds", "words"),
    [
        (FakeEncoder(), 0.1, "too short"),
        (FakeEncoder(largest_input=1500), 2.0, "is more than the 1.5 s"),
    ],
)
def test_windows_that_cannot_be_are_refused(encoder: Any, seconds: float, words: str) -> None:
    with pytest.raises(ExtractionError, match=words):
        Windows.for_encoder(encoder, seconds)


def test_frames_between_samples_cannot_be_cut() -> None:
    encoder = FakeEncoder()
    encoder.frame_rate = 33.3
    with pytest.raises(ExtractionError, match="between samples"):
        Windows.for_encoder(encoder, 1.0)


def test_windows_are_part_of_the_fingerprint(tmp_path: Path) -> None:
    corpus = Corpus(name="c", kind="manifest", root=tmp_path, utterances=())
    encoder = FakeEncoder()
    found = {
        request_for(corpus, tmp_path / "a.h5", encoder, windows=Windows.for_encoder(encoder, seconds)).fingerprint
        for seconds in (None, 1.0, 2.0)
    }
    assert len(found) == 3


def test_by_default_the_encoder_says_how_long_a_window_is() -> None:
    encoder = FakeEncoder()
    assert Windows.for_encoder(encoder, None) is None
    encoder.default_max_seconds = 2.0
    windows = Windows.for_encoder(encoder, None)
    assert windows is not None
    assert windows.describe()["seconds"] == 2.0
    encoder.largest_input = 1500
    limited = Windows.for_encoder(encoder, None)
    assert limited is not None
    assert limited.describe()["seconds"] == 1.5
    asked = Windows.for_encoder(encoder, 1.0)
    assert asked is not None
    assert asked.describe()["seconds"] == 1.0
