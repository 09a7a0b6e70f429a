"""Floats in the scale of 16 bits: refused, or with --rescale the same embeddings as in their usual scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.errors import AudioError, EmbedkitError
from embedkit.reporting.report.commands import list_commands
from embedkit.workflows.inspect import describe_store
from tests.workflows.tones import RATE, fit_tones, write_tones


def write_loud(source: Path, place: Path) -> Path:
    """Write a clip again as floats in the scale of 16 bits."""
    samples, _ = soundfile.read(source, dtype="float32")
    soundfile.write(place, samples * 32_768, RATE, subtype="FLOAT")
    return place


def test_a_store_says_that_it_was_rescaled_and_its_heads_hear_clips_so(tmp_path: Path) -> None:
    usual, corpus = write_tones(tmp_path / "usual"), write_tones(tmp_path / "corpus")
    manifest = corpus / "corpus.csv"
    for clip in sorted(corpus.glob("*.wav"))[:8]:
        write_loud(clip, clip)
    with pytest.raises(EmbedkitError, match="give --rescale to extract"):
        embedkit.extract(manifest, encoder="mfcc", out=tmp_path / "refused.h5", progress=False)
    extract = {"rescale": True, "max_seconds": 0.35}
    record = fit_tones(corpus, "mfcc", head=["linear"], extract=extract)
    plain = embedkit.extract(usual / "corpus.csv", encoder="mfcc", max_seconds=0.35, out=tmp_path / "plain.h5")
    with embedkit.open_store(tmp_path / "store.h5") as store, plain:
        assert store.extraction["options"]["rescale"] is True
        assert "rescale" not in plain.extraction["options"]
        assert store.fingerprint != plain.fingerprint
        assert store.column("audio_digest").tolist() == plain.column("audio_digest").tolist()
        np.testing.assert_array_equal(store.mean(0), plain.mean(0))
    assert "rescaled (--rescale)" in str(describe_store(tmp_path / "store.h5"))
    assert any("--rescale" in command for command in list_commands([record], "runs"))
    loud, right = embedkit.predict(record, [corpus / "00.wav", usual / "00.wav"])
    assert loud.probabilities == right.probabilities


def test_predict_rescales_where_asked(tmp_path: Path) -> None:
    corpus = write_tones(tmp_path / "corpus")
    record = fit_tones(corpus, "mfcc", head=["linear"], seeds=1)
    loud = write_loud(corpus / "00.wav", tmp_path / "loud.wav")
    with pytest.raises(AudioError, match="--rescale"):
        embedkit.predict(record, loud)
    (found,) = embedkit.predict(record, loud, rescale=True)
    (expected,) = embedkit.predict(record, corpus / "00.wav")
    assert found.probabilities == expected.probabilities
