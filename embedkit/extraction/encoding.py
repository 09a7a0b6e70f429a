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

from embedkit.audio import read_audio
from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError, ExtractionError
from embedkit.extraction.passes import Launched, Passes, in_order
from embedkit.extraction.plan import Batch, PlanSettings, Shard
from embedkit.extraction.pooling import Pool, fits, is_finite
from embedkit.extraction.segments import AudioSegment, Failures, Stamp, file_stamp, segment_digest
from embedkit.extraction.shards import Measured, new_shard
from embedkit.extraction.threads import Ahead, computing_with, open_ahead
from embedkit.extraction.windows import Merge, Window, Windows, groups
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding


@dataclass(frozen=True)
class Clip:
    """One utterance as read: its item, samples (None: too long, read in windows), digest; or why it cannot be used."""

    item: AudioSegment
    samples: NDArray[np.float32] | None = None
    digest: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class EncodingConfig:
    """How clips become rows.

    Attributes:
        encoder: The encoder.
        root: Folder that the items' paths start from.
        frame_dtype: Type of the frames; None where only statistics are kept.
        windows: How long clips are cut; None: never.
        batch_seconds: Audio in a batch of windows.
    """

    encoder: Encoder
    root: Path
    frame_dtype: str | None
    windows: Windows | None
    batch_seconds: float

    @property
    def row_shape(self) -> tuple[int, int]:
        """Layers and dimensions."""
        return len(self.encoder.layers), self.encoder.dimensions


