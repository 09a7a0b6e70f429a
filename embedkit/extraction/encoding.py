"""Read clips and encode them batch by batch, both ahead of writing, and write each shard as it is finished."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.audio import DIGEST_RATE, StretchReader, digest_audio, digest_samples, read_audio
from embedkit.augmentations.fixed_noise import FixedNoise
from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError, ExtractionError
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.passes import ADVICE, Launched, Passes, in_order
from embedkit.extraction.plan import Batch, WorkerTask
from embedkit.extraction.pooling import Pool, fits, is_finite
from embedkit.extraction.segments import AudioSegment, OnError, Stamp, file_stamp, segment_digest, unusable
from embedkit.extraction.shards import Measured, new_shard
from embedkit.extraction.threads import Ahead, computing_with, open_ahead
from embedkit.extraction.windows import Merge, Window, Windows
from embedkit.progress import Tell
from embedkit.received import MOST_HOURS
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding


class Waveform(NamedTuple):
    """An utterance as read: its samples (None: too long, read in windows) and digests, or why it cannot be used."""

    segment: AudioSegment
    samples: NDArray[np.float32] | None = None
    digest: str = ""
    audio_digest: str = ""
    reason: str = ""


LONGEST_WHOLE_SECONDS = 3600
"""What an encoder without windows hears at once: an hour of MFCC takes about 1 GB."""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """How clips become rows.

    Attributes:
        encoder: The encoder; on its way to a worker, which loads its own, what describes it.
        root: Folder that the segments' paths start from.
        frame_dtype: Type of the frames; None where only statistics are kept.
        windows: How long clips are cut; None: never.
        batch_seconds: Audio in a batch of windows.
        threads: Threads that compute, shared by the passes.
        passes: Passes that run side by side.
        workers: Threads that read audio.
        on_error: Whether a clip that cannot be used ends the extraction.
        max_hours: What a clip may last.
        rescale: Whether files of floats in the scale of 16 bits are divided by 32768.
        digests: Whether audio is digested, for a store.
        noise: What is added to every clip, by the digest of its audio; None for nothing.
    """

    encoder: Encoder
    root: Path
    frame_dtype: str | None
    windows: Windows | None
    batch_seconds: float
    threads: int
    passes: int = 1
    workers: int = 2
    on_error: OnError = "fail"
    max_hours: float = MOST_HOURS
    rescale: bool = False
    digests: bool = True
    noise: FixedNoise | None = None

    @property
    def row_shape(self) -> tuple[int, int]:
        """Layers and dimensions."""
        return len(self.encoder.layers), self.encoder.dimensions

    @property
    def pass_threads(self) -> int:
        """Threads of each pass."""
        return self.threads // self.passes

    @property
    def batch_samples(self) -> float:
        """Samples in a batch, padding included."""
        return self.batch_seconds * self.encoder.sampling_rate


def encode_shards(
    config: EncodingConfig,
    tasks: Sequence[WorkerTask],
    *,
    batch_done: Callable[[Batch], None] = lambda batch: None,
    shard_done: Callable[[Path], None] = lambda path: None,
    tell: Tell,
) -> None:
    """Encode shards one after the other; batches are read and encoded ahead across their borders.

    Args:
        config: How clips become rows.
        tasks: The shards.
        batch_done, shard_done: Called after every batch, and with every finished shard.
        tell: Hears that batches had to be made smaller.

    Raises:
        ExtractionError: an utterance cannot be used and is not to be skipped, or does not fit into memory.
    """
    batches = (batch for task in tasks for batch in task.shard)
    with computing_with(config.pass_threads), open_encoding(config, tell) as encoding:
        started = encoding.start(batches)
        for path, shard in tasks:
            with new_shard(path, config.row_shape, config.frame_dtype) as writer:
                for batch in shard:
                    encoding.finish(next(started), writer)
                    batch_done(batch)
            shard_done(path)


@contextmanager
def open_encoding(config: EncodingConfig, tell: Tell, advice: str = ADVICE) -> Iterator[Encoding]:
    """Open the threads of an encoding.

    Args:
        config: How clips become rows.
        tell: Hears that batches had to be made smaller.
        advice: What to do where not even halves of a batch fit into memory.
    """
    passes = Passes(config.encoder, tell, advice)
    with open_ahead(config.workers) as readers, open_ahead(config.passes, config.pass_threads) as encoders:
        try:
            yield Encoding(config, passes, readers, encoders)
        except BaseException:
            passes.stop()
            raise


def read_waveform(
    config: EncodingConfig, segment: AudioSegment | Waveform, reader: StretchReader | None = None
) -> Waveform:
    """Read the audio of one utterance, and digest it for a store; one too long for a single pass is only digested.

    Args:
        config: How clips become rows.
        segment: What is read; what is read already is returned.
        reader: Of the segment's file; None opens it anew.
    """
    if isinstance(segment, Waveform):
        return segment
    path, rate = config.root / segment.path, config.encoder.sampling_rate
    longest = None if config.windows is None else config.windows.samples
    samples = None
    try:
        if longest is None or segment.samples <= longest:
            most = config.encoder.largest_input or LONGEST_WHOLE_SECONDS * rate
            if segment.samples > most:
                raise AudioError(
                    f"It lasts {segment.samples / rate:.2f} s, more than the {most / rate:g} s that "
                    f"{config.encoder.name} hears at once; cut it, or encode it in windows with --max-seconds "
                    "where the encoder can."
                )
            samples = read_segment(config, segment) if reader is None else reader.read(segment.start, segment.end, rate)
        digests = _digest(config, segment, samples) if config.digests else ("", "")
        if file_stamp(path) != Stamp(segment.size, segment.mtime):
            raise AudioError(f"The audio file {str(path)!r} changed while it was read; run the command again.")
    except (AudioError, OSError) as error:
        return Waveform(segment, reason=str(error))
    if samples is not None:
        # Resampling may give a sample more than the header promised.
        samples = _add_noise(config, samples[:longest], digests[1])
    return Waveform(segment, samples, *digests)


def _add_noise(config: EncodingConfig, samples: NDArray[np.float32], key: str) -> NDArray[np.float32]:
    return samples if config.noise is None else config.noise.add(samples, config.encoder.sampling_rate, key)


def read_segment(
    config: EncodingConfig, segment: AudioSegment, start: float | None = None, end: float | None = None
) -> NDArray[np.float32]:
    """Decode an utterance, or between other times of its file in seconds, as a configuration says, `[samples]`.

    Raises:
        AudioError: as `read_audio`.
    """
    return read_audio(
        config.root / segment.path,
        sampling_rate=config.encoder.sampling_rate,
        start=segment.start if start is None else start,
        end=segment.end if end is None else end,
        most_hours=config.max_hours,
        rescale=config.rescale,
    )


def _digest(config: EncodingConfig, segment: AudioSegment, samples: NDArray[np.float32] | None) -> tuple[str, str]:
    """Digest the bytes of a segment and its samples, which are decoded anew where they are not at hand."""
    path = config.root / segment.path
    whole = segment_digest(path, Stamp(segment.size, segment.mtime), segment.start, segment.end)
    if samples is not None and config.encoder.sampling_rate == DIGEST_RATE:
        return whole, digest_samples(samples)
    return whole, digest_audio(path, start=segment.start, end=segment.end, most_hours=config.max_hours)


class StartedBatch(NamedTuple):
    """A batch whose passes are started: what was read, and the passes of clips short enough for one."""

    waveforms: list[Waveform]
    launched: list[Launched]


class RowWriter(Protocol):
    """Takes the rows of clips in their order: a shard, or a list."""

    def add_frames(self, frames: Array) -> None:
        """Take the next frames of a clip that is encoded in windows."""

    def add(self, segment: AudioSegment, rows: UtteranceEmbedding, measured: Measured) -> None:
        """Take a clip's rows; its frames too where they did not come before."""

    def fail(self, segment: AudioSegment, reason: str) -> None:
        """Take note of a clip that cannot be used, and drop frames of it that came before."""


