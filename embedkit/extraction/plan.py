"""The plan of an extraction: which utterances share a batch and a shard, fixed when it starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from embedkit.errors import ExtractionError
from embedkit.extraction.segments import AudioSegment
from embedkit.store.files import write_durably
from embedkit.store.layout import canonical_json, digest_bytes

Batch: TypeAlias = tuple[AudioSegment, ...]
Shard: TypeAlias = tuple[Batch, ...]

MOST_CLIPS = 256
SHORTEST_SHARE = 0.5
"""A clip shorter than this share of the longest in its batch starts a new batch."""
SHARD_SECONDS = {"cpu": 300.0, "cuda": 3000.0}
"""Audio in a shard, by kind of device: what a kill may cost, and enough to keep the device busy."""
MOST_SHARDS = 4096

_VERSION = 2


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """What an extraction computes with; fixed at its start and reused when it is continued.

    Attributes:
        batch_seconds: Audio in a batch, padding included.
        shard_seconds: Audio in a shard: what a killed extraction may have to do again, beside the batches under way.
        threads: Threads of the encoder, shared by its passes.
        passes: Passes that run side by side.
        device: "cpu" or "cuda".
        sampling_rate: Hertz.
    """

    batch_seconds: float
    shard_seconds: float
    threads: int
    passes: int
    device: str
    sampling_rate: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Shards of batches of items.

    Attributes:
        fingerprint: Of the encoder and the options that matter.
        settings: See `PlanSettings`.
        versions: Versions of the libraries that the numbers depend on.
        shards: In the order in which they run.
        precision: What was asked for, what is used, and its error; see `embedkit.extraction.precision`.
        fresh: Whether a store that is there already is to be replaced, not reused.
    """

    fingerprint: str
    settings: PlanSettings
    versions: dict[str, str] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    precision: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the shards' files; a name changes with everything that the shard's content depends on."""
        settings = [self.fingerprint, asdict(self.settings)]
        return tuple(digest_bytes(canonical_json([*settings, shard]).encode()) for shard in self.shards)

    @property
    def items(self) -> Iterator[AudioSegment]:
        """All items, in the order in which they run."""
        return (item for shard in self.shards for batch in shard for item in batch)

    def revise(self, items: Sequence[AudioSegment], finished: set[str]) -> Plan:
        """Keep the finished shards that still count and plan the other items anew."""
        wanted = set(items)
        named = zip(self.keys, self.shards, strict=True)
        kept = [shard for key, shard in named if key in finished and wanted.intersection(_flat(shard))]
        covered = {item for shard in kept for item in _flat(shard)}
        rest = [item for item in items if item not in covered]
        return replace(self, shards=(*kept, *plan_shards(rest, self.settings)))

    def save(self, path: Path) -> None:
        """Write the plan as JSON, in one step."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        content = {"version": _VERSION, **values, "settings": asdict(self.settings)}
        write_durably(path, json.dumps(content, ensure_ascii=False).encode())

    @classmethod
    def find(cls, path: Path) -> Plan | None:
        """Read a plan; None where there is none, or not one of this version."""
        try:
            return cls.load(path)
        except ExtractionError:
            return None

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read a plan.

        Raises:
            ExtractionError: the file is not a plan of this version.
        """
        try:
            content = json.loads(path.read_bytes())
            if content.pop("version") != _VERSION:
                raise ValueError("another version")
            shards = tuple(
                tuple(tuple(AudioSegment(*item) for item in batch) for batch in shard)
                for shard in content.pop("shards")
            )
            return cls(**{**content, "settings": PlanSettings(**content["settings"]), "shards": shards})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExtractionError(
                f"The plan {str(path)!r} cannot be read ({error}); start again with --overwrite."
            ) from error


def plan_shards(items: Iterable[AudioSegment], settings: PlanSettings) -> tuple[Shard, ...]:
    """Group batches, longest clips first, into shards of about `shard_seconds` of audio."""
    shards: list[Shard] = []
    shard: list[Batch] = []
    seconds = 0.0
    for batch in plan_batches(items, settings):
        shard.append(batch)
        seconds += sum(item.samples for item in batch) / settings.sampling_rate
        if seconds >= settings.shard_seconds:
            shards.append(tuple(shard))
            shard, seconds = [], 0.0
    return (*shards, tuple(shard)) if shard else tuple(shards)


def plan_batches(items: Iterable[AudioSegment], settings: PlanSettings) -> Iterator[Batch]:
    """Batch clips of similar length: sorted, longest first, at most `batch_seconds` with padding."""
    limit = settings.batch_seconds * settings.sampling_rate
    batch: list[AudioSegment] = []
    for item in sorted(items, key=lambda item: (-item.samples, item.id)):
        if batch and not _room(batch, item, limit):
            yield tuple(batch)
            batch = []
        batch.append(item)
    if batch:
        yield tuple(batch)


def _room(batch: list[AudioSegment], item: AudioSegment, limit: float) -> bool:
    longest = batch[0].samples
    similar = item.samples >= SHORTEST_SHARE * longest
    return similar and len(batch) < MOST_CLIPS and (len(batch) + 1) * longest <= limit


def _flat(shard: Shard) -> list[AudioSegment]:
    return [item for batch in shard for item in batch]


def padding_share(batches: Iterable[Batch]) -> float:
    """Return the share of the computed samples that is padding."""
    computed = own = 0
    for batch in batches:
        computed += len(batch) * batch[0].samples
        own += sum(item.samples for item in batch)
    return 1 - own / computed if computed else 0.0
