"""Batches that do not fit into memory, passes side by side, and what travels to a device and back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from embedkit.corpora.base import Corpus
from embedkit.corpora.clips import Clip
from embedkit.encoders.base import LayerSink
from embedkit.encoders.device_copies import ToHost, lengths_on, to_device
from embedkit.errors import ExtractionError
from embedkit.extraction.encoding import EncodingConfig
from embedkit.extraction.run import run_extraction
from embedkit.extraction.streaming import ask_clips, choose_passes
from embedkit.extraction.threads import open_ahead
from embedkit.extraction.windows import Windows
from embedkit.kernels import using_threads
from embedkit.store import layout
from embedkit.training.data.features import Standardiser
from embedkit.training.live import features as live
from tests.extraction.fakes import FakeEncoder, datasets, request_for, write_corpus


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


class SideBySide(SmallDevice):
    """Notes how many of its passes run at a time; one waits for a second to come, if there is to be one."""

    def __init__(self, *, room: int = 1 << 30, largest_input: int | None = None) -> None:
        super().__init__(room, largest_input=largest_input)
        self.running = self.most = 0
        self._changed = threading.Condition()

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        assert torch.get_num_threads() == 1 or not self.reentrant
        with self._changed:
            self.running += 1
            self.most = max(self.most, self.running)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.most > 1, timeout=0.03)
        try:
            super().encode(waveforms, sink)
        finally:
            with self._changed:
                self.running -= 1


def values_of(path: Path) -> dict[str, bytes]:
    """Return the embeddings; digests beside them also tell of the threads."""
    found = datasets(path)
    return {name: found[name] for name in (layout.MEAN, layout.STD, layout.FRAME_VALUES)}


@pytest.mark.parametrize("largest_input", [None, 600])
def test_passes_side_by_side_change_no_value(tmp_path: Path, corpus: Corpus, largest_input: int | None) -> None:
    options = {"windows": Windows.for_encoder(FakeEncoder(largest_input=largest_input), None), "batch_seconds": 1.0}
    alone, beside = (SideBySide(largest_input=largest_input) for _ in range(2))
    run_extraction(request_for(corpus, tmp_path / "alone.h5", alone, threads=1, **options))
    run_extraction(request_for(corpus, tmp_path / "beside.h5", beside, threads=3, **options))
    assert alone.most == 1
    assert 1 < beside.most <= 3
    assert sorted(alone.calls) == sorted(beside.calls)
    assert values_of(tmp_path / "alone.h5") == values_of(tmp_path / "beside.h5")


def hear(corpus: Corpus, encoder: FakeEncoder, threads: int, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return what prediction hears of every clip."""
    config = EncodingConfig(
        encoder=encoder,
        root=Path(),
        frame_dtype=None,
        windows=None,
        batch_seconds=1.0,
        threads=threads,
        passes=choose_passes(encoder, threads, side_by_side=True),
        digests=False,
    )
    clips = [Clip(name=one.id, path=corpus.audio_path(one)) for one in corpus.utterances]
    found = ask_clips(config, clips, 300.0, lambda rows: rows.mean.astype(np.float64))
    return [one for one in found if isinstance(one, np.ndarray)]


