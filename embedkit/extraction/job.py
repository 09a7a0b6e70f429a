"""The job of an extraction: continue the unfinished plan, or make one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedkit.errors import ExtractionError
from embedkit.extraction.plan import MOST_SHARDS, SHARD_SECONDS, Plan, PlanSettings, Shard, plan_shards
from embedkit.extraction.request import BATCH_SECONDS, PLAN_NAME, Request
from embedkit.extraction.segments import AudioSegment
from embedkit.extraction.shards import ShardReader, open_finished
from embedkit.extraction.standing import Standing
from embedkit.wording import count_noun

_ROUNDS = 2
"""Passes for each thread from which they run side by side."""


@dataclass(kw_only=True)
class Job:
    """One extraction under way: what is asked, how things stood, what must be encoded, and what of it is finished."""

    request: Request
    standing: Standing
    items: list[AudioSegment]
    plan: Plan
    finished: dict[str, ShardReader]

    @property
    def pending(self) -> list[tuple[Path, Shard]]:
        """The shards that are not finished, and where they go."""
        named = zip(self.plan.keys, self.plan.shards, strict=True)
        return [(_shard_path(self.request, key), shard) for key, shard in named if key not in self.finished]

    @property
    def items_done(self) -> int:
        """Number of items in finished shards."""
        return sum(len(shard.entries) + len(shard.failures) for shard in self.finished.values())


def prepare_job(request: Request, standing: Standing, items: list[AudioSegment]) -> Job:
    """Continue the unfinished plan, or make one; shards that are not part of it are removed.

    Raises:
        ExtractionError: the unfinished extraction has other options.
    """
    plan = _unfinished(request)
    if plan is None:
        before = standing.store.extraction if standing.store is not None else {}
        before = before if before.get("device") == request.device else {}
        settings = _settings(request, before, items)
        shards = plan_shards(items, settings)
        plan = Plan(
            fingerprint=request.fingerprint,
            settings=replace(settings, passes=_side_by_side(request, before, settings, shards)),
            versions=request.identity.get("versions", {}),
            shards=shards,
            fresh=request.overwrite,
        )
    found = {key: open_finished(_shard_path(request, key)) for key in plan.keys}
    finished = {key: reader for key, reader in found.items() if reader is not None}
    if set(plan.items) != set(items):
        plan = plan.revise(items, set(finished))
    kept = {key: finished[key] for key in plan.keys if key in finished}
    known = {"lock", PLAN_NAME, *(_shard_path(request, key).name for key in kept)}
    for path in request.work.iterdir():
        if path.name not in known:
            path.unlink()
    return Job(request=request, standing=standing, items=items, plan=plan, finished=kept)


def _unfinished(request: Request) -> Plan | None:
    """Return the plan to continue.

    Raises:
        ExtractionError: the unfinished extraction has other options.
    """
    path = request.work / PLAN_NAME
    if not path.exists():
        return None
    plan = Plan.find(path) if request.overwrite else Plan.load(path)
    if plan is None:
        return None
    same = plan.fingerprint == request.fingerprint
    if request.overwrite and not (same and plan.fresh):
        return None
    if not same or plan.settings.device != request.device:
        raise ExtractionError(
            f"An unfinished extraction with another encoder, precision, device or other options lies in "
            f"{str(request.work)!r}; continue it with its own options, discard it with --overwrite, or choose another "
            "file with --out."
        )
    _tell_kept_settings(request, plan)
    return plan


def _settings(request: Request, before: Mapping[str, Any], items: list[AudioSegment]) -> PlanSettings:
    """Fix what is computed with, one pass at a time: as asked, else as before, else the defaults."""
    rate = request.encoder.sampling_rate
    seconds = sum(item.samples for item in items) / rate
    shard_seconds = max(SHARD_SECONDS.get(request.device, SHARD_SECONDS["cpu"]), seconds / MOST_SHARDS)
    usual = before.get("batch_seconds", BATCH_SECONDS.get(request.device, BATCH_SECONDS["cpu"]))
    return PlanSettings(
        batch_seconds=request.batch_seconds or usual,
        shard_seconds=request.shard_seconds or shard_seconds,
        threads=request.threads or before.get("threads", request.usual_threads),
        passes=1,
        device=request.device,
        sampling_rate=rate,
    )


def _side_by_side(
    request: Request, before: Mapping[str, Any], settings: PlanSettings, shards: tuple[Shard, ...]
) -> int:
    """Return how many passes run at a time: one for each thread, unless that would leave cores without one."""
    if request.device != "cpu" or not request.encoder.reentrant:
        return 1
    enough = before.get("passes") == settings.threads or _count_passes(request, shards) >= _ROUNDS * settings.threads
    return settings.threads if enough else 1


def _count_passes(request: Request, shards: tuple[Shard, ...]) -> int:
    """Count batches; of a long clip, windows."""
    longest = [batch[0].samples for shard in shards for batch in shard]
    window = max(longest, default=1) if request.windows is None else request.windows.samples
    return sum(math.ceil(samples / window) for samples in longest)


def _tell_kept_settings(request: Request, plan: Plan) -> None:
    wanted = {
        "batch_seconds": request.batch_seconds,
        "shard_seconds": request.shard_seconds,
        "threads": request.threads,
    }
    fixed = {name: getattr(plan.settings, name) for name in wanted}
    if any(value is not None and value != fixed[name] for name, value in wanted.items()):
        request.tell(
            f"Continuing with the batches of {fixed['batch_seconds']:g} s, the shards of "
            f"{fixed['shard_seconds']:g} s and the {count_noun(fixed['threads'], 'thread')} that this extraction was "
            "started with."
        )
    versions = request.identity.get("versions", {})
    if plan.versions != versions:
        request.tell(f"Continuing with {_listed(versions)} what was started with {_listed(plan.versions)}.")


def _listed(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "unknown versions"


def _shard_path(request: Request, key: str) -> Path:
    return request.work / f"{key}.shard"
