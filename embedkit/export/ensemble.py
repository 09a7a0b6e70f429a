"""Finished heads as one torch module: embeddings in, averaged probabilities (or ratings) out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from embedkit.errors import RunError
from embedkit.export.predictor import ChosenHead, Predictor
from embedkit.heads import resolve_head
from embedkit.heads.base import Head, HeadInputs, HeadShape
from embedkit.heads.stack import load_states
from embedkit.losses import build_loss
from embedkit.losses.base import Loss
from embedkit.training.data.targets import Scale
from embedkit.training.recorded import head_state, reading


class Ensemble(nn.Module):
    """The heads of a predictor; the mean over folds and seeds of what each of them says.

    Raises:
        RunError: weights that are missing or of another shape.
    """

    def __init__(self, predictor: Predictor, heads: Sequence[ChosenHead] | None = None) -> None:
        super().__init__()
        chosen = predictor.heads if heads is None else heads
        folds = dict.fromkeys(head.number for head in chosen)
        with reading(predictor.folder):
            loss = build_loss(predictor.config["loss_spec"])
            try:
                self.folds = nn.ModuleList(
                    FoldHeads(predictor, [head for head in chosen if head.number == number], loss) for number in folds
                )
            except KeyError as error:
                raise RunError(
                    f"The heads of {predictor.folder} lack {error}; run embedkit fit again with --overwrite."
                ) from None
        self.eval().requires_grad_(False)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Score embeddings.

        Args:
            values: Means, or means and deviations side by side, `[batch, layers, dimensions]`; or frames
                `[batch, frames, layers, dimensions]`.
            lengths: Own frames of each clip `[batch]`; None for means.

        Returns:
            `[batch, classes]` probabilities, or `[batch, dimensions]` ratings.
        """
        return torch.stack([fold(values, lengths) for fold in self.folds]).mean(0)


class FoldHeads(nn.Module):
    """The heads of one fold, which share a standardiser; those of equal settings are one stack."""

    mean: Tensor
    scale: Tensor

    def __init__(self, predictor: Predictor, heads: Sequence[ChosenHead], loss: Loss) -> None:
        super().__init__()
        tensors, number = predictor.tensors, heads[0].number
        self.register_buffer("mean", tensors[f"{number}/mean"].float())
        self.register_buffer("scale", tensors[f"{number}/scale"].float())
        _check_standardiser(predictor, self.mean, self.scale)
        self.loss = loss
        self.ratings = _Ratings(predictor, number) if predictor.rates else None
        groups = {spec: [head for head in heads if head.spec == spec] for spec in dict.fromkeys(h.spec for h in heads)}
        self.counts = [len(group) / len(heads) for group in groups.values()]
        stacks = [self._build(predictor, spec, group) for spec, group in groups.items()]
        self.widths = [stack.shape.dimensions for stack in stacks]
        self.stacks = nn.ModuleList(stacks)
        self.temperatures = nn.ModuleList(
            nn.Identity() if predictor.rates else _Temperatures([head.temperature for head in group])
            for group in groups.values()
        )

    def _build(self, predictor: Predictor, spec: str, heads: Sequence[ChosenHead]) -> Head:
        head = resolve_head(spec)
        alone = predictor.pool == "mean+std" and head.cls.pool(head.options) == "mean"
        shape = HeadShape(
            groups=1,
            members=len(heads),
            layers=self.mean.shape[0],
            dimensions=self.mean.shape[1] // (2 if alone else 1),
            classes=len(predictor.names) + len(self.loss.ratings),
            classifier=self.loss.classifier,
        )
        stack = head.cls(shape, head.options, [Generator().manual_seed(0) for _ in heads])
        load_states(stack, [[head_state(predictor.tensors, one.number, one.seed) for one in heads]])
        return stack

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        standardised = (values - self.mean) * self.scale
        if lengths is not None:
            padding = torch.arange(values.shape[1], device=values.device) >= lengths[:, None]
            standardised = standardised.masked_fill(padding[..., None, None], 0.0)
        own = None if lengths is None else lengths[None]
        shares = []
        parts = zip(self.stacks, self.temperatures, self.counts, self.widths, strict=True)
        for stack, temperatures, count, width in parts:
            read = standardised[None, ..., :width]
            said = temperatures(self._read(stack(HeadInputs(values=read, lengths=own))[0]))
            shares.append(said.mean(0) * count)
        return torch.stack(shares).sum(0)

    def _read(self, scores: Tensor) -> Tensor:
        read: Tensor = self.loss.probabilities(scores) if self.ratings is None else self.ratings(scores)
        return read


class _Temperatures(nn.Module):
    """Scale what each head says, `[heads, batch, classes]`, by its temperature; heads of older runs have none, 1."""

    values: Tensor

    def __init__(self, temperatures: Sequence[float]) -> None:
        super().__init__()
        self.scales = any(value != 1.0 for value in temperatures)
        self.register_buffer("values", torch.tensor(temperatures, dtype=torch.float32)[:, None, None])

    def forward(self, shares: Tensor) -> Tensor:
        if not self.scales:
            return shares
        return (shares.clamp_min(torch.finfo(shares.dtype).tiny).log() / self.values).softmax(-1)


class _Ratings(nn.Module):
    """Bring what heads give back to the unit of the ratings."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, predictor: Predictor, number: int) -> None:
        super().__init__()
        scale = Scale.load(predictor.tensors, f"{number}/")
        if scale is None:
            raise KeyError(f"{number}/rating_mean")
        self.register_buffer("mean", torch.from_numpy(scale.mean).float())
        self.register_buffer("deviation", torch.from_numpy(scale.deviation).float())

    def forward(self, scores: Tensor) -> Tensor:
        return scores * self.deviation + self.mean


def _check_standardiser(predictor: Predictor, mean: Tensor, scale: Tensor) -> None:
    encoder = predictor.config.get("store", {}).get("encoder", {})
    layers = 1 if predictor.config.get("layer") is not None else len(encoder.get("layers", mean))
    parts = 2 if predictor.pool == "mean+std" else 1
    read = (layers, parts * encoder.get("dimensions", mean.shape[-1] // parts))
    if not mean.shape == scale.shape == read:
        raise RunError(
            f"The heads of {predictor.folder} standardise {list(mean.shape)} and {list(scale.shape)} numbers, expected "
            f"{list(read)}; make them again."
        )
