"""Where a recording holds speech, by Silero VAD: block after block, whatever its length."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from embedkit.audio import read_blocks
from embedkit.errors import ConfigError
from embedkit.received import MOST_HOURS
from embedkit.registry import require_extra

RATE = 16_000
FRAME, CONTEXT = 512, 64
"""Samples that a probability stands for, and those before them that are heard as well."""

THRESHOLD, LEAVE = 0.5, 0.35
"""Speech begins at a frame as probable as this, and ends at one less probable than that."""
LEAST_SPEECH, LEAST_SILENCE, MARGIN = (RATE * milliseconds // 1000 for milliseconds in (250, 100, 30))
"""Samples. All five are the defaults of `get_speech_timestamps` in silero-vad 6.2.3."""

WEIGHTS = "silero_vad_16k_sequence.onnx"
"""Takes many frames at once. The safetensors of the same package hold other weights than what its functions load."""
_STATE = 128
_AT_ONCE = 256
"""Frames in a pass, some eight seconds."""


def find_speech(
    path: Path,
    *,
    start: float | None = None,
    end: float | None = None,
    most_hours: float = MOST_HOURS,
    rescale: bool = False,
) -> list[tuple[float, float]]:
    """Return begin and end of each stretch of speech, in seconds after `start`; arguments are those of `read_audio`.

    Raises:
        ConfigError: Silero VAD is not installed, or is of another version.
        AudioError: as `read_audio`.
    """
    session = open_vad()
    blocks = read_blocks(path, sampling_rate=RATE, start=start, end=end, most_hours=most_hours, rescale=rescale)
    return [(first / RATE, last / RATE) for first, last in find_stretches(listen(session, blocks))]


def find_stretches(passes: Iterable[tuple[NDArray[np.float32], int]]) -> list[tuple[int, int]]:
    """Return first and last sample of each stretch of speech, from probabilities `[frames]` and their samples."""
    found = []
    begin: int | None = None
    quiet: int | None = None
    place = length = 0
    for probabilities, samples in passes:
        length += samples
        for probability in probabilities.tolist():
            if probability >= THRESHOLD:
                begin, quiet = place if begin is None else begin, None
            elif probability < LEAVE and begin is not None:
                quiet = place if quiet is None else quiet
                if place - quiet >= LEAST_SILENCE:
                    found.append((begin, quiet))
                    begin = quiet = None
            place += FRAME
    if begin is not None:
        found.append((begin, length))
    # Silence between two stretches is longer than both margins.
    return [
        (max(0, first - MARGIN), min(length, last + MARGIN)) for first, last in found if last - first > LEAST_SPEECH
    ]


def listen(session: Any, blocks: Iterable[NDArray[np.float32]]) -> Iterator[tuple[NDArray[np.float32], int]]:
    """Yield probabilities of speech `[frames]` and how many samples they are of, from `[samples]` at `RATE`."""
    held, state = np.zeros(CONTEXT, np.float32), [np.zeros((1, 1, _STATE), np.float32)] * 2
    for block in chain(blocks, [None]):
        samples = len(held) - CONTEXT
        # The end is filled up with silence.
        held = np.concatenate([held, np.zeros(-samples % FRAME, np.float32) if block is None else block])
        frames = (len(held) - CONTEXT) // FRAME
        for first in range(0, frames, _AT_ONCE):
            last = min(first + _AT_ONCE, frames)
            own = sliding_window_view(held[first * FRAME : last * FRAME + CONTEXT], CONTEXT + FRAME)[::FRAME]
            given = {"input": np.ascontiguousarray(own), "h": state[0], "c": state[1]}
            values, *state = session.run(["speech_probs", "hn", "cn"], given)
            yield values.reshape(-1), samples if block is None else (last - first) * FRAME
        held = held[frames * FRAME :]


@cache
def open_vad() -> Any:
    """Open the weights of the installed package, which is not imported: it would load an archive of code.

    Raises:
        ConfigError: it is not installed, or has other weights.
    """
    for package in ("silero_vad", "onnxruntime"):
        require_extra(package, extra="vad", needed_by="--vad silero", error=ConfigError, otherwise="leave it out")
    import onnxruntime

    spec = importlib.util.find_spec("silero_vad")
    path = Path(next(iter((spec and spec.submodule_search_locations) or [""])), "data", WEIGHTS)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.inter_op_num_threads, options.intra_op_num_threads = 3, 1, 1
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ConfigError(
            f"{str(path)!r} is no network of Silero VAD; install silero-vad anew, 6.2.3 or later."
        ) from error
