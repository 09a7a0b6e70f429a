"""Begin an extraction or go on with it: the unfinished plan or a new one, and the shards of it that are finished."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from embedkit.errors import ExtractionError
from embedkit.extraction.lock import empty
from embedkit.extraction.passes import ROUNDS
from embedkit.extraction.plan import MOST_SHARDS, PLAN_NAME, SHARD_SECONDS, ExtractionPlan
from embedkit.extraction.request import BATCH_SECONDS, ExtractionRequest
from embedkit.extraction.segments import AudioSegment
from embedkit.extraction.shards import ShardReader, open_finished
from embedkit.wording import count_noun


def prepare_plan(
    request: ExtractionRequest, before: Mapping[str, Any], segments: list[AudioSegment], usual_threads: int
) -> tuple[ExtractionPlan, dict[str, ShardReader]]:
    """Continue the unfinished plan, or make one; shards that are not part of it are removed.

    Args:
        request: What is wanted.
        before: The `extraction` of the store that is brought up to date; its settings are taken where none are asked.
        segments: What must be encoded.
        usual_threads: Threads of the encoder where neither the user nor the store names a number.

    Returns:
        The plan, and its finished shards by name.

    Raises:
        ExtractionError: the unfinished extraction has other options.
    """
    plan = _unfinished(request) or _new_plan(request, before, segments, usual_threads)
    opened = {key: open_finished(task.path) for key, task in plan.tasks(request.work).items()}
    finished = {key: reader for key, reader in opened.items() if reader is not None}
    if set(plan.segments) != set(segments):
        plan = plan.revise(segments, finished)
    finished = {key: finished[key] for key in plan.keys if key in finished}
    empty(request.work, keep={PLAN_NAME, *(reader.path.name for reader in finished.values())})
    return plan, finished


def count_done(finished: Mapping[str, ShardReader]) -> int:
    """Return the number of utterances in finished shards."""
    return sum(len(shard.entries) + len(shard.failures) for shard in finished.values())


def _unfinished(request: ExtractionRequest) -> ExtractionPlan | None:
    """Return the plan to continue.

    Raises:
        ExtractionError: the unfinished extraction has other options.
    """
    path = request.work / PLAN_NAME
    if not path.exists():
        return None
    plan = ExtractionPlan.find(path) if request.overwrite else ExtractionPlan.load(path)
    if plan is None:
        return None
    same = plan.fingerprint == request.fingerprint
    if request.overwrite and not (same and plan.fresh):
        return None
    if not same or plan.device != request.device:
        raise ExtractionError(
            f"An unfinished extraction with another encoder, precision, device or other options lies in "
            f"{str(request.work)!r}; continue it with its own options, discard it with --overwrite, or choose another "
            "file with --out."
        )
    _tell_kept_settings(request, plan)
    return plan


def _new_plan(
    request: ExtractionRequest, before: Mapping[str, Any], segments: list[AudioSegment], usual_threads: int
) -> ExtractionPlan:
    """Fix what is computed with: as asked, else as before on such a device, else the defaults."""
    before = before if before.get("device") == request.device else {}
    rate = request.encoder.sampling_rate
    seconds = sum(segment.samples for segment in segments) / rate
    shard_seconds = max(SHARD_SECONDS.get(request.device, SHARD_SECONDS["cpu"]), seconds / MOST_SHARDS)
    usual = before.get("batch_seconds", BATCH_SECONDS.get(request.device, BATCH_SECONDS["cpu"]))
    plan = ExtractionPlan(
        fingerprint=request.fingerprint,
        batch_seconds=request.batch_seconds or usual,
        shard_seconds=request.shard_seconds or shard_seconds,
        threads=request.threads or before.get("threads", usual_threads),
        device=request.device,
        sampling_rate=rate,
        versions=request.identity.get("versions", {}),
        fresh=request.overwrite,
    ).revise(segments)
    return replace(plan, passes=_side_by_side(request, before, plan))


def _side_by_side(request: ExtractionRequest, before: Mapping[str, Any], plan: ExtractionPlan) -> int:
    """Return how many passes run at a time: one for each thread, unless that would leave cores without one."""
    if request.device != "cpu" or not request.encoder.reentrant:
        return 1
    enough = before.get("passes") == plan.threads or _count_passes(request, plan) >= ROUNDS * plan.threads
    return plan.threads if enough else 1


def _count_passes(request: ExtractionRequest, plan: ExtractionPlan) -> int:
    """Count batches; of a long clip, windows."""
    longest = [batch[0].samples for shard in plan.shards for batch in shard]
    window = max(longest, default=1) if request.windows is None else request.windows.samples
    return sum(math.ceil(samples / window) for samples in longest)


def _tell_kept_settings(request: ExtractionRequest, plan: ExtractionPlan) -> None:
    fixed = {name: plan.settings[name] for name in ("batch_seconds", "shard_seconds", "threads")}
    if any(getattr(request, name) not in (None, value) for name, value in fixed.items()):
        request.tell(
            f"Continuing with the batches of {plan.batch_seconds:g} s, the shards of {plan.shard_seconds:g} s and the "
            f"{count_noun(plan.threads, 'thread')} that this extraction was started with."
        )
    versions = request.identity.get("versions", {})
    if plan.versions != versions:
        request.tell(f"Continuing with {_listed(versions)} what was started with {_listed(plan.versions)}.")


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "unknown versions"
