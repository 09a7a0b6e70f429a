"""The attentive head's training step: the energies in pieces against all of them at once, in one process.

python benchmarks/attention.py
"""

from __future__ import annotations

import time

import torch
from torch import Generator, Tensor

from embedkit.heads import attentive, resolve_head
from embedkit.heads.attention import frame_energies
from embedkit.heads.base import HeadInputs, HeadShape
from embedkit.heads.layers import StackedLinear

STEPS = 5


def at_once(attention: StackedLinear, context: Tensor, frames: Tensor) -> Tensor:
    """Compute what `frame_energies` computes, without pieces."""
    return torch.einsum("gmfh,gmh->gmf", attention(frames).tanh(), context)


def step_seconds(layers: int, dimensions: int, members: int, frames: int) -> dict[str, float]:
    """Time a forward and a backward pass of either, alternately; the fastest counts."""
    found = resolve_head("attentive")
    shape = HeadShape(groups=1, members=members, layers=layers, dimensions=dimensions, classes=7)
    head = found.cls(shape, found.options, [Generator().manual_seed(seed) for seed in range(members)]).train()
    values = torch.randn(1, 32, frames, layers, dimensions, generator=Generator().manual_seed(0))
    inputs = HeadInputs(values=values, lengths=torch.full((1, 32), frames))
    seconds = {"at once": float("inf"), "in pieces": float("inf")}
    for _ in range(STEPS):
        for name, energies in (("at once", at_once), ("in pieces", frame_energies)):
            attentive.frame_energies = energies  # type: ignore[attr-defined]
            start = time.perf_counter()
            head(inputs).square().mean().backward()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def main() -> None:
    """Print seconds and ratios."""
    torch.set_num_threads(1)
    for told in ((1, 39, 15, 300), (1, 768, 15, 150), (7, 512, 15, 150)):
        seconds = step_seconds(*told)
        ratio = seconds["at once"] / seconds["in pieces"]
        print(f"layers, dimensions, members, frames {told}: {seconds}, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
