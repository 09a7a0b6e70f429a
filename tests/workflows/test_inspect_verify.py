"""Looking into a store, and checking it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from embedkit.corpora.base import Corpus
from embedkit.errors import StoreError
from embedkit.extraction.run import run_extraction
from embedkit.store import open_store
from embedkit.store.reader import Store
from embedkit.workflows.inspect import describe_store
from embedkit.workflows.verify import verify_store
from tests.extraction.fakes import request_for, write_clip, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    made = write_corpus(tmp_path / "audio")
    return replace(made, utterances=tuple(replace(one, session="1") for one in made.utterances))


@pytest.fixture
def store(tmp_path: Path, corpus: Corpus) -> Store:
    (corpus.root / "u002.wav").unlink()
    run_extraction(request_for(corpus, tmp_path / "s.h5", on_error="skip"))
    return open_store(tmp_path / "s.h5")


def test_a_description_counts_what_is_there(store: Store) -> None:
    described = describe_store(store.path)
    assert (described.utterances, described.speakers, described.sessions, described.padded) == (11, 3, 1, 1)
    assert described.labels == {"joy": 6, "anger": 5}
    assert described.hours == pytest.approx(store.column("duration").sum() / 3600)
    assert described.size == store.path.stat().st_size
    assert list(described.failures) == ["u002"]


def test_a_description_is_text_of_80_columns(store: Store) -> None:
    text = str(describe_store(store.path))
    assert all(len(line) <= 80 for line in text.splitlines()[1:])
    for words in ("noise (manifest)", "fake", "0-2, 4 dimensions each, 50 frames a second", "joy 6, anger 5", "u002: "):
        assert words in text


def test_a_whole_store_is_well(store: Store) -> None:
    report = verify_store(store.path, audio=True)
    assert report.ok
    assert report.changed_audio == ()
    assert "all is well" in str(report)
    assert "as they were" in str(report)


def test_changed_and_missing_audio_is_named(store: Store, corpus: Corpus) -> None:
    write_clip(corpus.root / "u003.wav", 1.0, 77)
    (corpus.root / "u005.wav").unlink()
    assert verify_store(store.path).ok
    report = verify_store(store.path, audio=True)
    assert not report.ok
    assert report.changed_audio == ("u003", "u005")
    assert "Audio changed or missing: u003, u005" in str(report)


def test_damaged_utterances_are_named(store: Store) -> None:
    place = store.frame_values.nbytes // 2
    row = place // (store.frame_values.nbytes // len(store.frame_values))
    owner = store.ids[(store.frame_offsets > row).argmax() - 1]
    data = bytearray(store.path.read_bytes())
    data[data.find(store.frame_values.tobytes()) + place] ^= 4
    store.path.write_bytes(data)
    report = verify_store(store.path)
    assert report.damaged_utterances == (owner,)
    assert f"Damaged embeddings: {owner}." in str(report)
    assert "not all is well" in str(report)


def test_a_truncated_store_is_one_sentence(store: Store) -> None:
    store.path.write_bytes(store.path.read_bytes()[:-1])
    with pytest.raises(StoreError, match="truncated"):
        verify_store(store.path)