@dataclass(frozen=True)
class Encoding:
    """Batches on their way: some are read while others pass, and each is written in its turn."""

    config: EncodingConfig
    passes: Passes
    readers: Ahead
    encoders: Ahead

    def start(self, batches: Iterable[Sequence[AudioSegment | Waveform]]) -> Iterator[StartedBatch]:
        """Read batches and start their passes, ahead of the one that is handed on."""
        waveforms = self.readers.map_groups(partial(read_waveform, self.config), batches)
        return self.encoders.map(self._start, waveforms)

    def finish(self, started: StartedBatch, writer: RowWriter) -> None:
        """Wait for a batch and write its rows; clips that cannot be used are noted.

        Raises:
            ExtractionError: a clip cannot be used and is not to be skipped.
        """
        rows = iter(in_order(started.launched, Pool.rows))
        for wave in started.waveforms:
            reason = wave.reason
            if wave.samples is not None:
                reason = _write_short(self.config, wave, next(rows), writer)
            elif not reason:
                reason = self._encode_long(wave, writer)
            if reason and self.config.on_error == "fail":
                raise unusable(wave.segment.id, reason)
            if reason:
                writer.fail(wave.segment, reason)

    @torch.inference_mode()
    def _start(self, waveforms: list[Waveform]) -> StartedBatch:
        """Start the passes of a batch; clips to be read in windows wait for `finish`."""
        smallest = self.config.encoder.smallest_input
        waves = [_padded(wave.samples, smallest) for wave in waveforms if wave.samples is not None]
        return StartedBatch(waveforms, self.passes.start(waves, lambda: Pool(frame_dtype=self.config.frame_dtype)))

    def _encode_long(self, wave: Waveform, writer: RowWriter) -> str:
        """Encode a clip window by window; return why it failed, or nothing."""
        config, segment = self.config, wave.segment
        assert config.windows is not None
        merge = Merge()
        windows = config.windows.cut(segment.samples)
        cut = batch_clips(windows, _window_samples, config.batch_samples, most_clips=len(windows))
        try:
            for group in self.encoders.map(partial(self._encode_windows, wave), cut):
                for own in group:
                    merge.add(own)
                    if not np.isfinite(own).all():
                        return _not_finite(config, merge.rows())
                    if config.frame_dtype is not None:
                        kept = own.astype(config.frame_dtype)
                        _check_fit(wave, kept)
                        writer.add_frames(kept)
        except AudioError as error:
            return str(error)
        seconds = segment.samples / config.encoder.sampling_rate
        writer.add(segment, merge.rows(), Measured(seconds, False, wave.digest, wave.audio_digest))
        return ""

    @torch.inference_mode()
    def _encode_windows(self, waveform: Waveform, group: Sequence[Window]) -> list[Array]:
        """Return the frames that belong to each of some windows."""
        waves = [_read_window(self.config, waveform, window) for window in group]
        launched = self.passes.start(waves, lambda: Pool(statistics=False, frame_dtype="float32"))
        frames = in_order(launched, Pool.frames)
        return [values[window.first : window.last] for window, values in zip(group, frames, strict=True)]


