"""Encoder and heads as one module for one clip, the same without the encoder, and what the clip's own encoder says."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from embedkit.encoders.base import Encoder
from embedkit.export.ensemble import Ensemble
from embedkit.export.predictor import Predictor
from embedkit.training.recorded import reading


class FrameHeads(nn.Module):
    """Heads on the frames of one clip: `[frames, layers, dimensions]` in, `[classes]` or `[dimensions]` out."""

    def __init__(self, predictor: Predictor, ensemble: Ensemble) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.place = layer_place(predictor)
        self.level, self.pool = predictor.level, predictor.pool

    def forward(self, frames: Tensor) -> Tensor:
        """Score the frames of one clip, `[frames, layers, dimensions]`."""
        chosen = frames if self.place is None else frames[:, self.place : self.place + 1]
        if self.level == "utterance":
            pooled = chosen.mean(0, keepdim=True)
            if self.pool == "mean+std":
                deviations = (chosen - pooled).square().mean(0, keepdim=True).sqrt()
                pooled = torch.cat([pooled, deviations], -1)
            scores: Tensor = self.ensemble(pooled)
        else:
            # Counted, not read off the shape, so that the count is part of the graph.
            count = torch.ones_like(chosen[:, 0, 0], dtype=torch.int64).sum(0, keepdim=True)
            scores = self.ensemble(chosen[None], count)
        return scores[0]


class ClipHeads(nn.Module):
    """Encoder and heads: a waveform `[samples]` in, `[classes]` or `[dimensions]` out.

    Args:
        encoder: The encoder, from `[samples]` to `[frames, layers, dimensions]`.
        smallest_input: Samples that a shorter clip is padded to with zeros.
        heads: The heads.
    """

    def __init__(self, encoder: nn.Module, smallest_input: int, heads: FrameHeads) -> None:
        super().__init__()
        self.encoder, self.smallest_input, self.heads = encoder, smallest_input, heads

    def forward(self, waveform: Tensor) -> Tensor:
        """Score one clip `[samples]`."""
        missing: Any = torch.sym_max(self.smallest_input - waveform.shape[0], 0)  # type: ignore[no-untyped-call, unused-ignore]
        scores: Tensor = self.heads(self.encoder(pad(waveform, (0, missing))))
        return scores


def layer_place(predictor: Predictor) -> int | None:
    """Return the place of the only layer that the heads read among those of the encoder; None for all."""
    layer = predictor.config.get("layer")
    with reading(predictor.folder):
        return None if layer is None else list(predictor.identity["layers"]).index(layer)


def encode_clip(encoder: Encoder, waveform: Tensor) -> Tensor:
    """Return the frames `[frames, layers, dimensions]` of one clip by embedkit's own encoder."""
    layers: list[Tensor] = []
    encoder.encode([waveform], lambda _, values, lengths: layers.append(values[0, : int(lengths[0])].clone()))
    return torch.stack(layers, dim=1)
