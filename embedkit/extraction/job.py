"""The job of an extraction: continue the unfinished plan, or make one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from embedkit.errors import ExtractionError
from embedkit.extraction.items import Item
from embedkit.extraction.plan import MOST_SHARDS, SHARD_SECONDS, Plan, PlanSettings, Shard, plan_batches, plan_shards
from embedkit.extraction.request import BATCH_SECONDS, PLAN_NAME, Request
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
    items: list[Item]
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


def prepare_job(request: Request, standing: Standing, items: list[Item]) -> Job:
    """Continue the unfinished plan, or make one; shards that are not part of it are removed.

    Raises:
        ExtractionError: the unfinished extraction has other options.
    """
    plan = _unfinished(request)
    if plan is None:
        settings = _settings(request, standing, items)
        plan = Plan(
            fingerprint=request.fingerprint,
            settings=settings,
            versions=request.identity.get("versions", {}),
            shards=plan_shards(items, settings),
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
    try:
        plan = Plan.load(path)
    except ExtractionError:
        if request.overwrite:
            return None
        raise
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


def _settings(request: Request, standing: Standing, items: list[Item]) -> PlanSettings:
    """Fix what is computed with: as asked, else as the store was made, else the defaults."""
    before = standing.store.extraction if standing.store is not None else {}
    before = before if before.get("device") == request.device else {}
    rate = request.encoder.sampling_rate
    seconds = sum(item.samples for item in items) / rate
    shard_seconds = max(SHARD_SECONDS.get(request.device, SHARD_SECONDS["cpu"]), seconds / MOST_SHARDS)
    usual = before.get("batch_seconds", BATCH_SECONDS.get(request.device, BATCH_SECONDS["cpu"]))
    batch_seconds = request.batch_seconds or usual
    threads = request.threads or before.get("threads", request.usual_threads)
    settings = PlanSettings(
        batch_seconds=batch_seconds,
        shard_seconds=request.shard_seconds or shard_seconds,
        threads=threads,
        passes=1,
        device=request.device,
        sampling_rate=rate,
    )
    # A pass on each core beats one pass on all of them, which wait for each other, unless cores are left without one.
    enough = before.get("passes") == threads or _count_passes(request, items, settings) >= _ROUNDS * threads
    side_by_side = request.device == "cpu" and request.encoder.reentrant and enough
    return replace(settings, passes=threads) if side_by_side else settings


def _count_passes(request: Request, items: list[Item], settings: PlanSettings) -> int:
    """Count batches; of a long clip, windows."""
    longest = [batch[0].samples for batch in plan_batches(items, settings)]
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
