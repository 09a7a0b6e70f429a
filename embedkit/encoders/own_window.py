"""Encoders that pad every clip to a window of their own, and cut it there: which of their frames are a clip's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class OwnWindow:
    """What a model hears of a clip, and where the clip is in what it gives.

    Attributes:
        samples: Length of what is heard.
        smallest: Samples that give the first frame; each further one is begun a hop later.
        hop: Samples from one frame to the next.
        frames: Frames in the window.
        bands: Vectors that make a frame, one for each band of frequency; they are averaged.
    """

    samples: int
    smallest: int
    hop: int
    frames: int
    bands: int = 1

    def own_frames(self, samples: int) -> int:
        """Return how many frames have begun within a clip of at least `smallest` samples."""
        return min(self.frames, (samples - self.smallest) // self.hop + 1)

    def arrange(self, state: Tensor) -> Tensor:
        """Turn vectors `[batch, vectors, dimensions]` into frames over time `[batch, frames, dimensions]`.

        The vectors of the lowest band come first, from beginning to end; those before all bands belong to no time.
        """
        grid = state[:, state.shape[1] - self.bands * self.frames :]
        return grid.reshape(len(state), self.bands, self.frames, -1).mean(dim=1)


def find_own_window(extractor: Any, config: Any, vectors: int) -> OwnWindow | None:
    """Return the window of a model with so many vectors for every clip; None where it is of no kind that is known.

    Whisper's feature extractor pads to 30 s, and the vectors follow each other in time (Voxtral, GLM-ASR, Audio
    Flamingo 3, Qwen2-Audio). AST (Gong et al., "AST: Audio spectrogram transformer", Interspeech 2021) cuts the mel
    frames of 10.24 s into patches of time and frequency. Its window here ends with the last patch: what follows is not
    heard.
    """
    kind = type(extractor).__name__
    if kind == "WhisperFeatureExtractor" and extractor.n_samples % vectors == 0:
        hop = extractor.n_samples // vectors
        return OwnWindow(samples=extractor.n_samples, smallest=1, hop=hop, frames=vectors)
    if kind == "ASTFeatureExtractor" and config.model_type == "audio-spectrogram-transformer":
        # Kaldi's mel frames: 25 ms every 10 ms, and no frame that reaches beyond the clip.
        mel_samples, mel_hop = extractor.sampling_rate // 40, extractor.sampling_rate // 100
        frames = (extractor.max_length - config.patch_size) // config.time_stride + 1
        bands = (extractor.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        hop = config.time_stride * mel_hop
        heard = (frames - 1) * hop + (config.patch_size - 1) * mel_hop + mel_samples
        return OwnWindow(samples=min(heard, frames * hop), smallest=mel_samples, hop=hop, frames=frames, bands=bands)
    return None


def mask_padding(family: str, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Hide padding from a model the way it does itself, by the extractor's mask of mel frames `[batch, mel frames]`.

    Audio Flamingo 3 takes the mask under another name, Qwen2-Audio takes what is added to the attention, with a vector
    for two mel frames (transformers' `Qwen2AudioForConditionalGeneration`). Others hear the padding, as in training.
    """
    if family not in MASKED:
        return inputs
    others = {name: value for name, value in inputs.items() if name != "attention_mask"}
    mask = inputs["attention_mask"]
    if family == "audioflamingo3_encoder":
        return {**others, "input_features_mask": mask}
    hidden = mask[:, None, None, ::2] == 0
    return {**others, "attention_mask": torch.zeros(hidden.shape).masked_fill(hidden, torch.finfo(torch.float16).min)}


MASKED = frozenset({"audioflamingo3_encoder", "qwen2_audio_encoder"})
"""Models that do not hear the padding of their window."""
