"""The contract of every augmentation: the waveform of a training clip in, a changed one out."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, ClassVar

import torch
from torch import Tensor

from embedkit.audio import digest_file
from embedkit.augmentations.recordings import FolderOptions, Recordings
from embedkit.errors import AudioError, ConfigError
from embedkit.imports import looks_like_target


class Augmentation(ABC):
    """A random change of a clip; whatever is random is drawn from torch's global generator.

    Attributes:
        name: What the user called it.
        spec: Its name and settings, as the user may write them in any folder.
        options: Its settings.
        recordings: What it draws from, where its settings are `FolderOptions` and name a folder.
        Options: Frozen keyword-only dataclass of its settings, all with defaults.
        version: Raised when it changes clips in another way, so that old runs are not taken for new ones.
        requires: What the encoder's training must be able to do (see `Encoder.tunable`), such as "speed": take clips
            whose length changes.
        needs_torchaudio: Whether it computes by torchaudio.
    """

    Options: ClassVar[type[Any]]
    version: ClassVar[int] = 1
    requires: ClassVar[str | None] = None
    needs_torchaudio: ClassVar[bool] = False
    spec: str

    def __init__(self, name: str, options: Any) -> None:
        self.name, self.options = name, options
        drawn = isinstance(options, FolderOptions) and options.folder
        self.recordings = Recordings(options.folder) if drawn else None

    def prepare(self, sampling_rate: int) -> None:
        """Find out before anything is trained what cannot be used at a sampling rate.

        Raises:
            AudioError: a recording that cannot be decoded, or is silent.
            ConfigError: a setting that does not go with the sampling rate.
        """
        if self.recordings is not None:
            self.recordings.decode(sampling_rate)

    @abstractmethod
    def __call__(self, waveform: Tensor, sampling_rate: int) -> Tensor:
        """Return a changed clip; the given one stays as it is.

        Shape:
            Input: float32 `[samples]`, output: the same; of another length only where `requires` is "speed".
        """

    def describe(self) -> dict[str, Any]:
        """Return everything that determines what it does.

        Of recordings that is their content, wherever they lie; of a user's own part also the file that defines it.
        """
        told: dict[str, Any] = {"name": self.name, "version": self.version, "options": asdict(self.options)}
        if isinstance(self.options, FolderOptions):
            del told["options"]["folder"]
        if self.recordings is not None:
            told["recordings"] = self.recordings.digest
        if looks_like_target(self.name):
            # What is built in, or made by hand, has none.
            with suppress(TypeError, OSError, AudioError):
                told["source"] = digest_file(inspect.getfile(self.origin))
        return told

    @property
    def origin(self) -> Any:
        """The class or function that its user wrote."""
        return type(self)


def draw_between(low: float, high: float) -> float:
    """Draw a number, evenly between two."""
    return low + (high - low) * float(torch.rand(()))


def require_range(
    name: str, options: Any, least: float, most: float, unit: str, ends: tuple[str, str] = ("low", "high")
) -> None:
    """Check the two settings between which an augmentation draws.

    Raises:
        ConfigError: they are no range from `least` to `most`.
    """
    low, high = (getattr(options, end) for end in ends)
    if not least <= low <= high <= most:
        raise ConfigError(
            f"The augmentation {name!r} draws {unit} from {ends[0]}={low:g} to {ends[1]}={high:g}, expected a range "
            f"within {least:g} to {most:g}."
        )


def require_legal(name: str, legal: Mapping[str, tuple[bool, str]], options: Any) -> None:
    """Check settings one by one; `legal` tells of each whether it holds, and what is expected.

    Raises:
        ConfigError: one does not.
    """
    for key, (holds, expected) in legal.items():
        if not holds:
            raise ConfigError(f"The augmentation {name!r}: {key} is {getattr(options, key)}, expected {expected}.")
