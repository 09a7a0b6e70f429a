"""Read clips ahead, encode them batch by batch, and write each shard as it is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.audio import read_audio
from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError, ExtractionError
from embedkit.extraction.items import Failures, Item, Stamp, file_stamp, segment_digest
from embedkit.extraction.passes import Launched, Passes, in_order
from embedkit.extraction.plan import Batch, Shard
from embedkit.extraction.pooling import Pool, fits, is_finite
from embedkit.extraction.shards import Measured, new_shard
from embedkit.extraction.windows import Merge, Windows, groups
from embedkit.store.layout import Array
from embedkit.store.writer import Rows

_AHEAD = 2
"""Batches that are read while one is encoded."""


@dataclass(frozen=True)
class Clip:
    """One utterance as read: its item, samples (None: too long, read in windows), digest; or why it cannot be used."""

    item: Item
    samples: NDArray[np.float32] | None = None
    digest: str = ""
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Recipe:
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

    @property
    def started_ahead(self) -> int:
        """Batches to start before the one before them is written: a GPU computes meanwhile, a CPU would not."""
        return 1 if str(getattr(self.encoder, "device", "cpu")).startswith("cuda") else 0


def run_shards(
    recipe: Recipe,
    shards: Sequence[tuple[Path, Shard]],
    *,
    workers: int,
    failures: Failures,
    batch_done: Callable[[Batch], None],
    shard_done: Callable[[Path], None],
    tell: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Encode shards one after the other; files are read ahead across their borders.

    Args:
        recipe: How clips become rows.
        shards: Where each shard goes, and its batches.
        workers: Threads that read audio.
        failures: Receives utterances that cannot be used.
        batch_done, shard_done: Called after every batch, and with every finished shard.
        tell: Hears that batches had to be made smaller.

    Raises:
        ExtractionError: an utterance cannot be used and is not to be skipped, or does not fit into memory.
    """
    batches = (batch for _, shard in shards for batch in shard)
    passes = Passes(recipe.encoder, tell)
    with ThreadPoolExecutor(workers) as pool, torch.inference_mode():
        try:
            clips = read_batches(recipe, batches, pool)
            for path, shard in shards:
                with new_shard(path, recipe.row_shape, recipe.frame_dtype) as writer:
                    started = (start_batch(recipe, passes, next(clips)) for _ in shard)
                    for batch, one in zip(shard, ahead_by(recipe.started_ahead, started), strict=True):
                        finish_batch(recipe, passes, one, writer, failures)
                        batch_done(batch)
                shard_done(path)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def ahead_by(count: int, started: Iterable[StartedBatch]) -> Iterator[StartedBatch]:
    """Hand batches on once so many later ones are started, too."""
    waiting: deque[StartedBatch] = deque()
    for one in started:
        waiting.append(one)
        if len(waiting) > count:
            yield waiting.popleft()
    yield from waiting


def read_batches(recipe: Recipe, batches: Iterable[Batch], pool: ThreadPoolExecutor) -> Iterator[list[Clip]]:
    """Read the clips of each batch, a few batches ahead."""
    waiting = []
    for batch in batches:
        waiting.append([pool.submit(read_clip, recipe, item) for item in batch])
        if len(waiting) > _AHEAD:
            yield [clip.result() for clip in waiting.pop(0)]
    while waiting:
        yield [clip.result() for clip in waiting.pop(0)]


def read_clip(recipe: Recipe, item: Item) -> Clip:
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


def start_batch(recipe: Recipe, passes: Passes, clips: list[Clip]) -> StartedBatch:
    """Start the passes of a batch; clips to be read in windows wait for `finish_batch`."""
    waves = [_padded(clip.samples, recipe.encoder.smallest_input) for clip in clips if clip.samples is not None]
    launched = passes.start(waves, lambda: Pool(frame_dtype=recipe.frame_dtype))
    return StartedBatch(clips, launched)


class RowWriter(Protocol):
    """Takes the rows of clips in their order: a shard, or a list."""

    def add_frames(self, frames: Array) -> None:
        """Take the next frames of a clip that is encoded in windows."""

    def add(self, item: Item, rows: Rows, measured: Measured) -> None:
        """Take a clip's rows; its frames too where they did not come before."""

    def fail(self, item: Item, reason: str) -> None:
        """Take note of a clip that cannot be used, and drop frames of it that came before."""


def finish_batch(recipe: Recipe, passes: Passes, started: StartedBatch, writer: RowWriter, failures: Failures) -> None:
    """Wait for a batch and write its rows; clips that cannot be used are noted."""
    rows = iter(in_order(started.launched, Pool.rows))
    for clip in started.clips:
        reason = clip.reason
        if clip.samples is not None:
            reason = _write_short(recipe, clip, next(rows), writer)
        elif not reason:
            reason = _encode_long(recipe, passes, clip, writer)
        if reason:
            failures.add(clip.item.id, reason)
            writer.fail(clip.item, reason)


def _padded(samples: NDArray[np.float32], smallest: int) -> torch.Tensor:
    missing = smallest - len(samples)
    return torch.from_numpy(np.pad(samples, (0, missing)) if missing > 0 else samples)


def _write_short(recipe: Recipe, clip: Clip, rows: Rows, writer: RowWriter) -> str:
    assert clip.samples is not None
    if not is_finite(rows):
        return _not_finite(recipe, rows)
    _check_fit(clip, rows.frames)
    rate = recipe.encoder.sampling_rate
    padded = len(clip.samples) < recipe.encoder.smallest_input
    writer.add(clip.item, rows, Measured(len(clip.samples) / rate, padded, clip.digest))
    return ""


def _encode_long(recipe: Recipe, passes: Passes, clip: Clip, writer: RowWriter) -> str:
    """Encode a clip window by window; return why it failed, or nothing."""
    assert recipe.windows is not None
    merge = Merge()
    for group in groups(recipe.windows.cut(clip.item.samples), recipe.batch_seconds * recipe.encoder.sampling_rate):
        try:
            waves = [_read_window(recipe, clip.item, window.start, window.end) for window in group]
        except AudioError as error:
            return str(error)
        launched = passes.start(waves, lambda: Pool(statistics=False, frame_dtype="float32"))
        for window, frames in zip(group, in_order(launched, Pool.frames), strict=True):
            own = frames[window.first : window.last]
            merge.add(own)
            if not np.isfinite(own).all():
                return _not_finite(recipe, merge.rows())
            if recipe.frame_dtype is not None:
                kept = own.astype(recipe.frame_dtype)
                _check_fit(clip, kept)
                writer.add_frames(kept)
    seconds = clip.item.samples / recipe.encoder.sampling_rate
    writer.add(clip.item, merge.rows(), Measured(seconds, False, clip.digest))
    return ""


def _read_window(recipe: Recipe, item: Item, start: int, end: int) -> torch.Tensor:
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


def _not_finite(recipe: Recipe, rows: Rows) -> str:
    both = np.concatenate([rows.mean, rows.std], axis=1)
    wrong = [layer for layer, row in zip(recipe.encoder.layers, both, strict=True) if not np.isfinite(row).all()]
    return f"Its embedding is not finite in layers {', '.join(map(str, wrong))}."
