"""Predictors with heads of random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from embedkit.export.predictor import ChosenHead, Predictor
from embedkit.heads import resolve_head
from embedkit.heads.base import HeadShape
from embedkit.heads.stack import slice_state
from embedkit.losses import build_loss

CLASSES = ["anger", "fear", "sadness"]


def random_predictor(
    heads: list[str],
    *,
    loss: str = "ce",
    layers: int = 4,
    dimensions: int = 64,
    folds: int = 2,
    layer: int | None = None,
    ratings: bool = False,
) -> Predictor:
    """Make one head of each of some settings in every fold, with its seed its place."""
    generator = torch.Generator().manual_seed(1)
    tensors: dict[str, torch.Tensor] = {}
    chosen = []
    read = layers if layer is None else 1
    for number in range(folds):
        tensors[f"{number}/mean"] = torch.randn(read, dimensions, generator=generator)
        tensors[f"{number}/scale"] = 0.5 + torch.rand(read, dimensions, generator=generator)
        if ratings:
            tensors[f"{number}/rating_mean"] = torch.tensor([3.0, 2.0, -1.0], dtype=torch.float64)
            tensors[f"{number}/rating_deviation"] = torch.tensor([0.5, 1.5, 2.0], dtype=torch.float64)
        for seed, spec in enumerate(heads):
            resolved = resolve_head(spec)
            shape = HeadShape(
                groups=1,
                members=1,
                layers=read,
                dimensions=dimensions,
                classes=len(CLASSES),
                classifier=build_loss(loss).classifier,
            )
            head = resolved.cls(shape, resolved.options, [torch.Generator().manual_seed(10 * number + seed)])
            with torch.no_grad():
                for parameter in head.parameters():
                    parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
            tensors |= {f"{number}/{seed}/{name}": value for name, value in slice_state(head, 0, 0).items()}
            chosen.append(ChosenHead(number, f"fold{number}", seed, spec))
    config: dict[str, Any] = {
        "loss_spec": loss,
        "head_spec": heads[0],
        "classes": [] if ratings else CLASSES,
        "dimensions": ["valence", "arousal", "dominance"] if ratings else [],
        "layer": layer,
        "store": {"encoder": {"layers": list(range(layers))}},
    }
    return Predictor(folder=Path("run"), config=config, tensors=tensors, exported=False, heads=tuple(chosen))
