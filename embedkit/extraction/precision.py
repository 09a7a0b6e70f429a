"""The precision of an extraction: what was chosen, what it changes against fp32, and what another would bring."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from embedkit.audio import read_audio
from embedkit.encoders.base import Encoder
from embedkit.encoders.precision import has_fast_bf16
from embedkit.errors import AudioError
from embedkit.extraction.passes import Passes, in_order
from embedkit.extraction.plan import Batch
from embedkit.extraction.pooling import Pool
from embedkit.extraction.segments import AudioSegment
from embedkit.store.layout import Array

if TYPE_CHECKING:
    from embedkit.extraction.encoding import EncodingConfig
    from embedkit.extraction.job import Job
    from embedkit.extraction.request import Request

CPU_GAIN = 1.7
"""How much faster bf16 is than fp32 on a CPU with avx512_bf16 (HuBERT-base and Whisper-base)."""


def relative_error(recipe: EncodingConfig, reference: Encoder, batches: Iterable[Batch]) -> float | None:
    """Measure what the encoder's precision changes, on the first batch that can be read.

    Returns:
        The norm of the difference between the clips' means over the norm of the reference's, in the layer where it
        is largest; None where no clip can be read.
    """
    for batch in batches:
        waves = [wave for item in batch if (wave := _beginning(recipe, item)) is not None]
        if waves:
            found, expected = (_means(encoder, waves) for encoder in (recipe.encoder, reference))
            norms = np.linalg.norm(expected, axis=(0, 2))
            differences = np.linalg.norm(found - expected, axis=(0, 2))
            return float(np.max(differences / np.where(norms > 0, norms, 1.0)))
    return None


def settle_precision(job: Job, measure: Callable[[], float | None]) -> None:
    """Note in the plan what precision is used and what it changes; say so.

    Args:
        job: The extraction; one that is continued keeps what was noted when it started.
        measure: Measures the error, where the encoder is.
    """
    if not job.plan.precision:
        used = job.request.identity.get("precision", "fp32")
        error = 0.0 if used == "fp32" else measure()
        described = {"asked": job.request.precision, "used": used, "relative_error": error}
        job.plan = replace(job.plan, precision=described)
    if job.items:
        _tell(job.request, job.plan.precision)


def _tell(request: Request, described: dict[str, Any]) -> None:
    """Say what was chosen and what it changes, or what another precision would bring."""
    used, error = described["used"], described["relative_error"]
    chosen = f"--precision auto takes {used}" if described["asked"] == "auto" else f"Precision {used}"
    if used != "fp32":
        measured = "unknown" if error is None else f"{error:.1e}"
        request.tell(f"{chosen}: relative error against fp32 on the first batch {measured} (worst layer).")
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


def _beginning(recipe: EncodingConfig, item: AudioSegment) -> torch.Tensor | None:
    """Read a clip, of a long one the first window; None where it cannot be read."""
    rate = recipe.encoder.sampling_rate
    start, end = item.start, item.end
    if recipe.windows is not None and item.samples > recipe.windows.samples:
        end = (start or 0.0) + recipe.windows.samples / rate
    try:
        samples = read_audio(recipe.root / item.path, sampling_rate=rate, start=start, end=end)
    except AudioError:
        return None
    wave = torch.from_numpy(samples if recipe.windows is None else samples[: recipe.windows.samples])
    return torch.nn.functional.pad(wave, (0, max(0, recipe.encoder.smallest_input - len(wave))))


def _means(encoder: Encoder, waves: list[torch.Tensor]) -> Array:
    """Return the means of clips, float64 `[clips, layers, dimensions]`."""
    with torch.inference_mode():
        launched = Passes(encoder, lambda sentence: None).start(waves, Pool)
        means: Array = np.stack([row.mean for row in in_order(launched, Pool.rows)]).astype(np.float64)
    return means
