"""Augmentations out of users' plain functions, classes and objects."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar

from torch import Tensor

from embedkit.augmentations.base import Augmentation
from embedkit.errors import ConfigError
from embedkit.signatures import accepted_names, derive_options

GIVEN = ("sampling_rate",)


class PlainAugmentation(Augmentation):
    """A change waveform -> waveform, which may take the sampling rate as well."""

    target: ClassVar[Callable[..., Any]]
    _call: tuple[int, Callable[..., Any]] | None = None

    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return what the user's own code makes of a copy of the clip `[samples]`.

        Raises:
            ConfigError: anything but a tensor of as many floating-point numbers.
        """
        call = self._made(sampling_rate)
        changed = call(waveform.clone(), **_accepted(call, sampling_rate))
        if not (isinstance(changed, Tensor) and changed.shape == waveform.shape and changed.is_floating_point()):
            is_tensor = isinstance(changed, Tensor)
            found = f"a tensor {list(changed.shape)} of {changed.dtype}" if is_tensor else f"a {type(changed).__name__}"
            raise ConfigError(
                f"The augmentation {self.name!r} returned {found} for a clip {list(waveform.shape)}, expected a tensor "
                "of as many floating-point numbers."
            )
        return changed.detach().to(waveform)

    def prepare(self, sampling_rate: int) -> None:
        """Make an object of a class."""
        self._made(sampling_rate)

    @property
    def origin(self) -> Any:
        """The class or function; of an object its class."""
        return self.target if isinstance(self.target, type) or inspect.isroutine(self.target) else type(self.target)

    def _made(self, sampling_rate: int) -> Callable[..., Any]:
        if not isinstance(self.target, type):
            return self.target
        if self._call is None or self._call[0] != sampling_rate:
            given = _accepted(self.target, sampling_rate) | asdict(self.options)
            self._call = sampling_rate, self.target(**given)
        return self._call[1]


def _accepted(call: Callable[..., Any], sampling_rate: int) -> dict[str, int]:
    return {"sampling_rate": sampling_rate} if "sampling_rate" in accepted_names(call) else {}


def plain_augmentation(target: Any, name: str) -> type[PlainAugmentation]:
    """Make an augmentation class of a function, of a class whose instances are called, or of such an instance.

    Arguments of a class with plain defaults are its settings.

    Raises:
        ConfigError: neither of these, or a class with an argument that has no default.
    """
    is_class = isinstance(target, type)
    called = any("__call__" in vars(base) for base in target.__mro__) if is_class else callable(target)
    if not called:
        raise ConfigError(
            f"The augmentation {name!r} is {target!r}, expected a subclass of "
            "embedkit.augmentations.base.Augmentation, or a function or an object from a waveform to a waveform."
        )
    options = derive_options(target if is_class else lambda: None, given=GIVEN, owner=f"The augmentation {name!r}")
    held = target if is_class else staticmethod(target)
    return type("Plain", (PlainAugmentation,), {"target": held, "Options": options})
