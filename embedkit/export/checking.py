"""Compare what was written with PyTorch, clip by clip."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.audio import read_audio
from embedkit.errors import EmbedkitError, RunError
from embedkit.export.predictor import Predictor
from embedkit.store.reader import open_store
from embedkit.training.data.targets import Scale

LONGEST_SECONDS = 30.0
_NOISE_SECONDS = (0.4, 1.7, 5.3)


@dataclass(frozen=True)
class Clip:
    """A clip to compare on: its name, and mono samples at the encoder's sampling rate."""

    name: str
    waveform: Tensor


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The largest difference on one clip: of a probability, or of a rating in standard deviations of the ratings."""

    clip: str
    seconds: float
    difference: float


def choose_clips(predictor: Predictor, given: Sequence[Path], largest_input: int | None) -> tuple[list[Clip], str]:
    """Read clips of several lengths: those given, else of the run's corpus, else noise.

    Of a corpus the shortest, the middle and the longest clip are taken, and the first half of the middle one.

    Returns:
        The clips, and in words what they are.

    Raises:
        AudioError: a given file cannot be used.
    """
    rate = int(predictor.identity["sampling_rate"])
    most = min(int(LONGEST_SECONDS * rate), largest_input or int(LONGEST_SECONDS * rate))
    if given:
        clips = [_read(path, rate, most) for path in given]
        return clips, "the files given"
    clips = _clips_of_corpus(predictor, rate, most)
    if clips:
        return clips, f"clips of {predictor.config['corpus']}"
    return [_noise(int(seconds * rate)) for seconds in _NOISE_SECONDS if seconds * rate <= most], (
        "noise, because the run's corpus is not at hand (name recordings with --check)"
    )


def compare(
    predictor: Predictor, clips: Sequence[Clip], expected: Sequence[Tensor], found: Sequence[NDArray[np.float32]]
) -> list[Difference]:
    """Return the largest difference of the outputs `[outputs]` on each clip."""
    unit = torch.ones(len(predictor.names))
    if predictor.rates:
        scales = [Scale.load(predictor.tensors, f"{head.number}/") for head in predictor.heads]
        unit = torch.from_numpy(np.mean([scale.deviation for scale in scales if scale is not None], axis=0)).float()
    rate = float(predictor.identity["sampling_rate"])
    return [
        Difference(
            clip=clip.name,
            seconds=len(clip.waveform) / rate,
            difference=float(((torch.from_numpy(own) - wanted).abs() / unit).max()),
        )
        for clip, wanted, own in zip(clips, expected, found, strict=True)
    ]


def require_equal(what: str, differences: Sequence[Difference], tolerance: float) -> None:
    """Refuse what differs.

    Raises:
        RunError: a difference above the tolerance, or one that is not a number.
    """
    for one in differences:
        if not one.difference <= tolerance:
            raise RunError(
                f"{what} differs from PyTorch by {one.difference:.1e} on {one.clip} ({one.seconds:.2f} s), more than "
                f"the tolerance of {tolerance:g}, and was not kept; take another format, or allow more by --tolerance."
            )


def _clips_of_corpus(predictor: Predictor, rate: int, most: int) -> list[Clip]:
    try:
        store = predictor.config["store"]
        # A run whose encoder ran in every epoch has no store, and says itself where they are.
        examples = store.get("examples") or _examples_of_store(store.get("stores", [store])[0]["path"])
        clips = [_read(Path(one["path"]), rate, most, one["start"], one["end"]) for one in examples]
    except (EmbedkitError, OSError, LookupError):
        return []
    middle = clips[len(clips) // 2]
    half = Clip(f"the first half of {middle.name}", middle.waveform[: max(1, len(middle.waveform) // 2)])
    return [*clips, half]


def _examples_of_store(path: str) -> list[dict[str, Any]]:
    with open_store(path) as store:
        root = Path(store.corpus_info["root"])
        seconds, paths, starts, ends = (store.column(name) for name in ("duration", "path", "start", "end"))
        order = np.argsort(seconds, kind="stable")
        rows = dict.fromkeys(int(order[place]) for place in (0, len(order) // 2, -1))
        return [{"path": root / str(paths[row]), "start": _time(starts[row]), "end": _time(ends[row])} for row in rows]


def _time(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _read(path: Path, rate: int, most: int, start: float | None = None, end: float | None = None) -> Clip:
    samples = read_audio(path, sampling_rate=rate, start=start, end=end)
    return Clip(path.name, torch.from_numpy(samples[:most]))


def _noise(samples: int) -> Clip:
    generator = np.random.default_rng(samples)
    loudness = 0.02 + 0.1 * np.abs(np.sin(np.arange(samples) / 2500))
    return Clip("noise", torch.from_numpy((loudness * generator.standard_normal(samples)).astype(np.float32)))
