"""What an extraction leaves behind, whatever happened before it."""

from __future__ import annotations

import errno
import json
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
import torch

from embedkit.audio import read_audio
from embedkit.corpora.base import Corpus, Task
from embedkit.errors import ExtractionError, StoreError
from embedkit.extraction import compare, encoding, shards
from embedkit.extraction.lock import locked
from embedkit.extraction.run import run_extraction
from embedkit.extraction.shards import ShardReader
from embedkit.extraction.windows import Windows
from embedkit.store import find_damage, open_store
from tests.extraction.fakes import FakeEncoder, request_for, write_clip, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "audio")


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "audio")


def no_call(encoder: FakeEncoder) -> bool:
    return not encoder.calls


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


def test_duplicate_ids_are_refused(tmp_path: Path, corpus: Corpus) -> None:
    twice = replace(corpus, utterances=(*corpus.utterances, corpus.utterances[3]))
    with pytest.raises(ExtractionError, match="two utterances with the id 'u003'"):
        run_extraction(request_for(twice, tmp_path / "s.h5"))


class Interrupting(FakeEncoder):
    """Stops the extraction in the n-th batch."""

    def __init__(self, after: int, error: BaseException) -> None:
        super().__init__()
        self.after, self.error = after, error

    def encode(self, waveforms: Any, sink: Any) -> None:
        if len(self.calls) == self.after:
            raise self.error
        super().encode(waveforms, sink)


@pytest.mark.parametrize("changes", [{"batch_seconds": 9.0}, {"shard_seconds": 9.0}, {"threads": 2}])
def test_ctrl_c_says_how_to_continue_and_continuing_gives_the_same_bytes(
    tmp_path: Path, corpus: Corpus, changes: dict[str, Any]
) -> None:
    with pytest.raises(ExtractionError, match=r"Stopped; \d+ of 12 utterances .* same command again"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    assert leftovers(tmp_path) == ["s.h5.work"]
    encoder, told = FakeEncoder(), []
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, tell=told.append, **changes))
    run_extraction(request_for(corpus, tmp_path / "fresh.h5"))
    assert any("Continuing with the batches of 4 s, the shards of 2 s and the 1 thread" in one for one in told)
    assert any("Continuing: " in sentence for sentence in told)
    assert 0 < sum(map(len, encoder.calls)) < 12
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_an_unfinished_extraction_with_other_options_is_not_mixed_in(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    other = FakeEncoder(gain=3.0)
    with pytest.raises(ExtractionError, match=r"unfinished extraction.*--overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", other))
    run_extraction(request_for(corpus, tmp_path / "s.h5", other, overwrite=True))
    run_extraction(request_for(corpus, tmp_path / "fresh.h5", FakeEncoder(gain=3.0)))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


def test_a_plan_of_another_version_is_told_and_replaced(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    plan = tmp_path / "s.h5.work" / "plan.json"
    plan.write_text(plan.read_text().replace('"version": 2', '"version": 1'))
    with pytest.raises(ExtractionError, match=r"cannot be read \(another version\); start again with --overwrite"):
        run_extraction(request_for(corpus, tmp_path / "s.h5"))
    run_extraction(request_for(corpus, tmp_path / "s.h5", overwrite=True))
    assert leftovers(tmp_path) == ["s.h5"]


def test_what_another_version_left_beside_a_finished_store_is_let_alone(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    (tmp_path / "s.h5.work").mkdir()
    (tmp_path / "s.h5.work" / "plan.json").write_text('{"version": 1}')
    told: list[str] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", tell=told.append))
    assert "up to date" in told[0]


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


def test_a_store_that_grows_keeps_its_passes(tmp_path: Path, corpus: Corpus) -> None:
    smaller = replace(corpus, utterances=corpus.utterances[:-1])
    run_extraction(request_for(smaller, tmp_path / "s.h5", threads=2))
    run_extraction(request_for(corpus, tmp_path / "s.h5", threads=2))
    assert open_store(tmp_path / "s.h5").extraction["passes"] == 2


def test_progress_begins_once_and_ends_at_the_whole(tmp_path: Path, corpus: Corpus) -> None:
    seen: list[float] = []
    run_extraction(request_for(corpus, tmp_path / "s.h5", progress=lambda done, total: seen.append(done / total)))
    assert seen == sorted(set(seen))
    assert (seen[0], round(seen[-1], 9)) == (0.0, 1.0)


def test_overwriting_continues_too(tmp_path: Path, corpus: Corpus) -> None:
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt()), overwrite=True))
    encoder = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, overwrite=True))
    assert 0 < sum(map(len, encoder.calls)) < 12
    assert leftovers(tmp_path) == ["s.h5"]


