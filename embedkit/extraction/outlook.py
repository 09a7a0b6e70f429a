"""Say what an extraction will take before it starts, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from embedkit.errors import ExtractionError
from embedkit.extraction.job import Job
from embedkit.extraction.plan import Batch, Shard
from embedkit.extraction.request import Request
from embedkit.store.files import free_bytes, no_room
from embedkit.wording import count_noun, format_bytes

_COLUMN_BYTES = 1000
"""Room for the columns of one utterance."""


def check_room(job: Job) -> int:
    """Say what is to come; return the bytes still to be written, shards and finished file.

    Raises:
        ExtractionError: they are not free.
    """
    request = job.request
    done = {entry.item for shard in job.finished.values() for entry in shard.entries}
    shards = sum(_row_bytes(request, item.samples) for item in job.items if item not in done)
    rate = request.encoder.sampling_rate
    kept = sum(_row_bytes(request, round(one.duration * rate)) for _, one in job.standing.reuse.kept.values())
    final = kept + sum(_row_bytes(request, item.samples) + _COLUMN_BYTES for item in job.items)
    _announce(job, final)
    needed = shards + final
    if needed > free_bytes(request.work.parent):
        raise ExtractionError(no_room(request.work.parent, needed))
    return needed


def _row_bytes(request: Request, samples: int) -> int:
    encoder = request.encoder
    row = len(encoder.layers) * encoder.dimensions
    item = {"float16": 2, "float32": 4, None: 0}[request.kept_frames]
    return row * (8 + (encoder.frame_count(samples) * item if item else 0))


def _announce(job: Job, size: int) -> None:
    request, reuse = job.request, job.standing.reuse
    seconds = sum(item.samples for item in job.items) / request.encoder.sampling_rate
    seconds += sum(measured.duration for _, measured in reuse.kept.values())
    utterances = count_noun(len(job.items) + len(reuse.kept), "utterance")
    request.tell(
        f"{request.corpus.name} with {request.encoder.name}: {utterances}, {seconds / 3600:.2f} hours; "
        f"{str(request.out)!r} will take {format_bytes(size)} ({format_bytes(free_bytes(request.work.parent))} free)."
    )
    if job.standing.store is not None:
        kept = count_noun(len(reuse.kept), "utterance")
        request.tell(f"{kept} reused, {len(job.items)} new, {reuse.removed} removed.")
    if job.finished:
        request.tell(f"Continuing: {job.items_done} of {len(job.items)} utterances are finished.")


def watch_progress(job: Job) -> tuple[Callable[[Batch], None], Callable[[Shard, int], None]]:
    """Report progress in seconds of audio, and say how long the rest will take.

    The estimate waits until each of those that work side by side may have finished a second piece: over the first one
    they also wait for libraries, files and encoders.

    Returns:
        What to call with every finished batch; or, where batches are out of sight, with every finished shard and the
        number of workers.
    """
    request, settings = job.request, job.plan.settings
    rate = settings.sampling_rate
    total = sum(item.samples for item in job.plan.items)
    left = sum(_samples(batch) for _, shard in job.pending for batch in shard)
    pieces, timed_from = 0, (time.perf_counter(), left)

    def report() -> None:
        if request.progress is not None:
            request.progress((total - left) / rate, total / rate)

    def watch(samples: int, side_by_side: int, where: str) -> None:
        nonlocal pieces, left, timed_from
        pieces, left, now = pieces + 1, left - samples, time.perf_counter()
        if pieces == side_by_side:
            timed_from = now, left
        elif pieces == 2 * side_by_side:
            speed = (timed_from[1] - left) / rate / (now - timed_from[0])
            request.tell(f"About {format_duration(left / rate / speed)} to go {where} ({_times(speed)} real time).")
        report()

    def batch_done(batch: Batch) -> None:
        watch(_samples(batch), settings.passes, f"on {settings.device}")

    def shard_done(shard: Shard, workers: int) -> None:
        watch(sum(map(_samples, shard)), workers, f"with {workers} workers")

    report()

    return batch_done, shard_done


def _samples(batch: Batch) -> int:
    return sum(item.samples for item in batch)


def format_duration(seconds: float) -> str:
    """Write a duration as a rough word: "3 minutes"."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    unit, number = ("minute", seconds / 60) if seconds >= 60 else ("second", seconds)
    count = max(1, round(number))
    return f"{count} {unit}" + ("s" if count > 1 else "")


def _times(speed: float) -> str:
    return f"{speed:,.0f} times" if speed >= 100 else f"{speed:.3g} times"
