"""The plan of an extraction: which utterances share a batch and a shard, fixed when it starts."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from embedkit.errors import ExtractionError
from embedkit.extraction.batches import batch_clips
from embedkit.extraction.segments import AudioSegment
from embedkit.received import MOST_TEXT, read_object
from embedkit.store.layout import canonical_json, digest_bytes
from embedkit.writing import write_file

Batch: TypeAlias = tuple[AudioSegment, ...]
Shard: TypeAlias = tuple[Batch, ...]
Watch: TypeAlias = Callable[[Shard, int | None], None]
"""Called with batches that are finished, and with the number of workers; None where this process encodes."""

PLAN_NAME = "plan.json"
"""The plan in the folder of an unfinished extraction."""
SHORTEST_SHARE = 0.5
"""A clip shorter than this share of the longest in its batch starts a new batch."""
SHARD_SECONDS = {"cpu": 300.0, "cuda": 3000.0, "mps": 600.0}
"""Audio in a shard, by kind of device: what a kill may cost, and enough to keep the device busy."""
MOST_SHARDS = 4096

_VERSION = 2
_SETTINGS = ("batch_seconds", "shard_seconds", "threads", "passes", "device", "sampling_rate")


class WorkerTask(NamedTuple):
    """One shard to encode: its file, and its batches."""

    path: Path
    shard: Shard


@dataclass(frozen=True, kw_only=True)
class ExtractionPlan:
    """What is computed with, fixed when an extraction starts and reused when it goes on, and shards of batches.

    Attributes:
        fingerprint: Of the encoder and the options that matter.
        batch_seconds: Audio in a batch, padding included.
        shard_seconds: Audio in a shard: what a killed extraction may have to do again, beside the batches under way.
        threads: Threads of the encoder, shared by its passes.
        passes: Passes that run side by side.
        device: "cpu", "cuda" or "mps".
        sampling_rate: Hertz.
        versions: Versions of the libraries that the numbers depend on.
        shards: In the order in which they run.
        precision: What was asked for, what is used, and its error against fp32.
        fresh: Whether a store that is there already is to be replaced, not reused.
    """

    fingerprint: str
    batch_seconds: float
    shard_seconds: float
    threads: int
    passes: int = 1
    device: str
    sampling_rate: int
    versions: dict[str, str] = field(default_factory=dict)
    shards: tuple[Shard, ...] = ()
    precision: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @property
    def settings(self) -> dict[str, Any]:
        """What is computed with."""
        return {name: getattr(self, name) for name in _SETTINGS}

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Names of the shards' files; a name changes with everything that the shard's content depends on."""
        known = [self.fingerprint, self.settings]
        return tuple(digest_bytes(canonical_json([*known, shard]).encode()) for shard in self.shards)

    @property
    def segments(self) -> Iterator[AudioSegment]:
        """All utterances, in the order in which they run."""
        return (segment for shard in self.shards for segment in chain(*shard))

    def tasks(self, folder: Path) -> dict[str, WorkerTask]:
        """Return what is to be done for each shard in this folder, by the shard's name."""
        named = zip(self.keys, self.shards, strict=True)
        return {key: WorkerTask(folder / f"{key}.shard", shard) for key, shard in named}

    def revise(self, segments: Sequence[AudioSegment], finished: Collection[str] = ()) -> ExtractionPlan:
        """Keep the finished shards that still count and plan the other segments anew."""
        wanted = set(segments)
        named = zip(self.keys, self.shards, strict=True)
        kept = [shard for key, shard in named if key in finished and not wanted.isdisjoint(chain(*shard))]
        covered = {segment for shard in kept for segment in chain(*shard)}
        rest = [segment for segment in segments if segment not in covered]
        return replace(self, shards=(*kept, *self._cut(rest)))

    def _cut(self, segments: Sequence[AudioSegment]) -> Iterator[Shard]:
        """Group batches, longest clips first, into shards of about `shard_seconds` of audio."""
        shard: list[Batch] = []
        seconds = 0.0
        for batch in plan_batches(segments, self.batch_seconds * self.sampling_rate):
            shard.append(batch)
            seconds += sum(segment.samples for segment in batch) / self.sampling_rate
            if seconds >= self.shard_seconds:
                yield tuple(shard)
                shard, seconds = [], 0.0
        if shard:
            yield tuple(shard)

    def save(self, path: Path) -> None:
        """Write the plan as JSON, in one step."""
        own = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in _SETTINGS}
        content = {"version": _VERSION, "settings": self.settings, **own}
        write_file(path, json.dumps(content, ensure_ascii=False).encode(), error=ExtractionError)

    @classmethod
    def find(cls, path: Path) -> ExtractionPlan | None:
        """Read a plan; None where there is none, or not one of this version."""
        try:
            return cls.load(path)
        except ExtractionError:
            return None

    @classmethod
    def load(cls, path: Path) -> ExtractionPlan:
        """Read a plan.

        Raises:
            ExtractionError: the file is not a plan of this version.
        """
        try:
            content = read_object(path, MOST_TEXT)
            if content.pop("version") != _VERSION:
                raise ValueError("another version")
            shards = tuple(
                tuple(tuple(AudioSegment(*segment) for segment in batch) for batch in shard)
                for shard in content.pop("shards")
            )
            return cls(**content.pop("settings"), **content, shards=shards)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ExtractionError(
                f"The plan {str(path)!r} cannot be read ({error}); start again with --overwrite."
            ) from error


def plan_batches(segments: Sequence[AudioSegment], most_samples: float) -> Iterator[Batch]:
    """Batch clips of similar length, longest first, at most so many samples with padding."""
    longest_first = sorted(segments, key=lambda segment: (-segment.samples, segment.id))
    return map(tuple, batch_clips(longest_first, _samples, most_samples, least_share=SHORTEST_SHARE))


def _samples(segment: AudioSegment) -> int:
    return segment.samples
