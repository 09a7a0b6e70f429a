"""emotion2vec (Ma et al., "emotion2vec", ACL 2024): data2vec's network with tokens before the frames and ALiBi."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from embedkit.encoders.conv_transformer import ConvTransformerEncoder
from embedkit.encoders.emotion2vec_weights import write_network
from embedkit.encoders.exact import attention_bias
from embedkit.encoders.pretrained import EncoderRequest


class Emotion2vecEncoder(ConvTransformerEncoder):
    """emotion2vec and emotion2vec+, from layer 0 (the input of the first block) to 12 (four blocks, then eight).

    Args:
        request: The encoder as asked for.
        model: The network of `build_network`.
    """

    # Of the layer norm over the waveform.
    variance_floor = 1e-5

    def __init__(self, request: EncoderRequest, model: Any) -> None:
        super().__init__(request, model)
        self._tokens: Tensor = model.extra_tokens
        self._scale: Tensor = model.alibi_scale
        self.ahead = self._tokens.shape[1]
        self._slopes = torch.tensor(alibi_slopes(self._scale.shape[2]), device=self.device)

    def save(self, folder: Path, network: nn.Module | None = None) -> None:
        """Write the network, or another one in its place, under the published names of its weights."""
        saved: Any = network or self.network
        write_network(saved, folder)

    def _embed(self, features: Tensor, lengths: Sequence[int], padding: Tensor | None) -> Tensor:
        frames = super()._embed(features, lengths, padding)
        tokens: Tensor = self._dropout(self._norm(self._tokens.to(self.dtype)))
        return torch.cat([tokens.expand(len(frames), -1, -1), frames], dim=1)

    def _attention_bias(self, padding: Tensor | None, frames: int) -> Tensor:
        """Return `[batch or 1, heads, positions, positions]`: ALiBi between frames, none to and from the tokens."""
        place = torch.arange(frames, device=self.device)
        distance = (place[:, None] - place).abs()
        slopes = self._slopes * self._scale.flatten().clamp_min(0.0)
        bias = pad(-distance * slopes[:, None, None], (self.ahead, 0, self.ahead, 0))[None].to(self.dtype)
        if padding is None:
            return bias
        keys = attention_bias(pad(padding, (self.ahead, 0)), self.dtype)
        return bias if keys is None else bias + keys


def alibi_slopes(heads: int) -> list[float]:
    """Return the factor of the distance in each head (Press et al., "Train short, test long", ICLR 2022).

    >>> alibi_slopes(4)
    [0.25, 0.0625, 0.015625, 0.00390625]
    """
    own = 2 ** int(math.log2(heads))
    further = [2 ** (-4 * number / own) for number in range(1, 2 * own, 2)]
    return [2 ** (-8 * number / own) for number in range(1, own + 1)] + further[: heads - own]