def train_live(corpus: Corpus, encoder: FakeEncoder, threads: int, monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return what a frozen encoder gives to heads: what is standardised by, and a mini-batch of all clips."""
    monkeypatch.setitem(live.BATCH_SECONDS, "cpu", 1.0)
    waves = [torch.from_numpy(np.resize(soundfile.read(corpus.audio_path(one))[0], 900)) for one in corpus.utterances]
    index = np.arange(len(waves))
    samples = np.array([len(wave) for wave in waves])
    features = live.LiveFeatures(encoder, lambda row: waves[row].float(), samples, "utterance", threads=threads)
    with using_threads(1):
        own = features.moments(index)
        gathered = features.gather(index[None], Standardiser.stack([own], features.device))
    return [own.mean.numpy(), own.scale.numpy(), gathered.values.numpy()]


@pytest.mark.parametrize("use", [hear, train_live])
def test_prediction_and_frozen_training_run_passes_side_by_side_too(
    use: Callable[..., list[np.ndarray]], corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, beside = SideBySide(), SideBySide()
    wanted, found = use(corpus, alone, 1, monkeypatch), use(corpus, beside, 3, monkeypatch)
    assert (alone.most, beside.most > 1) == (1, True)
    assert len(wanted) == len(found) > 2
    assert all(np.array_equal(one, other) for one, other in zip(wanted, found, strict=True))


def test_an_encoder_that_keeps_state_runs_one_pass_at_a_time(tmp_path: Path, corpus: Corpus) -> None:
    encoder = SideBySide()
    encoder.reentrant = False
    threads = torch.get_num_threads()
    run_extraction(request_for(corpus, tmp_path / "s.h5", encoder, threads=3, batch_seconds=1.0))
    assert encoder.most == 1
    assert torch.get_num_threads() == threads


def test_passes_side_by_side_are_halved_together_and_told_once(tmp_path: Path, corpus: Corpus) -> None:
    told: list[str] = []
    encoder = SideBySide(room=2_600)
    request = request_for(corpus, tmp_path / "s.h5", encoder, threads=3, batch_seconds=3.0, tell=told.append)
    run_extraction(request)
    assert encoder.most > 1
    assert sum("of half the size" in sentence for sentence in told) == 1
    run_extraction(request_for(corpus, tmp_path / "whole.h5", FakeEncoder(), threads=1, batch_seconds=3.0))
    assert values_of(tmp_path / "s.h5") == values_of(tmp_path / "whole.h5")


def test_one_that_fails_ends_those_beside_it_and_finished_work_is_kept(tmp_path: Path, corpus: Corpus) -> None:
    class Failing(SideBySide):
        def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
            if len(self.calls) >= 6:
                raise ExtractionError("The sixth pass fails.")
            super().encode(waveforms, sink)

    threads = set(threading.enumerate())
    with pytest.raises(ExtractionError, match="sixth"):
        run_extraction(request_for(corpus, tmp_path / "s.h5", Failing(), threads=3, batch_seconds=1.0))
    finished = len(list((tmp_path / "s.h5.work").glob("*.shard")))
    again = SideBySide()
    run_extraction(request_for(corpus, tmp_path / "s.h5", again, threads=3, batch_seconds=1.0))
    assert finished
    assert sum(map(len, again.calls)) < 16
    assert set(threading.enumerate()) <= threads


def test_an_extraction_that_is_stopped_does_not_wait_for_the_layers_to_come(tmp_path: Path, corpus: Corpus) -> None:
    class Slow(FakeEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.numbers, self.entered = itertools.count(), threading.Event()
            self.refused: list[int] = []

        def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
            later = next(self.numbers) > 0

            def slow(position: int, values: Tensor, lengths: Tensor) -> None:
                if later and position == 1:
                    self.entered.set()
                    time.sleep(0.5)
                try:
                    sink(position, values, lengths)
                except CancelledError:
                    self.refused.append(position)
                    raise

            super().encode(waveforms, slow)

    encoder = Slow()

    def interrupt(done: float, total: float) -> None:
        if done:
            encoder.entered.wait(10)
            raise KeyboardInterrupt

    request = request_for(corpus, tmp_path / "s.h5", encoder, threads=2, batch_seconds=1.0, progress=interrupt)
    with pytest.raises(ExtractionError, match="Stopped"):
        run_extraction(request)
    assert 1 in encoder.refused
    assert 2 not in encoder.refused


def test_calls_run_so_many_ahead_and_answers_keep_their_order() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    def slow_if_even(number: int) -> int:
        time.sleep(0.01 * (number % 2 == 0))
        return number

    with open_ahead(3) as ahead:
        for count, number in enumerate(ahead.map(slow_if_even, items())):
            assert number == count
            assert len(taken) == min(9, count + 4)
    assert len(taken) == 9


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
