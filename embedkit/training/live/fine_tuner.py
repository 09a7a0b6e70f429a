"""Train the encoder behind the heads: all of it, some of its layers, or adapters."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embedkit.augmentations.base import Augmentation
from embedkit.devices import CPU, has_room
from embedkit.encoders.base import Encoder, select_layers
from embedkit.encoders.spec_augment import SpecAugment
from embedkit.errors import EncoderError, FitError
from embedkit.libraries import hide_broken_libraries
from embedkit.options.fit import FitOptions
from embedkit.registry import import_extra
from embedkit.training.live.augmentation import build_augmentations, change_waveform
from embedkit.training.processes import ALONE, Processes
from embedkit.training.stacks.stack import State
from embedkit.wording import list_some

LARGEST_NORM = 1.0
"""Of the encoder's gradient."""

SHOWN = 6
"""Parameters that a sentence names."""


class FineTuner:
    """Trains one encoder, for one head after another; each starts from the encoder as it was loaded.

    Args:
        encoder: Loaded to be trained.
        options: How.
        processes: Whose gradients are added up.

    Raises:
        EncoderError: no such layers, or no linear layer of the names that adapters want.
        FitError: the library peft is missing.
    """

    def __init__(self, encoder: Encoder, options: FitOptions, processes: Processes = ALONE) -> None:
        self.augmentations = build_augmentations(options.augment)
        _require_tunable(encoder, options, self.augmentations)
        masking = next((one.options for one in self.augmentations if isinstance(one.options, SpecAugment)), None)
        self.network = encoder.prepare_training(recompute=options.recompute, masking=masking)
        self.encoder, self.options, self.processes, self.parts = encoder, options, processes, options.accumulate
        self.rate = options.encoder_lr or 0.0
        self.network.requires_grad_(False)
        if options.mode == "lora":
            # Adapters are few and small: each learns from every mini-batch.
            encoder.layerdrop = 0.0
            _add_adapters(self.network, options, encoder.name)
        else:
            _release(self.network, options, encoder)
        self.trained = {name: value for name, value in self.network.named_parameters() if value.requires_grad}
        if not self.trained:
            raise EncoderError(f"Nothing of {encoder.name} would be trained; choose other layers with --tune-layers.")
        self.still = [part for part in self.network.modules() if _keeps_still(part)]
        self.initial = self.state()
        self.layerdrop = encoder.layerdrop
        self.best: State = {}
        self.optimizer: Any = None
        self.steps = self.total = self.seed = 0
        self.norms: list[Tensor] = []

    def start(self, seed: int, steps: int) -> None:
        """Begin with another head: the encoder as it was, its dropout by the seed, for so many mini-batches."""
        if not self.encoder.draw(seed):
            self.load(self.initial)
        self._draw_adapters(seed)
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=self.rate, weight_decay=0.0)
        self.steps, self.total, self.best, self.seed, self.norms = 0, steps, {}, seed, []
        self._drop_layers()

    def _drop_layers(self) -> None:
        """Run every layer in the first step: one that is dropped could not be told from one out of reach."""
        if self.layerdrop:
            self.encoder.layerdrop = self.layerdrop if self.steps else 0.0

    @torch.no_grad()
    def _draw_adapters(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for name, value in self.trained.items():
            if ".lora_A." in name:
                fresh = torch.empty(value.shape)
                value.copy_(nn.init.kaiming_uniform_(fresh, a=math.sqrt(5), generator=generator))

    def train(self, training: bool) -> None:
        """Turn dropout and masking on or off; parts that are not trained stay as in evaluation.

        Every epoch draws from a seed of its own, so that one that goes on after a stop draws the same.
        """
        self._require_finite()
        if training:
            own = np.random.SeedSequence([self.seed, self.steps, self.processes.rank])
            torch.manual_seed(int(own.generate_state(1)[0]))
        self.network.train(training)
        for part in self.still:
            part.eval()

    def change(self, waveform: Tensor) -> Tensor:
        """Change a training clip `[samples]` at random."""
        encoder = self.encoder
        rate, smallest, largest = encoder.sampling_rate, encoder.smallest_input, encoder.largest_input
        return change_waveform(waveform, self.augmentations, rate, smallest, largest)

    def step(self) -> None:
        """Follow the gradient of a mini-batch and drop it.

        Raises:
            FitError: the gradient is not finite (told at the end of the epoch where the host would have to wait for
                the device), or after the first one parameters that none has reached.
        """
        self.processes.sum_gradients(self.trained.values())
        if self.steps == 0:
            self._require_gradients()
        norm = nn.utils.clip_grad_norm_(self.trained.values(), LARGEST_NORM)
        self.norms.append(norm)
        self.steps += 1
        if norm.device.type == "cpu":
            self._require_finite()
        self._drop_layers()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * self._rate_factor()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _require_finite(self) -> None:
        norms, self.norms = self.norms, []
        wrong = [] if not norms else (~torch.isfinite(torch.stack(norms))).nonzero()[:, 0].tolist()
        if wrong:
            raise FitError(
                f"The training of {self.encoder.name} diverged after {self.steps - len(norms) + wrong[0]} steps; lower "
                "--encoder-lr or --lr, or give a longer --warmup."
            )

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the encoder as it is: on its device where there is room, else in the host's memory."""
        if self.best:
            for name, kept in self.best.items():
                kept.copy_(self.trained[name])
            return
        device = torch.device(self.encoder.device)
        size = sum(value.nbytes for value in self.trained.values())
        self.best = self.state(device if has_room(device, size) else CPU)

    def state(self, device: torch.device = CPU) -> State:
        """Copy what is trained to the CPU, or to another device."""
        return {name: value.detach().to(device, copy=True) for name, value in self.trained.items()}

    @torch.no_grad()
    def load(self, state: State) -> None:
        """Put back what `state` gave."""
        for name, value in state.items():
            self.trained[name].copy_(value)

    def snapshot(self) -> dict[str, Any]:
        """Return all that a training goes on from, as tensors and plain values."""
        return {
            "trained": self.state(),
            "best": self.best,
            "optimiser": self.optimizer.state_dict(),
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `snapshot` gave, after `start`."""
        self.load(state["trained"])
        self.best, self.steps = state["best"], state["steps"]
        self._drop_layers()
        self.optimizer.load_state_dict(state["optimiser"])

    def save(self, folder: Path) -> None:
        """Write the encoder into a folder that `load_encoder` reads; adapters are added to the weights beside them."""
        self.encoder.save(folder, self._plain_network())

    def _plain_network(self) -> nn.Module:
        if self.options.mode != "lora":
            return self.network
        from peft.tuners.lora import LoraLayer

        merged = copy.deepcopy(self.network)
        for name, layer in list(merged.named_modules()):
            if isinstance(layer, LoraLayer):
                layer.merge()
                parent, _, child = name.rpartition(".")
                setattr(merged.get_submodule(parent), child, layer.get_base_layer())
        return merged

    def _rate_factor(self) -> float:
        """Rise over the warm-up, then fall linearly to a tenth at the end."""
        warm = self.options.warmup * self.total
        if self.steps <= warm:
            return self.steps / warm
        return 1.0 - 0.9 * (self.steps - warm) / max(self.total - warm, 1.0)

    def _require_gradients(self) -> None:
        """Check that training reaches whatever it should; of an adapter's two factors one starts at zero."""
        reached: dict[str, bool] = {}
        for name, value in self.trained.items():
            owner = re.sub(r"\.lora_[AB]\..*$", "", name) if self.options.mode == "lora" else name
            reached[owner] = reached.get(owner, False) or (value.grad is not None and bool(value.grad.any()))
        missed = [name for name, found in reached.items() if not found]
        if missed and (self.options.mode == "lora" or len(missed) == len(reached)):
            shown = list_some(missed, SHOWN)
            what = "adapters" if self.options.mode == "lora" else "weights"
            raise FitError(
                f"After the first step no gradient has reached {len(missed)} {what} of {self.encoder.name} ({shown}); "
                "choose other layers with --lora-targets or --tune-layers, or keep the encoder --mode frozen."
            )


def _require_tunable(encoder: Encoder, options: FitOptions, augmentations: Sequence[Augmentation]) -> None:
    """Refuse what an encoder's training cannot do, rather than to leave it out in silence."""
    asked = {
        "layers": ("--tune-layers", options.tune_layers.strip().lower() != "all"),
        "convolutions": ("--tune-convolutions", options.tune_convolutions),
        "recompute": ("--recompute", options.recompute),
        **{one.requires: (f"--augment {one.name}", True) for one in augmentations if one.requires},
    }
    for name, (option, wanted) in asked.items():
        if wanted and name not in encoder.tunable:
            raise EncoderError(f"The encoder {encoder.name!r} has no {option}; leave the option out.")
    repeated = options.recompute or options.accumulate > 1
    if repeated and torch.device(encoder.device).type == "mps":
        raise FitError(
            "Found --recompute or --accumulate on MPS, where PyTorch cannot draw the same dropout twice; leave it out, "
            "or train with --device cpu."
        )


def _release(network: nn.Module, options: FitOptions, encoder: Encoder) -> None:
    """Let the wanted parameters be trained."""
    layers = find_layers(network)
    highest = max(encoder.layers, default=0)
    try:
        chosen = set(select_layers(options.tune_layers, len(layers))) if layers else set()
    except EncoderError as error:
        raise EncoderError(f"--tune-layers: {error}") from error
    if layers and not chosen & set(range(1, highest + 1)):
        raise EncoderError(
            f"--tune-layers {options.tune_layers} names none of the layers 1 to {highest} that {encoder.name} runs; "
            "expected all, or some of these."
        )
    front = re.compile(r"(^|\.)(feature_extractor|conv[12]|features)\.")
    inside = {id(value) for layer in layers for value in layer.parameters()}
    for number, layer in enumerate(layers, start=1):
        layer.requires_grad_(number in chosen and number <= highest)
    whole = options.tune_layers.strip().lower() == "all"
    for name, value in network.named_parameters():
        if id(value) in inside:
            continue
        if layers and front.search(name):
            value.requires_grad_(options.tune_convolutions)
        elif "embed_positions" not in name and "masked_spec_embed" not in name:
            value.requires_grad_(whole)


def find_layers(network: nn.Module) -> list[nn.Module]:
    """Return the transformer layers of a transformers model, first to last; none where it has no such list."""
    for owner in (getattr(network, "encoder", None), network):
        layers = getattr(owner, "layers", None)
        if isinstance(layers, nn.ModuleList):
            return list(layers)
    return []


def _add_adapters(network: nn.Module, options: FitOptions, name: str) -> None:
    # peft imports transformers.
    hide_broken_libraries()
    import_extra("peft", extra="finetune", needed_by="--mode lora", error=FitError, otherwise="take --mode finetune")
    from peft import LoraConfig, inject_adapter_in_model

    layers = find_layers(network)
    chosen = select_layers(options.tune_layers, len(layers)) if layers else ()
    linear = [part for part, module in network.named_modules() if isinstance(module, nn.Linear)]
    wanted = [part for part in linear if part.rpartition(".")[2] in options.lora_targets]
    if options.tune_layers.strip().lower() != "all":
        places = {part: re.search(r"(^|\.)layers\.(\d+)\.", part) for part in wanted}
        wanted = [part for part, place in places.items() if place and int(place[2]) + 1 in chosen]
    if not wanted:
        known = sorted({part.rpartition(".")[2] for part in linear})
        raise EncoderError(
            f"No linear layer of {name} is called {' or '.join(options.lora_targets)}, only "
            f"{', '.join(known) or 'none'}; name some of them with --lora-targets."
        )
    config = LoraConfig(r=options.lora_rank, lora_alpha=options.lora_alpha, target_modules=wanted, lora_dropout=0.0)
    inject_adapter_in_model(config, network)


def _keeps_still(part: nn.Module) -> bool:
    """Tell what stays as in evaluation: parts nothing of which is trained, and batch norms, which would see padding."""
    values = list(part.parameters())
    normed = isinstance(part, nn.modules.batchnorm._BatchNorm)
    return normed or (bool(values) and not any(value.requires_grad for value in values))
