"""Say what an extraction will take before it starts, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from embedkit.errors import ExtractionError
from embedkit.extraction.job import Job
from embedkit.extraction.plan import Batch, Shard
from embedkit.extraction.request import Request
from embedkit.store.files import format_bytes, free_bytes, no_room
from embedkit.wording import count_noun

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


def watch_batches(job: Job) -> Callable[[Batch], None]:
    """Report progress in seconds of audio; say how long the rest will take, once one batch has been timed.

    The batch timed is the second: the first one also waits for libraries and files.
    """
    request, rate = job.request, job.plan.settings.sampling_rate
    total = sum(item.samples for item in job.plan.items) / rate
    done = total - sum(_seconds(batch, rate) for _, shard in job.pending for batch in shard)
    batches, started = 0, time.perf_counter()
    if request.progress is not None:
        request.progress(done, total)

    def watch(batch: Batch) -> None:
        nonlocal batches, started, done
        now, seconds = time.perf_counter(), _seconds(batch, rate)
        batches, done = batches + 1, done + seconds
        if batches == 2:
            speed = seconds / (now - started)
            left = format_duration((total - done) / speed)
            request.tell(f"About {left} to go on {request.device} ({_times(speed)} real time).")
        started = now
        if request.progress is not None:
            request.progress(done, total)

    return watch


def watch_shards(job: Job) -> Callable[[Shard, int], None]:
    """Report progress in seconds of audio where batches are out of sight; say how long the rest will take.

    The estimate waits until every worker may have finished a shard: the first ones also load the encoder.
    """
    request, rate = job.request, job.plan.settings.sampling_rate
    total = sum(item.samples for item in job.plan.items) / rate
    pending = sum(_seconds(batch, rate) for _, shard in job.pending for batch in shard)
    left, shards = pending, 0
    timed_from = time.perf_counter(), pending

    def watch(shard: Shard, workers: int) -> None:
        nonlocal left, shards, timed_from
        shards, left = shards + 1, left - sum(_seconds(batch, rate) for batch in shard)
        now = time.perf_counter()
        if shards == workers:
            timed_from = now, left
        elif shards == 2 * workers:
            speed = (timed_from[1] - left) / (now - timed_from[0])
            told = format_duration(left / speed)
            request.tell(f"About {told} to go with {workers} workers ({_times(speed)} real time).")
        if request.progress is not None:
            request.progress(total - left, total)

    return watch


def _seconds(batch: Batch, rate: int) -> float:
    return sum(item.samples for item in batch) / rate


def format_duration(seconds: float) -> str:
    """Write a duration as a rough word: "3 minutes"."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    unit, number = ("minute", seconds / 60) if seconds >= 60 else ("second", seconds)
    count = max(1, round(number))
    return f"{count} {unit}" + ("s" if count > 1 else "")


def _times(speed: float) -> str:
    return f"{speed:,.0f} times" if speed >= 100 else f"{speed:.3g} times"
