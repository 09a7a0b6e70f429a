"""Adam for a stack of heads: one step for all of them, a learning rate for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from embedkit.kernels import compiled_loops, flat
from embedkit.training.data.folds import Indices


class StackedAdam:
    """AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019) over parameters `[groups, members, ...]`.

    A head's update uses its own gradients, moments and learning rate only, and equals `torch.optim.AdamW` on that
    head alone.

    Args:
        parameters: The stack's parameters.
        learning_rates: `[groups, members]`.
        weight_decay: Decoupled, `[groups, members]` or one for all heads; biases and layer weights decay as well.
        factors: What each parameter's learning rates are multiplied by; 1 by default.
        compiled: Whether compiled loops take the steps, in float32 on a CPU.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        learning_rates: Tensor,
        *,
        weight_decay: Tensor | float = 0.0,
        factors: Sequence[float] | None = None,
        compiled: bool = False,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.parameters = list(parameters)
        self.rates = [
            (factor * learning_rates).to(p).view(*learning_rates.shape, *[1] * (p.dim() - 2))
            for p, factor in zip(self.parameters, factors or [1.0] * len(self.parameters), strict=True)
        ]
        decays = torch.as_tensor(weight_decay, dtype=learning_rates.dtype, device=learning_rates.device)
        self.decays = [rate * _broadcast(decays, rate) for rate in self.rates] if bool(decays.any()) else []
        self.betas, self.epsilon = betas, epsilon
        self.first = [torch.zeros_like(p) for p in self.parameters]
        self.second = [torch.zeros_like(p) for p in self.parameters]
        self.steps = 0
        self.loops = compiled_loops() if compiled else None

    def go_on(self, previous: StackedAdam, groups: Indices, members: Indices) -> None:
        """Take over the moments of some heads of a larger stack, named by `[groups, 1]` and `[groups, members]`."""
        rows, columns = (torch.from_numpy(places).to(self.first[0].device) for places in (groups, members))
        self.steps = previous.steps
        self.first = [moments[rows, columns] for moments in previous.first]
        self.second = [moments[rows, columns] for moments in previous.second]

    @torch.no_grad()
    def step(self, factor: float = 1.0, *, clip: float | None = None) -> None:
        """Update every parameter that has a gradient and drop the gradients.

        Args:
            factor: Multiplies all learning rates (the schedule).
            clip: Largest norm of the gradient of a head over all its parameters; longer ones are scaled down.
        """
        self.steps += 1
        if clip is not None:
            _clip([p.grad for p in self.parameters if p.grad is not None], clip)
        beta1, beta2 = self.betas
        correction = (1 - beta2**self.steps) ** 0.5
        scale = factor / (1 - beta1**self.steps)
        for place, (parameter, rate) in enumerate(zip(self.parameters, self.rates, strict=True)):
            gradient, first, second = parameter.grad, self.first[place], self.second[place]
            if gradient is None:
                continue
            kept = 1 - factor * self.decays[place] if self.decays else None
            if self.loops is not None:
                kept = torch.ones_like(rate) if kept is None else kept
                values = flat(parameter, gradient.contiguous(), first, second, rate, kept)
                size = parameter.numel() // rate.numel()
                self.loops.update(*values, size, beta1, beta2, correction * self.epsilon, scale * correction)
            else:
                if kept is not None:
                    parameter.mul_(kept)
                first.lerp_(gradient, 1 - beta1)
                second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
                denominator = second.sqrt().add_(correction * self.epsilon)
                parameter.addcmul_(first.div(denominator), rate, value=-scale * correction)
            parameter.grad = None


def _clip(gradients: Sequence[Tensor], limit: float) -> None:
    norms = sum(gradient.square().flatten(2).sum(-1) for gradient in gradients)
    factors = (limit / torch.as_tensor(norms).sqrt().clamp_min(1e-12)).clamp_max(1.0)
    for gradient in gradients:
        gradient.mul_(_broadcast(factors, gradient))


def _broadcast(values: Tensor, rate: Tensor) -> Tensor:
    """Give `[groups, members]`, or one number, as many dimensions as a parameter or its rates have."""
    return values.to(rate).view(*values.shape, *[1] * (rate.dim() - values.dim())) if values.dim() else values
