"""WavLM's gated relative position bias (Chen et al., "WavLM", JSTSP 2022, section III-B)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


def position_bias(layers: nn.ModuleList, frames: int) -> Tensor | None:
    """Return the bias of the first layer, `[heads, frames, frames]`, which all layers share; None without layers."""
    if not len(layers):
        return None
    first: Any = layers[0]
    bias: Tensor = first.attention.compute_bias(frames, frames)
    return bias


def run_layer(layer: Any, hidden: Tensor, positions: Tensor, keys: Tensor | None, *, norm_first: bool) -> Tensor:
    """Run one WavLM layer with fused attention, through the layer's own modules.

    Args:
        layer: A transformers WavLM layer, with or without `norm_first` ("stable layer norm").
        hidden: `[batch, frames, channels]`.
        positions: `[heads, frames, frames]`.
        keys: Added to the scores of padded keys, `[batch, 1, 1, frames]`.
        norm_first: Whether norms come before attention and feed-forward.
    """
    attended: Tensor
    if norm_first:
        attended = hidden + layer.dropout(_attend(layer.attention, layer.layer_norm(hidden), positions, keys))
        return attended + _feed(layer, layer.final_layer_norm(attended))
    attended = layer.layer_norm(hidden + layer.dropout(_attend(layer.attention, hidden, positions, keys)))
    result: Tensor = layer.final_layer_norm(attended + _feed(layer, attended))
    return result


def _feed(layer: Any, hidden: Tensor) -> Tensor:
    result: Tensor = layer.feed_forward(hidden)
    return result


def _attend(attention: Any, hidden: Tensor, positions: Tensor, keys: Tensor | None) -> Tensor:
    by_head = (*hidden.shape[:2], attention.num_heads, attention.head_dim)
    query, key, value = (
        project(hidden).view(by_head).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias = _gate(attention, hidden.view(by_head).transpose(1, 2)) * positions
    if keys is not None:
        bias += keys
    dropout = attention.dropout if attention.training else 0.0
    attended = scaled_dot_product_attention(query, key, value, attn_mask=bias.to(query.dtype), dropout_p=dropout)
    result: Tensor = attention.out_proj(attended.transpose(1, 2).flatten(2))
    return result


def _gate(attention: Any, heads: Tensor) -> Tensor:
    """Return the factor of the position bias for every query, `[batch, heads, frames, 1]`."""
    update, reset = torch.sigmoid(attention.gru_rel_pos_linear(heads).unflatten(-1, (2, 4)).sum(-1)).chunk(2, dim=-1)
    result: Tensor = update * (reset * attention.gru_rel_pos_const - 1.0) + 2.0
    return result
