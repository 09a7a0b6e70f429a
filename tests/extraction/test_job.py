"""An extraction that was stopped continues where it was, or says why it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedkit.corpora.base import Corpus
from embedkit.errors import ExtractionError
from embedkit.extraction.lock import locked
from embedkit.extraction.run import run_extraction
from embedkit.extraction.shards import ShardReader
from embedkit.store import open_store
from tests.extraction.fakes import FakeEncoder, Interrupting, leftovers, request_for, write_clip


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


@pytest.mark.parametrize("spoil", [lambda data: data[:-30], lambda data: b"", lambda data: b"x" + data[1:]])
def test_a_damaged_shard_is_done_again(tmp_path: Path, corpus: Corpus, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Interrupting(4, KeyboardInterrupt())))
    path = next((tmp_path / "s.h5.work").glob("*.shard"))
    path.write_bytes(spoil(path.read_bytes()))
    run_extraction(request_for(corpus, tmp_path / "s.h5"))
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