def test_a_corpus_that_changed_meanwhile_is_noticed_when_continuing(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    for index in range(12):
        if index % 2:
            write_clip(corpus.root / f"u{index:03}.wav", 0.5, 50 + index)
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    run_extraction(request_for(corpus, tmp_path / "fresh.h5"))
    with open_store(tmp_path / "s.h5") as store, open_store(tmp_path / "fresh.h5") as fresh:
        np.testing.assert_array_equal(store.frame_values, fresh.frame_values)
        np.testing.assert_array_equal(store.column("digest"), fresh.column("digest"))


def test_an_utterance_that_left_meanwhile_leaves_the_finished_shards_too(tmp_path: Path, corpus: Corpus) -> None:
    stopped = request_for(corpus, tmp_path / "s.h5", Interrupting(5, KeyboardInterrupt()), shard_seconds=5.0)
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(stopped)
    shard = next(ShardReader(path) for path in (tmp_path / "s.h5.work").glob("*.shard"))
    assert len(shard.entries) > 1
    gone = shard.entries[0].segment.id
    fewer = replace(corpus, utterances=tuple(one for one in corpus.utterances if one.id != gone))
    run_extraction(request_for(fewer, tmp_path / "s.h5"))
    assert open_store(tmp_path / "s.h5").ids.tolist() == [one.id for one in fewer.utterances]


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


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_shard_is_done_again(tmp_path: Path, corpus: Corpus, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    path = next((tmp_path / "s.h5.work").glob("*.shard"))
    path.write_bytes(spoil(path.read_bytes()))
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    run_extraction(request_for(corpus, tmp_path / "fresh.h5"))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "fresh.h5").read_bytes()


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


def test_one_of_a_thing_is_told_in_the_singular(tmp_path: Path, corpus: Corpus) -> None:
    write_clip(corpus.root / "u000.wav", 0.02, 0)
    one, told = replace(corpus, utterances=corpus.utterances[:1]), []
    for _ in range(2):
        run_extraction(request_for(one, tmp_path / "s.h5", tell=told.append))
    assert told[0].startswith("noise with fake: 1 utterance, ")
    assert told[1].endswith("s.h5': 1 utterance, 1 was padded to the encoder's smallest input.")
    assert told[2].endswith("up to date: 1 utterance, nothing to do.")


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


def test_a_second_extraction_to_the_same_store_is_refused(tmp_path: Path, corpus: Corpus) -> None:
    with (
        locked(tmp_path / "s.h5.work"),
        pytest.raises(ExtractionError, match=rf"Another extraction .* \(process {os.getpid()} holds"),
    ):
        run_extraction(request_for(corpus, tmp_path / "s.h5"))
    run_extraction(request_for(corpus, tmp_path / "s.h5"))


def test_a_lock_left_by_a_dead_process_does_not_block(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "s.h5.work").mkdir()
    (tmp_path / "s.h5.work" / "lock").write_text("1\n")
    (tmp_path / "s.h5.work" / "half.shard.part").write_text("rest")
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
    assert leftovers(tmp_path) == ["s.h5"]


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
