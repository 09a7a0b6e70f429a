"""Augmentations: random changes of training clips, one file each."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from embedkit.errors import ConfigError
from embedkit.installation import library_command
from embedkit.libraries import WORKING_PAIR
from embedkit.registry import Part, Registry, build_options, parse_spec

if TYPE_CHECKING:
    from embedkit.augmentations.base import Augmentation

AUGMENTATIONS = Registry(
    "augmentation",
    [
        ("speed", Part("embedkit.augmentations.speed:Speed", "slower, as it is, or faster; the pitch changes, too")),
        ("lowpass", Part("embedkit.augmentations.filters:LowPass", "without what lies above a random frequency")),
        ("highpass", Part("embedkit.augmentations.filters:HighPass", "without what lies below a random frequency")),
        ("equaliser", Part("embedkit.augmentations.filters:Equaliser", "a random band louder or softer")),
        ("reverb", Part("embedkit.augmentations.reverb:Reverb", "a random room, or one recorded in folder=FOLDER")),
        ("noise", Part("embedkit.augmentations.noise:Noise", "white noise, or recordings in folder=FOLDER")),
        ("specaugment", Part("embedkit.augmentations.masking:Masking", "hidden spans of time and of channels")),
    ],
)


def build_augmentation(spec: str) -> Augmentation:
    """Build an augmentation from `name`, `name:key=value,...` or a user's own `module:name:key=value`.

    Raises:
        UnknownNameError: no such augmentation, or the user's module or what it should hold does not exist.
        ConfigError: a setting that it does not have or cannot use, a part that is none, or torchaudio that is needed
            and cannot be loaded.
        CorpusError: a folder of recordings that is missing or holds none.
    """
    from embedkit.augmentations.base import Augmentation
    from embedkit.augmentations.plain import plain_augmentation

    name, settings = parse_spec(spec, AUGMENTATIONS)
    before, equals, after = name.partition("=")
    if equals and before in AUGMENTATIONS:
        raise ConfigError(
            f"Found the augmentation {spec!r}; settings follow a colon: {before}:folder={after or 'FOLDER'}."
        )
    cls = AUGMENTATIONS.load(name)
    if not (isinstance(cls, type) and issubclass(cls, Augmentation)):
        cls = plain_augmentation(cls, name)
    if cls.needs_torchaudio:
        require_torchaudio(name)
    built: Augmentation = cls(name, build_options(cls.Options, settings, owner=f"the augmentation {name!r}"))
    if built.recordings is not None:
        settings["folder"] = str(built.recordings.folder)
    built.spec = ":".join(filter(None, [name, ",".join(f"{key}={value}" for key, value in settings.items())]))
    return built


def require_torchaudio(name: str) -> None:
    """Refuse what computes by torchaudio where that cannot be loaded.

    Raises:
        ConfigError: that.
    """
    try:
        importlib.import_module("torchaudio.functional")
    # A wheel for another torch fails in any way, in its own code or in the linker.
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise ConfigError(
            f"The augmentation {name!r} needs torchaudio, which cannot be loaded ({reason}); run "
            f"{library_command(*WORKING_PAIR)}, or leave the augmentation out."
        ) from error
