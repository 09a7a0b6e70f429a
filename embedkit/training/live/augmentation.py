"""Change training clips at random."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from embedkit.augmentations import build_augmentation
from embedkit.augmentations.base import Augmentation
from embedkit.encoders.spec_augment import SpecAugment
from embedkit.errors import FitError


def build_augmentations(specs: Sequence[str]) -> tuple[Augmentation, ...]:
    """Build augmentations, to be applied in their order.

    Raises:
        FitError: SpecAugment is named twice.
        EmbedkitError: see `build_augmentation`.
    """
    built = tuple(map(build_augmentation, specs))
    if sum(isinstance(one.options, SpecAugment) for one in built) > 1:
        raise FitError("SpecAugment is named twice; leave one of them out.")
    return built


@torch.no_grad()
def change_waveform(
    waveform: Tensor,
    augmentations: Sequence[Augmentation],
    sampling_rate: int,
    smallest: int,
    largest: int | None = None,
) -> Tensor:
    """Return a clip `[samples]` changed by augmentations one after another, drawn from torch's global generator.

    Args:
        smallest, largest: Samples that the encoder needs at least, and takes at most: what would make a clip too long
            leaves it as it is.

    Raises:
        FitError: an augmentation that gives values that are not finite.
    """
    for augmentation in augmentations:
        changed = augmentation(waveform, sampling_rate)
        if not torch.isfinite(changed).all():
            raise FitError(
                f"The augmentation {augmentation.name!r} returned NaN or infinite values for a clip of "
                f"{len(waveform)} samples; mend it, or leave it out."
            )
        if largest is None or len(changed) <= largest:
            waveform = pad(changed, (0, max(0, smallest - len(changed))))
    return waveform
