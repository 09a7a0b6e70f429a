"""w2v-BERT's attention with relative keys (Shaw et al., NAACL 2018; Communication et al., "Seamless", 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class RelativeKeyAttention(nn.Module):
    """Attention whose scores depend on the distance from query to key, which is cut off on either side.

    A query meets every vector of a distance once, and keys at that distance share the result: time and memory grow by
    frames times distances, where a vector for every pair of frames would be frames times frames times its size.

    Args:
        attention: A `Wav2Vec2BertSelfAttention` of transformers with relative keys, whose layers are kept.
    """

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.linear_q, self.linear_k, self.linear_v = attention.linear_q, attention.linear_k, attention.linear_v
        self.linear_out, self.distance_embedding = attention.linear_out, attention.distance_embedding
        self.heads: int = attention.num_heads
        self.scaling: float = attention.scaling
        self.left: int = attention.left_max_position_embeddings
        self.right: int = attention.right_max_position_embeddings

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Attend, without dropout.

        Args:
            hidden_states: `[batch, frames, dimensions]`.
            attention_mask: `[batch, 1, frames, frames]`, added to the scores, or true where a key is seen.

        Returns:
            `[batch, frames, dimensions]`; no weights.
        """
        query, key, value = (
            project(hidden_states).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.linear_q, self.linear_k, self.linear_v)
        )
        by_distance = query @ (self.distance_embedding.weight * self.scaling).to(query.dtype).T
        place = torch.arange(query.shape[2], device=query.device)
        distance = (place - place[:, None]).clamp(-self.left, self.right) + self.left
        bias = by_distance.gather(-1, distance.expand(*query.shape[:2], -1, -1))
        if attention_mask is not None and attention_mask.dtype is torch.bool:
            bias.masked_fill_(~attention_mask, float("-inf"))
        elif attention_mask is not None:
            bias += attention_mask
        attended = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=self.scaling)
        return self.linear_out(attended.transpose(1, 2).flatten(2)), None


def share_distances(model: Any) -> None:
    """Replace the attention in the layers of a frozen w2v-BERT by one of the same results; others are left alone."""
    if model.config.model_type == "wav2vec2-bert" and model.config.position_embeddings_type == "relative_key":
        for layer in model.encoder.layers:
            layer.self_attn = RelativeKeyAttention(layer.self_attn)
