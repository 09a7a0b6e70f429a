"""What a store that is there is good for: kept, brought up to date, or refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile

from embedkit.corpora.base import Corpus, Task
from embedkit.encoders.base import NORMED_STATE
from embedkit.errors import ExtractionError, StoreError
from embedkit.extraction import compare
from embedkit.extraction.run import run_extraction
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import FakeEncoder, leftovers, no_call, request_for, write_clip, write_corpus


def test_a_second_run_returns_at_once_and_says_so(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    before = (tmp_path / "s.h5").stat()
    encoder, told = FakeEncoder(), []
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, tell=told.append))
    assert no_call(encoder)
    assert ["is up to date" in sentence for sentence in told] == [True]
    assert (tmp_path / "s.h5").stat() == before


def test_touched_files_are_compared_by_their_digests(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    for path in corpus.root.iterdir():
        os.utime(path, (1, 1))
    encoder, told = FakeEncoder(), []
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, tell=told.append))
    assert no_call(encoder)
    assert "is up to date" in told[-1]


def test_only_changed_added_and_removed_files_make_work(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    write_clip(corpus.root / "u003.wav", 1.0, 99)
    write_clip(corpus.root / "new.wav", 0.7, 98)
    new = replace(corpus.utterances[0], id="new", path="new.wav", label="calm")
    changed = replace(corpus, utterances=(*corpus.utterances[:5], *corpus.utterances[6:], new))
    encoder, told = FakeEncoder(), []
    run_extraction(request_for(changed, tmp_path / "s.h5", encoder, tell=told.append))
    assert sorted(length for call in encoder.calls for length in call) == [700, 1000]
    assert "10 utterances reused, 2 new, 1 removed." in told
    run_extraction(request_for(changed, tmp_path / "whole.h5"))
    with open_store(tmp_path / "s.h5") as store, open_store(tmp_path / "whole.h5") as whole:
        assert store.ids.tolist() == whole.ids.tolist()
        for name in store.columns:
            np.testing.assert_array_equal(store.column(name), whole.column(name))
        np.testing.assert_array_equal(store.mean("all"), whole.mean("all"))
        np.testing.assert_array_equal(store.frame_values, whole.frame_values)
        assert not find_damage(store)


@pytest.mark.parametrize(
    "change",
    [
        lambda corpus: replace(
            corpus, utterances=(replace(corpus.utterances[0], label="calm"), *corpus.utterances[1:])
        ),
        lambda corpus: replace(corpus, task=Task(classes=("joy",), merge={"anger": "joy"})),
        lambda corpus: replace(
            corpus, utterances=tuple(replace(one, columns={"text": "Ja", "age": 3.0}) for one in corpus.utterances)
        ),
    ],
)
def test_changed_labels_are_taken_over_without_encoding(
    tmp_path: Path, corpus: Corpus, change: Callable[[Corpus], Corpus]
) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    changed, encoder = change(corpus), FakeEncoder()
    run_extraction(request_for(changed, tmp_path / "s.h5", encoder))
    run_extraction(request_for(changed, tmp_path / "fresh.h5"))
    assert no_call(encoder)
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()
    assert leftovers(tmp_path) == ["fresh.h5", "s.h5"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"encoder": FakeEncoder(gain=2.0)}, "differing in weights digest"),
        ({"levels": ("utterance",)}, "differing in frame dtype, levels"),
        ({"frame_dtype": "float16"}, "differing in frame dtype"),
    ],
)
def test_other_options_at_the_same_path_are_an_error(
    tmp_path: Path, corpus: Corpus, changes: dict[str, Any], words: str
) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    with pytest.raises(ExtractionError, match=f"{words}.*--out.*--overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", **changes))
    run_extraction(request_for(corpus, tmp_path / "s.h5", **changes, overwrite=True))
    run_extraction(request_for(corpus, tmp_path / "fresh.h5", **changes))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_smaller_selection_does_not_shrink_a_store(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    few = replace(corpus, utterances=corpus.utterances[:3])
    with pytest.raises(ExtractionError, match=r"holds 12 utterances, of which this selection would leave 3.*--out"):
        run_extraction(request_for(few, tmp_path / "s.h5", selection={"limit": 3}))
    assert len(open_store(tmp_path / "s.h5")) == 12


def test_a_larger_selection_adds_to_a_store(tmp_path: Path, corpus: Corpus) -> None:
    few = replace(corpus, utterances=corpus.utterances[:3])
    run_extraction(request_for(few, tmp_path / "s.h5", selection={"limit": 3}))
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert sum(map(len, encoder.calls)) == 9


def test_another_corpus_at_the_same_path_is_an_error(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    with pytest.raises(ExtractionError, match="the corpus: 'noise', not 'other'"):
        run_extraction(request_for(replace(corpus, name="other"), tmp_path / "s.h5"))


def test_a_damaged_store_is_told_and_can_be_replaced(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    (tmp_path / "s.h5").write_bytes((tmp_path / "s.h5").read_bytes()[:-50])
    with pytest.raises(StoreError, match=r"truncated.*--overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5"))
    run_extraction(request_for(corpus, tmp_path / "s.h5", overwrite=True))
    assert not find_damage(open_store(tmp_path / "s.h5"))


def spoil_rows(path: Path) -> None:
    """Change one value of the means of the fourth utterance, u003."""
    with h5py.File(path) as file:
        place = file["utterance/mean"].id.get_offset() + file["utterance/mean"][:3].nbytes
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def with_another(corpus: Corpus) -> Corpus:
    write_clip(corpus.root / "new.wav", 0.7, 98)
    new = replace(corpus.utterances[0], id="new", path="new.wav")
    return replace(corpus, utterances=(*corpus.utterances, new))


def test_a_store_with_damaged_values_is_not_up_to_date(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    spoil_rows(tmp_path / "s.h5")
    damaged = (tmp_path / "s.h5").read_bytes()
    for wanted in (corpus, with_another(corpus)):
        with pytest.raises(StoreError, match=r"is damaged \(u003\); extract again with --overwrite"):
            run_extraction(request_for(wanted, tmp_path / "s.h5"))
    assert (tmp_path / "s.h5").read_bytes() == damaged
    run_extraction(request_for(corpus, tmp_path / "s.h5", overwrite=True))
    assert not find_damage(open_store(tmp_path / "s.h5"))


def test_damaged_values_of_a_large_store_get_no_new_digests(
    tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    spoil_rows(tmp_path / "s.h5")
    monkeypatch.setattr(compare, "QUICKLY_CHECKED_BYTES", 0)
    told: list[str] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", tell=told.append))
    assert "is up to date" in told[-1]
    with pytest.raises(StoreError, match=r"is damaged \(u003\); extract again with --overwrite"):
        run_extraction(request_for(with_another(corpus), tmp_path / "s.h5"))
    assert find_damage(open_store(tmp_path / "s.h5")).utterances == ("u003",)


def test_a_store_that_grows_keeps_its_passes(tmp_path: Path, corpus: Corpus) -> None:
    smaller = replace(corpus, utterances=corpus.utterances[:-1])
    run_extraction(request_for(smaller, tmp_path / "s.h5", threads=2))
    run_extraction(request_for(corpus, tmp_path / "s.h5", threads=2))
    assert open_store(tmp_path / "s.h5").extraction["passes"] == 2


class MovedEncoder(FakeEncoder):
    """The same weights under another name, from another place, with other libraries."""

    name = "moved"

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "source": "elsewhere", "revision": "abc", "versions": {"fake": "2"}}


class NamelessEncoder(FakeEncoder):
    """No weights to tell it by: its name counts."""

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "weights_digest": None, "name": self.name}


def test_the_same_weights_found_elsewhere_are_the_same_encoder(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    run_extraction(request_for(corpus, tmp_path / "store.h5"))
    moved = MovedEncoder()
    run_extraction(request_for(corpus, tmp_path / "store.h5", moved))
    assert not moved.calls
    with pytest.raises(ExtractionError, match="differing in weights digest"):
        run_extraction(request_for(corpus, tmp_path / "store.h5", MovedEncoder(gain=2.0)))


class Normed(FakeEncoder):
    def identity(self) -> dict[str, Any]:
        return super().identity() | {"last_layer": NORMED_STATE}


def test_a_store_whose_last_layer_lacks_the_norm_is_told_and_stays_readable(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    with pytest.raises(ExtractionError, match=r"its last layer lacks the encoder's final norm; .* with --overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Normed()))
    with open_store(tmp_path / "s.h5") as store:
        assert len(store) == len(corpus.utterances)
    run_extraction(request_for(corpus, tmp_path / "s.h5", Normed(), overwrite=True))
    with open_store(tmp_path / "s.h5") as store:
        assert store.encoder["last_layer"] == NORMED_STATE


def test_without_weights_the_name_counts(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    first, second = NamelessEncoder(), NamelessEncoder()
    second.name = "other"
    requests = [request_for(corpus, tmp_path / "store.h5", encoder) for encoder in (first, second)]
    assert requests[0].fingerprint != requests[1].fingerprint


def test_a_corpus_elsewhere_is_not_taken_for_the_same_by_sizes_and_times(tmp_path: Path) -> None:
    first = write_corpus(tmp_path / "first", 3)
    out = tmp_path / "store.h5"
    run_extraction(request_for(first, out))
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    changed = tmp_path / "second" / "u001.wav"
    stamp = changed.stat()
    samples, rate = soundfile.read(changed, dtype="float32")
    soundfile.write(changed, -samples, rate, subtype="FLOAT")
    os.utime(changed, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert changed.stat().st_size == stamp.st_size
    before = open_store(out).mean(layer="all")
    encoder = FakeEncoder()
    run_extraction(request_for(replace(first, root=tmp_path / "second"), out, encoder))
    assert [len(call) for call in encoder.calls] == [1]
    np.testing.assert_allclose(open_store(out).mean(layer="all")[1], -before[1], rtol=1e-5, atol=1e-6)


def test_a_store_takes_the_form_that_is_asked_for_and_keeps_it_without_encoding_again(
    tmp_path: Path, corpus: Corpus
) -> None:
    out = tmp_path / "s.h5"
    run_extraction(request_for(corpus, out))
    whole = out.read_bytes()
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, out, encoder, max_file_gb=1e-5))
    split = open_store(out)
    assert len(split.shards) > 1
    assert max(path.stat().st_size for path in split.shards) < 1e4 + 16_000
    assert not find_damage(split)
    told: list[str] = []
    run_extraction(request_for(corpus, out, encoder, tell=told.append))
    run_extraction(request_for(corpus, out, encoder, max_file_gb=1e-5, tell=told.append))
    assert ["is up to date" in sentence for sentence in told] == [True, True]
    fewer_labels = replace(corpus, utterances=tuple(replace(one, label="calm") for one in corpus.utterances))
    run_extraction(request_for(fewer_labels, out, encoder))
    assert open_store(out).shards == split.shards
    assert set(open_store(out).labels) == {"calm"}
    run_extraction(request_for(corpus, out, encoder, max_file_gb=1.0))
    assert no_call(encoder)
    with open_store(out) as single:
        assert single.extraction["max_file_gb"] == 1.0
        np.testing.assert_array_equal(single.mean("all"), split_means(whole, tmp_path))
    assert leftovers(tmp_path) == ["before.h5", "s.h5"]


def split_means(data: bytes, folder: Path) -> Any:
    (folder / "before.h5").write_bytes(data)
    return open_store(folder / "before.h5").mean("all")


def test_a_split_store_that_gains_files_encodes_only_those(tmp_path: Path, corpus: Corpus) -> None:
    few = replace(corpus, utterances=corpus.utterances[:7])
    run_extraction(request_for(few, tmp_path / "s.h5", max_file_gb=1e-5))
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder))
    assert sum(map(len, encoder.calls)) == 5
    run_extraction(request_for(corpus, tmp_path / "fresh" / "s.h5", max_file_gb=1e-5))
    ours, fresh = open_store(tmp_path / "s.h5"), open_store(tmp_path / "fresh" / "s.h5")
    assert [path.name for path in ours.shards] == [path.name for path in fresh.shards]
    assert ours.digest == fresh.digest
