"""A transformer encoder of some thousand random weights, in the layout of the published ones."""

from __future__ import annotations

from pathlib import Path

import torch

from embedkit.encoders.checkpoint import write_model
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers
from embedkit.writing import new_folder

SEED = 0


def write_tiny_random(folder: Path) -> None:
    """Write a HuBERT that knows nothing, to try out whether transformers work; one that is there is kept.

    Raises:
        EncoderError: transformers is missing, broken or too old.
    """
    config = load_transformers("HubertConfig")(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )
    model_class, extractor = load_transformers("HubertModel"), load_transformers("Wav2Vec2FeatureExtractor")
    if (folder / "config.json").is_file():
        return
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        model = model_class(config)
    with new_folder(folder, error=EncoderError) as written:
        extractor().save_pretrained(written)
        write_model(model, written)
