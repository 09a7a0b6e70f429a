"""Batches that do not fit into memory, and batches that are started before the one before them is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from embedkit.corpora.base import Corpus
from embedkit.encoders.base import LayerSink
from embedkit.encoders.transfer import ToHost, lengths_on, to_device
from embedkit.errors import ExtractionError
from embedkit.extraction.encoding import Recipe, ahead_by
from embedkit.extraction.run import run_extraction
from embedkit.extraction.windows import Windows
from tests.extraction.fakes import FakeEncoder, request_for, write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "audio", 16)


class SmallDevice(FakeEncoder):
    """Has room for so many samples, padding included."""

    def __init__(self, room: int, *, equal_lengths: bool = False, largest_input: int | None = None) -> None:
        super().__init__(equal_lengths=equal_lengths, largest_input=largest_input)
        self.room = room

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        if len(waveforms) * max(map(len, waveforms)) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        super().encode(waveforms, sink)


def test_a_batch_that_does_not_fit_is_halved_and_so_are_all_after_it(tmp_path: Path, corpus: Corpus) -> None:
    told: list[str] = []
    encoder = SmallDevice(5_000)
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, batch_seconds=9.0, tell=told.append))
    assert sum("of half the size" in sentence for sentence in told) == 1
    assert sum(map(len, encoder.calls)) == 16
    whole = FakeEncoder()
    run_extraction(request_for(corpus, tmp_path / "whole.h5", whole, batch_seconds=9.0))
    assert max(map(len, encoder.calls)) == (max(map(len, whole.calls)) + 1) // 2
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_halves_that_do_not_fit_either_are_told_in_a_sentence_and_work_is_kept(tmp_path: Path, corpus: Corpus) -> None:
    with pytest.raises(ExtractionError, match=r"A batch of \d+ clips \(\d+ s\).*nor does half of it.*--batch-seconds"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", SmallDevice(1_000), batch_seconds=9.0))
    assert (tmp_path / "s.h5.work" / "plan.json").exists()


def test_a_single_clip_that_does_not_fit_is_told_at_once(tmp_path: Path, corpus: Corpus) -> None:
    told: list[str] = []
    request = request_for(corpus, tmp_path / "s.h5", SmallDevice(1_000), batch_seconds=0.1, tell=told.append)
    with pytest.raises(ExtractionError, match=r"A batch of 1 clips \(2 s\) does not fit.*memory; .*--max-seconds"):
        run_extraction(request)
    assert not any("half" in sentence for sentence in told)


@pytest.mark.parametrize("equal_lengths", [False, True])
def test_windows_of_a_long_clip_are_halved_too(tmp_path: Path, corpus: Corpus, equal_lengths: bool) -> None:
    encoder = SmallDevice(1_200, equal_lengths=equal_lengths, largest_input=600)
    windows = Windows.for_encoder(encoder, None)
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, windows=windows, batch_seconds=2.0))
    roomy = FakeEncoder(largest_input=600, equal_lengths=equal_lengths)
    run_extraction(request_for(corpus, tmp_path / "whole.h5", roomy, windows=windows, batch_seconds=2.0))
    assert (tmp_path / "s.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_batches_started_ahead_change_no_byte(tmp_path: Path, corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    run_extraction(request_for(corpus, tmp_path / "a.h5"))
    monkeypatch.setattr(Recipe, "started_ahead", 2)
    run_extraction(request_for(corpus, tmp_path / "b.h5"))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_batches_are_started_so_many_ahead() -> None:
    events: list[str] = []

    def start() -> object:
        for number in range(3):
            events.append(f"start {number}")
            yield number

    for number in ahead_by(1, start()):  # type: ignore[arg-type]
        events.append(f"finish {number}")
    assert events == ["start 0", "start 1", "finish 0", "start 2", "finish 1", "finish 2"]


def test_transfers_on_a_cpu_copy_nothing() -> None:
    values = torch.arange(6.0)
    to_host = ToHost()
    assert to_device(values, torch.device("cpu")) is values
    assert to_host(values) is values
    to_host.wait()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_transfers_to_a_gpu_and_back_keep_every_value() -> None:
    device = torch.device("cuda")
    values = torch.randn(1000, 1000)
    to_host = ToHost()
    back = to_host(to_device(values, device) * 2)
    to_host.wait()
    assert back.is_pinned()
    np.testing.assert_array_equal(back, values * 2)
    assert lengths_on([3, 4], device).tolist() == [3, 4]
