"""Audio, values, memory and room that an extraction cannot use: a sentence, and nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from embedkit.audio import read_audio
from embedkit.corpora.base import Corpus
from embedkit.errors import ExtractionError, StoreError
from embedkit.extraction import encoding, shards
from embedkit.extraction.run import run_extraction
from embedkit.store import open_store
from tests.extraction.fakes import FakeEncoder, Interrupting, leftovers, no_call, request_for, write_clip


def test_a_file_that_changes_while_it_is_read_is_not_stored(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_and_change(path: Path, **options: Any) -> Any:
        samples = read_audio(path, **options)
        if path.name == "u004.wav":
            path.write_bytes(path.read_bytes() + b"more")
        return samples

    monkeypatch.setattr(encoding, "read_audio", read_and_change)
    with pytest.raises(ExtractionError, match=r"'u004' cannot be used: .* changed while it was read"):
        run_extraction(request_for(corpus, tmp_path / "s.h5"))


def spoil_clips(corpus: Corpus) -> None:
    (corpus.root / "u001.wav").unlink()
    (corpus.root / "u004.wav").write_bytes(b"RIFF")
    soundfile.write(corpus.root / "u006.wav", np.array([0.1, np.nan, 0.2], "float32"), 1000, subtype="FLOAT")


def test_a_wrong_file_is_named_before_anything_is_encoded(tmp_path: Path, corpus: Corpus) -> None:
    spoil_clips(corpus)
    encoder = FakeEncoder()
    with pytest.raises(ExtractionError, match=r"'u001' cannot be used: .*--on-error skip"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    write_clip(corpus.root / "u001.wav", 1.0, 1)
    with pytest.raises(ExtractionError, match="'u004' cannot be used"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert no_call(encoder)
    assert leftovers(tmp_path) == []
    write_clip(corpus.root / "u004.wav", 1.0, 4)
    with pytest.raises(ExtractionError, match=r"'u006' cannot be used: .*NaN"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert encoder.calls
    assert leftovers(tmp_path) == ["s.h5.work"]


def test_wrong_files_are_skipped_counted_and_listed(tmp_path: Path, corpus: Corpus) -> None:
    spoil_clips(corpus)
    told: list[str] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", on_error="skip", tell=told.append))
    assert "9 utterances, 3 could not be used" in told[-1]
    with open_store(tmp_path / "s.h5") as store:
        assert list(store.failures) == ["u001", "u004", "u006"]
        assert "NaN" in store.failures["u006"]
        assert len(store) == 9
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, on_error="skip", tell=told.append))
    assert no_call(encoder)
    assert "up to date" in told[-1]
    for index in (1, 4, 6):
        write_clip(corpus.root / f"u{index:03}.wav", 1.0, index)
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert sum(map(len, encoder.calls)) == 3
    assert len(open_store(tmp_path / "s.h5")) == 12
    assert not open_store(tmp_path / "s.h5").failures


def test_nothing_usable_is_an_error(tmp_path: Path, corpus: Corpus) -> None:
    for path in corpus.root.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ExtractionError, match=r"Of 12 utterances not one can be used \(u000: .*empty"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", on_error="skip"))
    assert leftovers(tmp_path) == []
    with pytest.raises(ExtractionError, match="'noise' has no utterances"):
        run_extraction(request_for(replace(corpus, utterances=()), tmp_path / "s.h5"))


class Spoiled(FakeEncoder):
    """Gives a value that cannot be kept, in layer 1 of clips of 500 samples."""

    value = float("nan")

    def one(self, wave: torch.Tensor, position: int) -> torch.Tensor:
        values = super().one(wave, position)
        if position == 1 and len(wave) == 500:
            values[3, 2] = self.value
        return values


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_embeddings_that_are_not_finite_are_never_stored(tmp_path: Path, corpus: Corpus, value: float) -> None:
    write_clip(corpus.root / "u007.wav", 0.5, 1)
    encoder = Spoiled()
    encoder.value = value
    with pytest.raises(ExtractionError, match="'u007' cannot be used: Its embedding is not finite in layers 1"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, on_error="skip"))
    with open_store(tmp_path / "s.h5") as store:
        assert list(store.failures) == ["u007"]
        assert np.isfinite(store.frame_values).all()


def test_a_value_beyond_float16_names_the_option(tmp_path: Path, corpus: Corpus) -> None:
    write_clip(corpus.root / "u007.wav", 0.5, 1)
    encoder = Spoiled()
    encoder.value = 70000.0
    with pytest.raises(ExtractionError, match=r"'u007' has frame values beyond .* --frame-dtype float32"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, frame_dtype="float16"))


def test_too_little_memory_names_the_options(tmp_path: Path, corpus: Corpus) -> None:
    encoder = Interrupting(1, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(ExtractionError, match=r"--batch-seconds.*--max-seconds"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))


def test_too_little_room_is_told_before_the_start(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=2000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    encoder = FakeEncoder()
    with pytest.raises(ExtractionError, match=r"Too little room .* are needed and 2.0 kB are free"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert no_call(encoder)


def full_disk(*_: Any) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("place", ["shard", "reserve", "values"])
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    with monkeypatch.context() as patch:
        if place == "shard":
            patch.setattr(shards.ShardWriter, "finish", full_disk)
        elif place == "reserve":
            patch.setattr(os, "posix_fallocate", full_disk)
        else:
            patch.setattr(os, "pwrite", full_disk)
        with pytest.raises(
            StoreError, match=r"Too little room .*No space left.* are needed and .* are free; make room"
        ):
            run_extraction(request_for(corpus, tmp_path / "s.h5"))
    assert leftovers(tmp_path) == ["s.h5.work"]
    assert not list((tmp_path / "s.h5.work").glob("*.part"))
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert no_call(encoder) == (place != "shard")
    run_extraction(request_for(corpus, tmp_path / "fresh.h5"))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()
