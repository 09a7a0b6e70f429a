"""What an extraction writes, and how it tells its way there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch

from embedkit.corpora.base import Corpus
from embedkit.errors import ExtractionError
from embedkit.extraction.run import run_extraction
from embedkit.extraction.windows import Windows
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import FakeEncoder, leftovers, request_for, write_clip, write_corpus


def test_every_row_equals_the_clip_encoded_alone(tmp_path: Path, corpus: Corpus) -> None:
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    with open_store(tmp_path / "s.h5") as store:
        assert store.ids.tolist() == [utterance.id for utterance in corpus.utterances]
        assert store.labels.tolist() == [utterance.label for utterance in corpus.utterances]
        for index, utterance in enumerate(corpus.utterances):
            samples, _ = soundfile.read(corpus.audio_path(utterance), dtype="float32")
            padded = torch.from_numpy(np.pad(samples, (0, max(0, 30 - len(samples)))))
            assert store.column("padded")[index] == (len(samples) < 30)
            assert store.column("duration")[index] == len(samples) / 1000
            for layer in store.layers:
                alone = encoder.one(padded, layer).numpy()
                np.testing.assert_array_equal(store.frames(index)[:, layer], alone)
                np.testing.assert_allclose(store.mean(layer)[index], alone.mean(0), rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(store.std(layer)[index], alone.std(0), rtol=1e-5, atol=1e-6)
        assert store.column("padded").sum() == 1
        assert not find_damage(store)
    assert leftovers(tmp_path) == ["s.h5"]


@pytest.mark.parametrize("changes", [{"batch_seconds": 0.1}, {"batch_seconds": 1000.0}, {"workers": 1}])
def test_batches_and_workers_change_no_bit(tmp_path: Path, corpus: Corpus, changes: dict[str, Any]) -> None:
    run_extraction(request_for(corpus, tmp_path / "a.h5"))
    run_extraction(request_for(corpus, tmp_path / "b.h5", **changes))
    with open_store(tmp_path / "a.h5") as a, open_store(tmp_path / "b.h5") as b:
        np.testing.assert_array_equal(a.mean("all"), b.mean("all"))
        np.testing.assert_array_equal(a.std("all"), b.std("all"))
        np.testing.assert_array_equal(a.frame_values, b.frame_values)


def test_equal_requests_give_equal_bytes(tmp_path: Path, corpus: Corpus) -> None:
    for name in ("a.h5", "b.h5"):
        run_extraction(request_for(corpus, tmp_path / name))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_it_is_real_batching(tmp_path: Path) -> None:
    encoder = FakeEncoder()
    run_extraction(request_for(write_corpus(tmp_path / "audio", 32), tmp_path / "s.h5", encoder, batch_seconds=24.0))
    assert len(encoder.calls) <= 6
    assert sum(map(len, encoder.calls)) == 32


def test_encoders_that_need_equal_lengths_get_them(tmp_path: Path, corpus: Corpus) -> None:
    for index in range(3):
        shutil.copy(corpus.root / "u005.wav", corpus.root / f"u{index + 6:03}.wav")
    encoder = FakeEncoder(equal_lengths=True)
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, batch_seconds=60.0))
    assert max(map(len, encoder.calls)) == 4


def test_duplicate_ids_are_refused(tmp_path: Path, corpus: Corpus) -> None:
    twice = replace(corpus, utterances=(*corpus.utterances, corpus.utterances[3]))
    with pytest.raises(ExtractionError, match="two utterances with the id 'u003'"):
        run_extraction(request_for(twice, tmp_path / "s.h5"))


@pytest.mark.parametrize(
    ("threads", "batch_seconds", "windows", "passes"),
    [(1, 4.0, None, 1), (2, 4.0, None, 2), (8, 4.0, None, 1), (8, 4.0, 0.3, 8)],
)
def test_passes_run_side_by_side_where_there_are_enough_of_them(
    tmp_path: Path, corpus: Corpus, threads: int, batch_seconds: float, windows: float | None, passes: int
) -> None:
    encoder = FakeEncoder()
    request = request_for(corpus, tmp_path / "s.h5", encoder, threads=threads, batch_seconds=batch_seconds)
    run_extraction(replace(request, windows=Windows.for_encoder(encoder, windows) if windows else None))
    assert open_store(tmp_path / "s.h5").extraction["passes"] == passes


def test_progress_begins_once_and_ends_at_the_whole(tmp_path: Path, corpus: Corpus) -> None:
    seen: list[float] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", progress=lambda done, total: seen.append(done / total)))
    assert seen == sorted(set(seen))
    assert (seen[0], round(seen[-1], 9)) == (0.0, 1.0)


def test_one_of_a_thing_is_told_in_the_singular(tmp_path: Path, corpus: Corpus) -> None:
    write_clip(corpus.root / "u000.wav", 0.02, 0)
    one, told = replace(corpus, utterances=corpus.utterances[:1]), []
    for _ in range(2):
        run_extraction(request_for(one, tmp_path / "s.h5", tell=told.append))
    assert told[0].startswith("noise with fake: 1 utterance, ")
    assert told[1].endswith("s.h5': 1 utterance, 1 was padded to the encoder's smallest input.")
    assert told[2].endswith("up to date: 1 utterance, nothing to do.")


def test_the_store_says_how_it_was_made(tmp_path: Path, corpus: Corpus) -> None:
    class Tuned(FakeEncoder):
        def identity(self) -> dict[str, Any]:
            return {**super().identity(), "trained_on": {"speakers": ["s0"], "utterances": ["u000"]}}

    run_extraction(request_for(corpus, tmp_path / "s.h5", Tuned(), selection={"where": ["a=b"], "limit": None}))
    with h5py.File(tmp_path / "s.h5") as file:
        assert json.loads(file.attrs["extraction"])["threads"] == 1
        assert json.loads(file.attrs["extraction"])["selection"] == {"where": ["a=b"], "limit": None}
    with open_store(tmp_path / "s.h5") as store:
        assert store.trained_on == {"speakers": ["s0"], "utterances": 1}
        assert "trained_on" not in store.encoder
        assert store.encoder["versions"] == {"fake": "1"}
        assert store.task == {"classes": [], "merge": {}}


def test_progress_ends_at_the_total(tmp_path: Path, corpus: Corpus) -> None:
    seen: list[tuple[float, float]] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", progress=lambda done, total: seen.append((done, total))))
    assert seen[0][0] == pytest.approx(0)
    assert seen == sorted(seen)
    assert seen[-1][0] == pytest.approx(seen[-1][1])
