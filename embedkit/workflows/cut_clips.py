"""Cut clips into what is predicted of them: windows, speech, windows within speech."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise

from embedkit.audio import probe_audio
from embedkit.corpora.clips import Clip
from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError, ConfigError
from embedkit.extraction.speech import find_speech
from embedkit.options.predict import CuttingOptions
from embedkit.progress import Tell

GROUP = 64
"""Windows that are batched together, and predicted again together where one of them is missing: a batch of other
windows may change the last digits."""

LONGEST_SPEECH_SECONDS = 30.0
"""Of a stretch of speech that is predicted as a whole."""


def cut_windows(begin: float, end: float, window: float, hop: float) -> list[tuple[float, float]]:
    """Return begin and end of windows every `hop`, in seconds (microseconds count); the last one ends at the end.

    >>> cut_windows(0.0, 2.75, 2.0, 0.5)
    [(0.0, 2.0), (0.5, 2.5), (0.75, 2.75)]
    """
    rest = end - begin - window
    if rest <= 0:
        return [(begin, end)]
    starts = [begin + number * hop for number in range(int(rest / hop) + 1)]
    windows = [(round(start, 6), round(start + window, 6)) for start in starts]
    return windows if windows[-1][1] >= round(end, 6) else [*windows, (round(end - window, 6), round(end, 6))]


def cut_clips(clips: Iterable[Clip], options: CuttingOptions, tell: Tell) -> Iterator[Clip]:
    """Yield what is predicted of clips, in their order; those that cannot be cut as they are, for whoever reads them.

    Args:
        clips: Files, or stretches of them; windows that were cut before are passed on.
        options: What is predicted.
        tell: Hears of clips without speech.

    Raises:
        ConfigError: Silero VAD is wanted, and not installed.
        AudioError: no clip holds speech.
    """
    number, empty = 0, []
    for clip in clips:
        cut = [clip] if clip.group is not None or not options.cuts else _cut(clip, options)
        if not cut:
            empty.append(clip.name)
            tell(f"No speech in {clip.name!r}: it has no rows.")
        for one in cut:
            if one is clip:
                yield one
            else:
                yield replace(one, group=number // GROUP)
                number += 1
    if empty and not number:
        raise AudioError(
            f"No speech was found in {empty[0] if len(empty) == 1 else f'any of the {len(empty)} clips'}; leave out "
            "--vad to predict what there is."
        )


def _cut(clip: Clip, options: CuttingOptions) -> list[Clip]:
    begin = clip.start or 0.0
    try:
        duration = probe_audio(clip.path, most_hours=options.max_hours).duration_seconds
        end = duration if clip.end is None else min(clip.end, duration)
        if not 0 <= begin < end or end - begin > options.max_hours * 3600:
            return [clip]
        stretches = [(begin, end)]
        if options.vad:
            speech = find_speech(
                clip.path, start=clip.start, end=clip.end, most_hours=options.max_hours, rescale=options.rescale
            )
            stretches = [(begin + first, min(begin + last, end)) for first, last in speech]
    except AudioError:
        return [clip]
    return [
        replace(clip, start=start, end=until)
        for one in stretches
        for start, until in (
            _halve(*one) if options.window is None else cut_windows(*one, options.window, options.hop or options.window)
        )
    ]


def _halve(begin: float, end: float) -> list[tuple[float, float]]:
    """Cut a stretch into equal parts that are not too long."""
    count = math.ceil((end - begin) / LONGEST_SPEECH_SECONDS)
    edges = [round(begin + (end - begin) * number / count, 6) for number in range(count + 1)]
    return list(pairwise(edges))


def require_window(window: float | None, encoder: Encoder) -> None:
    """Refuse windows that are shorter than what an encoder hears.

    Raises:
        ConfigError: says how long they must be.
    """
    least = encoder.smallest_input / encoder.sampling_rate
    if window is not None and window < least:
        raise ConfigError(f"--window is {window:g}, but {encoder.name} hears no less than {least:.3g} s; give more.")
