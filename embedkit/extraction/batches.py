"""Batches of clips: as many in one pass as a number of samples allows, padding included."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")

MOST_CLIPS = 256


def batch_clips(
    clips: Iterable[T],
    length: Callable[[T], int],
    most_samples: float,
    *,
    most_clips: int = MOST_CLIPS,
    least_share: float = 0.0,
) -> Iterator[list[T]]:
    """Put neighbours into batches; sorted by length, they are padded least.

    Args:
        clips: In their order, taken as they are needed.
        length: Returns the samples of a clip.
        most_samples: What a batch computes at most, every clip padded to the longest; a single clip may be longer.
        most_clips: Clips in a batch, at most.
        least_share: A clip shorter than this share of the longest before it starts a new batch; 1 for equal lengths.
    """
    batch: list[T] = []
    longest = 0
    for clip in clips:
        samples = length(clip)
        full = len(batch) >= most_clips or max(longest, samples) * (len(batch) + 1) > most_samples
        if batch and (full or samples < least_share * longest):
            yield batch
            batch, longest = [], 0
        batch.append(clip)
        longest = max(longest, samples)
    if batch:
        yield batch
