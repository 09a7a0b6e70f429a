"""w2v-BERT's attention by distances gives what transformers' does, also far beyond the greatest distance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertModel

from embedkit.encoders.relative_key import RelativeKeyAttention, share_distances
from tests.encoders.checkpoints import relative_error

BATCH, FRAMES = 3, 41


def build_model(**settings: Any) -> Any:
    shape: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    return Wav2Vec2BertModel(Wav2Vec2BertConfig(intermediate_size=64, **shape | settings)).eval()


def seen(kind: str) -> Tensor | None:
    """Return which keys are seen, `[batch, 1, frames, frames]`: true, or 0 and not minus infinity."""
    keys = torch.arange(FRAMES) < torch.tensor([FRAMES, 1, 17])[:, None]
    mask = keys[:, None, None].expand(-1, 1, FRAMES, -1)
    added = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))
    return {"none": None, "boolean": mask, "added": added}[kind]


@pytest.mark.parametrize(("left", "right"), [(64, 8), (7, 3), (1, 0), (0, 5)])
@pytest.mark.parametrize("kind", ["none", "boolean", "added"])
@torch.inference_mode()
def test_attention_equals_that_of_transformers(left: int, right: int, kind: str) -> None:
    model = build_model(left_max_position_embeddings=left, right_max_position_embeddings=right)
    theirs = model.encoder.layers[0].self_attn
    theirs.distance_embedding.weight.normal_(0.0, 3.0)
    values = torch.randn(BATCH, FRAMES, 64)
    expected, _ = theirs(values, attention_mask=seen("added" if kind == "boolean" else kind))
    found, _ = RelativeKeyAttention(theirs)(values, attention_mask=seen(kind))
    assert relative_error(found, expected) <= 1e-6
    theirs.distance_embedding.weight.zero_()
    without, _ = RelativeKeyAttention(theirs)(values, attention_mask=seen(kind))
    assert relative_error(without, expected) > 1e-2


@pytest.mark.parametrize(("kind", "replaced"), [("relative_key", True), ("relative", False), ("rotary", False)])
def test_only_relative_keys_are_replaced(kind: str, replaced: bool) -> None:
    model = build_model(position_embeddings_type=kind)
    share_distances(model)
    assert all(isinstance(layer.self_attn, RelativeKeyAttention) is replaced for layer in model.encoder.layers)