def _window_samples(window: Window) -> int:
    return window.end - window.start


def _padded(samples: NDArray[np.float32], smallest: int) -> torch.Tensor:
    missing = smallest - len(samples)
    return torch.from_numpy(np.pad(samples, (0, missing)) if missing > 0 else samples)


def _write_short(config: EncodingConfig, wave: Waveform, rows: UtteranceEmbedding, writer: RowWriter) -> str:
    assert wave.samples is not None
    if not is_finite(rows):
        return _not_finite(config, rows)
    _check_fit(wave, rows.frames)
    seconds = len(wave.samples) / config.encoder.sampling_rate
    padded = len(wave.samples) < config.encoder.smallest_input
    writer.add(wave.segment, rows, Measured(seconds, padded, wave.digest, wave.audio_digest))
    return ""


def _read_window(config: EncodingConfig, waveform: Waveform, window: Window) -> torch.Tensor:
    rate, segment = config.encoder.sampling_rate, waveform.segment
    begin = segment.start or 0.0
    until = segment.end if window.end == segment.samples else begin + window.end / rate
    samples = read_segment(config, segment, begin + window.start / rate, until)
    noisy = _add_noise(config, samples, f"{waveform.audio_digest} {window.start}")
    return _padded(noisy, config.encoder.smallest_input)


def _check_fit(wave: Waveform, frames: Array | None) -> None:
    if not fits(frames):
        raise ExtractionError(
            f"Utterance {wave.segment.id!r} has frame values beyond the range of float16; extract with "
            "--frame-dtype float32."
        )


def _not_finite(config: EncodingConfig, rows: UtteranceEmbedding) -> str:
    both = np.concatenate([rows.mean, rows.std], axis=1)
    wrong = [layer for layer, row in zip(config.encoder.layers, both, strict=True) if not np.isfinite(row).all()]
    return f"Its embedding is not finite in layers {', '.join(map(str, wrong))}."
