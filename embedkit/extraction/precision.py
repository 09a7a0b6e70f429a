"""What an encoder's precision changes against fp32."""

from __future__ import annotations

import numpy as np
import torch

from embedkit.encoders.base import Encoder
from embedkit.errors import AudioError
from embedkit.extraction.encoding import EncodingConfig, read_segment
from embedkit.extraction.passes import Passes, in_order
from embedkit.extraction.plan import Shard
from embedkit.extraction.pooling import Pool
from embedkit.extraction.segments import AudioSegment
from embedkit.store.layout import Array

CLIP_SECONDS, MEASURED_SECONDS = 2.0, 4.0
"""How much of a clip, and of all clips together, is encoded to measure: little beside a small corpus."""


def relative_error(config: EncodingConfig, reference: Encoder, shard: Shard) -> float | None:
    """Measure what the encoder's precision changes, on the beginnings of clips of the first readable batch.

    Returns:
        The norm of the difference between the clips' means over the norm of the reference's, in the layer where it
        is largest; None where no clip can be read.
    """
    for batch in shard:
        waves: list[torch.Tensor] = []
        for segment in batch:
            wave = _beginning(config, segment)
            if wave is not None:
                waves.append(wave)
            if sum(map(len, waves)) >= MEASURED_SECONDS * config.encoder.sampling_rate:
                break
        if waves:
            found, expected = (_means(encoder, waves) for encoder in (config.encoder, reference))
            norms = np.linalg.norm(expected, axis=(0, 2))
            differences = np.linalg.norm(found - expected, axis=(0, 2))
            return float(np.max(differences / np.where(norms > 0, norms, 1.0)))
    return None


def _beginning(config: EncodingConfig, segment: AudioSegment) -> torch.Tensor | None:
    """Read a clip, of a long one the first seconds; None where it cannot be read."""
    rate, end = config.encoder.sampling_rate, segment.end
    longest = int(CLIP_SECONDS * rate)
    if config.windows is not None:
        longest = min(longest, config.windows.samples)
    if segment.samples > longest:
        end = (segment.start or 0.0) + longest / rate
    try:
        samples = read_segment(config, segment, end=end)
    except AudioError:
        return None
    wave = torch.from_numpy(samples[:longest])
    return torch.nn.functional.pad(wave, (0, max(0, config.encoder.smallest_input - len(wave))))


def _means(encoder: Encoder, waves: list[torch.Tensor]) -> Array:
    """Return the means of clips, float64 `[clips, layers, dimensions]`."""
    with torch.inference_mode():
        launched = Passes(encoder, lambda sentence: None).start(waves, Pool)
        means: Array = np.stack([row.mean for row in in_order(launched, Pool.rows)]).astype(np.float64)
    return means