def run_shards(
    recipe: EncodingConfig,
    shards: Sequence[tuple[Path, Shard]],
    *,
    settings: PlanSettings,
    workers: int,
    failures: Failures,
    batch_done: Callable[[Batch], None],
    shard_done: Callable[[Path], None],
    tell: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Encode shards one after the other; batches are read and encoded ahead across their borders.

    Args:
        recipe: How clips become rows.
        shards: Where each shard goes, and its batches.
        settings: How many threads compute, in how many passes.
        workers: Threads that read audio.
        failures: Receives utterances that cannot be used.
        batch_done, shard_done: Called after every batch, and with every finished shard.
        tell: Hears that batches had to be made smaller.

    Raises:
        ExtractionError: an utterance cannot be used and is not to be skipped, or does not fit into memory.
    """
    batches = (batch for _, shard in shards for batch in shard)
    each = settings.threads // settings.passes
    passes = Passes(recipe.encoder, tell)
    opened = open_encoding(recipe, passes, side_by_side=settings.passes, threads=each, workers=workers)
    with computing_with(each), opened as encoding:
        started = encoding.start(batches)
        for path, shard in shards:
            with new_shard(path, recipe.row_shape, recipe.frame_dtype) as writer:
                for batch in shard:
                    encoding.finish(next(started), writer, failures)
                    batch_done(batch)
            shard_done(path)


@contextmanager
def open_encoding(
    recipe: EncodingConfig, passes: Passes, *, side_by_side: int, threads: int, workers: int
) -> Iterator[Encoding]:
    """Open the threads of an encoding.

    Args:
        recipe: How clips become rows.
        passes: Runs clips through the encoder.
        side_by_side: Passes that run at a time.
        threads: Threads of each pass.
        workers: Threads that read audio.
    """
    with open_ahead(workers) as readers, open_ahead(side_by_side, threads) as encoders:
        try:
            yield Encoding(recipe, passes, readers, encoders)
        except BaseException:
            passes.stop()
            raise


def read_clip(recipe: EncodingConfig, item: AudioSegment) -> Clip:
    """Read and digest the audio of one item; one too long for a single pass is only digested."""
    path = recipe.root / item.path
    is_long = recipe.windows is not None and item.samples > recipe.windows.samples
    samples = None
    try:
        if not is_long:
            samples = read_audio(path, sampling_rate=recipe.encoder.sampling_rate, start=item.start, end=item.end)
            # Resampling may give a sample more than the header promised.
            samples = samples if recipe.windows is None else samples[: recipe.windows.samples]
        stamp = Stamp(item.size, item.mtime)
        digest = segment_digest(path, stamp, item.start, item.end)
        if file_stamp(path) != stamp:
            raise AudioError(f"The audio file {str(path)!r} changed while it was read; run the command again.")
    except (AudioError, OSError) as error:
        return Clip(item, reason=str(error))
    return Clip(item, samples, digest)


class StartedBatch(NamedTuple):
    """A batch whose passes are started: its clips, and the passes of those short enough for one."""

    clips: list[Clip]
    launched: list[Launched]


class RowWriter(Protocol):
    """Takes the rows of clips in their order: a shard, or a list."""

    def add_frames(self, frames: Array) -> None:
        """Take the next frames of a clip that is encoded in windows."""

    def add(self, item: AudioSegment, rows: UtteranceEmbedding, measured: Measured) -> None:
        """Take a clip's rows; its frames too where they did not come before."""

    def fail(self, item: AudioSegment, reason: str) -> None:
        """Take note of a clip that cannot be used, and drop frames of it that came before."""


@dataclass(frozen=True)
class Encoding:
    """Batches on their way: some are read while others pass, and each is written in its turn."""

    recipe: EncodingConfig
    passes: Passes
    readers: Ahead
    encoders: Ahead

    def start(self, batches: Iterable[Batch]) -> Iterator[StartedBatch]:
        """Read batches and start their passes, ahead of the one that is handed on."""
        clips = self.readers.map_groups(partial(read_clip, self.recipe), batches)
        return self.encoders.map(self._start, clips)

    def finish(self, started: StartedBatch, writer: RowWriter, failures: Failures) -> None:
        """Wait for a batch and write its rows; clips that cannot be used are noted."""
        rows = iter(in_order(started.launched, Pool.rows))
        for clip in started.clips:
            reason = clip.reason
            if clip.samples is not None:
                reason = _write_short(self.recipe, clip, next(rows), writer)
            elif not reason:
                reason = self._encode_long(clip, writer)
            if reason:
                failures.add(clip.item.id, reason)
                writer.fail(clip.item, reason)

    @torch.inference_mode()
    def _start(self, clips: list[Clip]) -> StartedBatch:
        """Start the passes of a batch; clips to be read in windows wait for `finish`."""
        smallest = self.recipe.encoder.smallest_input
        waves = [_padded(clip.samples, smallest) for clip in clips if clip.samples is not None]
        return StartedBatch(clips, self.passes.start(waves, lambda: Pool(frame_dtype=self.recipe.frame_dtype)))

    def _encode_long(self, clip: Clip, writer: RowWriter) -> str:
        """Encode a clip window by window; return why it failed, or nothing."""
        recipe = self.recipe
        assert recipe.windows is not None
        rate = recipe.encoder.sampling_rate
        merge = Merge()
        cut = groups(recipe.windows.cut(clip.item.samples), recipe.batch_seconds * rate)
        try:
            for group in self.encoders.map(partial(self._encode_windows, clip.item), cut):
                for own in group:
                    merge.add(own)
                    if not np.isfinite(own).all():
                        return _not_finite(recipe, merge.rows())
                    if recipe.frame_dtype is not None:
                        kept = own.astype(recipe.frame_dtype)
                        _check_fit(clip, kept)
                        writer.add_frames(kept)
        except AudioError as error:
            return str(error)
        writer.add(clip.item, merge.rows(), Measured(clip.item.samples / rate, False, clip.digest))
        return ""

    @torch.inference_mode()
    def _encode_windows(self, item: AudioSegment, group: Sequence[Window]) -> list[Array]:
        """Return the frames that belong to each of some windows."""
        waves = [_read_window(self.recipe, item, window.start, window.end) for window in group]
        launched = self.passes.start(waves, lambda: Pool(statistics=False, frame_dtype="float32"))
        frames = in_order(launched, Pool.frames)
        return [values[window.first : window.last] for window, values in zip(group, frames, strict=True)]


def _padded(samples: NDArray[np.float32], smallest: int) -> torch.Tensor:
    missing = smallest - len(samples)
    return torch.from_numpy(np.pad(samples, (0, missing)) if missing > 0 else samples)


def _write_short(recipe: EncodingConfig, clip: Clip, rows: UtteranceEmbedding, writer: RowWriter) -> str:
    assert clip.samples is not None
    if not is_finite(rows):
        return _not_finite(recipe, rows)
    _check_fit(clip, rows.frames)
    rate = recipe.encoder.sampling_rate
    padded = len(clip.samples) < recipe.encoder.smallest_input
    writer.add(clip.item, rows, Measured(len(clip.samples) / rate, padded, clip.digest))
    return ""


def _read_window(recipe: EncodingConfig, item: AudioSegment, start: int, end: int) -> torch.Tensor:
    rate = recipe.encoder.sampling_rate
    begin = item.start or 0.0
    until = item.end if end == item.samples else begin + end / rate
    samples = read_audio(recipe.root / item.path, sampling_rate=rate, start=begin + start / rate, end=until)
    return _padded(samples, recipe.encoder.smallest_input)


def _check_fit(clip: Clip, frames: Array | None) -> None:
    if not fits(frames):
        raise ExtractionError(
            f"Utterance {clip.item.id!r} has frame values beyond the range of float16; extract with "
            "--frame-dtype float32."
        )


def _not_finite(recipe: EncodingConfig, rows: UtteranceEmbedding) -> str:
    both = np.concatenate([rows.mean, rows.std], axis=1)
    wrong = [layer for layer, row in zip(recipe.encoder.layers, both, strict=True) if not np.isfinite(row).all()]
    return f"Its embedding is not finite in layers {', '.join(map(str, wrong))}."
