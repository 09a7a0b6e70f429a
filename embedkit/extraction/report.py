"""Say what an extraction will take before it starts, in which precision, and how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import torch

from embedkit.encoders.base import Encoder
from embedkit.encoders.precision import has_fast_bf16
from embedkit.errors import ExtractionError
from embedkit.extraction.compare import StoreComparison
from embedkit.extraction.job import count_done
from embedkit.extraction.plan import ExtractionPlan, Shard, Watch, WorkerTask
from embedkit.extraction.request import ExtractionRequest
from embedkit.extraction.segments import AudioSegment
from embedkit.extraction.shards import ShardReader
from embedkit.system import free_space
from embedkit.wording import count_noun, format_bytes
from embedkit.writing import no_room

CPU_GAIN = 1.7
"""How much faster bf16 is than fp32 on a CPU with avx512_bf16 (HuBERT-base and Whisper-base)."""
_COLUMN_BYTES = 1000
"""Room for the columns of one utterance."""


def check_room(
    request: ExtractionRequest,
    found: StoreComparison,
    segments: Sequence[AudioSegment],
    finished: Mapping[str, ShardReader],
) -> int:
    """Say what is to come; return the bytes still to be written, shards and finished file.

    Args:
        request: What is wanted.
        found: What is there.
        segments: What must be encoded.
        finished: The finished shards, by name.

    Raises:
        ExtractionError: they are not free.
    """
    rate = request.encoder.sampling_rate
    done = {entry.segment for shard in finished.values() for entry in shard.entries}
    shards = sum(_row_bytes(request, segment.samples) for segment in segments if segment not in done)
    durations = [measured.duration for _, measured in found.kept.values()]
    final = sum(_row_bytes(request, round(seconds * rate)) for seconds in durations)
    final += sum(_row_bytes(request, segment.samples) + _COLUMN_BYTES for segment in segments)
    free = free_space(request.work.parent)
    hours = (sum(segment.samples for segment in segments) / rate + sum(durations)) / 3600
    utterances = count_noun(len(segments) + len(durations), "utterance")
    request.tell(
        f"{request.corpus.name} with {request.encoder.name}: {utterances}, {hours:.2f} hours; "
        f"{str(request.out)!r} will take {format_bytes(final)} ({format_bytes(free)} free)."
    )
    if found.store is not None:
        kept = count_noun(len(durations), "utterance")
        request.tell(f"{kept} reused, {len(segments)} new, {found.removed} removed.")
    if finished:
        request.tell(f"Continuing: {count_done(finished)} of {len(segments)} utterances are finished.")
    if shards + final > free:
        raise ExtractionError(no_room(request.work.parent, f"{format_bytes(shards + final)} are"))
    return shards + final


def _row_bytes(request: ExtractionRequest, samples: int) -> int:
    encoder = request.encoder
    row = len(encoder.layers) * encoder.dimensions
    value = {"float16": 2, "float32": 4, None: 0}[request.kept_frames]
    return row * (8 + (encoder.frame_count(samples) * value if value else 0))


def settle_precision(
    request: ExtractionRequest, plan: ExtractionPlan, measure: Callable[[], float | None]
) -> ExtractionPlan:
    """Note in the plan what precision is used and what it changes; say so.

    Args:
        request: What is wanted.
        plan: One that is continued keeps what was noted when it started.
        measure: Measures the error, where the encoder is.
    """
    if not plan.precision:
        used = request.identity.get("precision", "fp32")
        error = 0.0 if used == "fp32" else measure()
        plan = replace(plan, precision={"asked": request.precision, "used": used, "relative_error": error})
    if plan.shards:
        _tell_precision(request, plan.precision)
    return plan


def _tell_precision(request: ExtractionRequest, described: dict[str, Any]) -> None:
    """Say what was chosen and what it changes, or what another precision would bring."""
    used, error = described["used"], described["relative_error"]
    chosen = f"--precision auto takes {used}" if described["asked"] == "auto" else f"Precision {used}"
    if used != "fp32":
        measured = "unknown" if error is None else f"{error:.1e}"
        told = f"relative error against fp32, on a few seconds of the first batch, {measured} (worst layer)"
        request.tell(f"{chosen}: {told}.")
    elif described["asked"] == "auto":
        request.tell(f"{chosen}: nothing else is both fast and safe here.")
    elif gains_from_bf16(request.encoder):
        gain = f"about {CPU_GAIN:g} times" if request.device == "cpu" else "several times"
        request.tell(f"--precision auto would take bf16 here, {gain} as fast, at a relative error of about 1e-2.")


def gains_from_bf16(encoder: Encoder) -> bool:
    """Say whether an encoder computes in fp32 on a device that multiplies bf16 faster."""
    return any(
        part.dtype is torch.float32 and has_fast_bf16(torch.device(part.device)) for part in encoder.parts or (encoder,)
    )


def watch_progress(request: ExtractionRequest, plan: ExtractionPlan, tasks: Sequence[WorkerTask]) -> Watch:
    """Report progress in seconds of audio, and say how long the rest will take.

    The estimate waits until each of those that work side by side may have finished a second piece: over the first one
    they also wait for libraries, files and encoders.

    Args:
        request: Whom to tell.
        plan: All that is encoded.
        tasks: What of it is not finished.

    Returns:
        What to call with batches that are finished.
    """
    rate = plan.sampling_rate
    total = sum(segment.samples for segment in plan.segments)
    left = sum(_samples(task.shard) for task in tasks)
    pieces, timed_from = 0, (time.perf_counter(), left)

    def report() -> None:
        if request.progress is not None:
            request.progress((total - left) / rate, total / rate)

    def watch(batches: Shard, workers: int | None) -> None:
        nonlocal pieces, left, timed_from
        pieces, left, now = pieces + 1, left - _samples(batches), time.perf_counter()
        side_by_side = workers or plan.passes
        if pieces == side_by_side:
            timed_from = now, left
        elif pieces == 2 * side_by_side:
            speed = (timed_from[1] - left) / rate / (now - timed_from[0])
            where = f"with {workers} workers" if workers else f"on {plan.device}"
            request.tell(f"About {format_duration(left / rate / speed)} to go {where} ({_times(speed)} real time).")
        report()

    report()
    return watch


def _samples(batches: Shard) -> int:
    return sum(segment.samples for segment in chain(*batches))


def format_duration(seconds: float) -> str:
    """Write a duration as a rough word: "3 minutes"."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} hours"
    unit, number = ("minute", seconds / 60) if seconds >= 60 else ("second", seconds)
    count = max(1, round(number))
    return f"{count} {unit}" + ("s" if count > 1 else "")


def _times(speed: float) -> str:
    return f"{speed:,.0f} times" if speed >= 100 else f"{speed:.3g} times"
