"""What there is to choose from: encoders, heads, losses, augmentations and corpora."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

from embedkit.errors import ConfigError
from embedkit.registry import load_object, unknown_name

_CATALOGUES: Mapping[str, str] = {
    "encoders": "embedkit.encoders:ENCODERS",
    "heads": "embedkit.heads:HEADS",
    "losses": "embedkit.losses:LOSSES",
    "augmentations": "embedkit.augmentations:AUGMENTATIONS",
    "corpora": "embedkit.corpora:CORPORA",
}
KINDS = tuple(_CATALOGUES)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One part that can be chosen by name.

    Attributes:
        name: What to write on the command line.
        summary: What it is, in one line.
        settings: Names and defaults of its settings, as in `focal:gamma=2.0`.
    """

    name: str
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def list_parts(kind: str, *, sources: Mapping[str, str] | None = None) -> list[Entry]:
    """List the parts of a kind: "encoders", "heads", "losses", "augmentations" or "corpora".

    Args:
        kind: Which catalogue.
        sources: The user's own sources of encoder names, as in `[encoders]` of embedkit.toml.

    Raises:
        ConfigError: an unknown kind.
    """
    if kind not in _CATALOGUES:
        raise ConfigError(unknown_name("catalogue", kind, KINDS))
    registry = load_object(_CATALOGUES[kind])
    has_settings = kind in ("heads", "losses", "augmentations")
    entries = [
        Entry(
            name=name,
            summary=registry.summary(name),
            settings=_default_settings(registry.load(name)) if has_settings else {},
        )
        for name in registry
    ]
    if kind == "encoders":
        own = {name: f"from {source} (embedkit.toml)" for name, source in (sources or {}).items()}
        entries = [Entry(name=entry.name, summary=own.pop(entry.name, entry.summary)) for entry in entries]
        entries += [Entry(name=name, summary=summary) for name, summary in own.items()]
    return entries


def _default_settings(part: Any) -> dict[str, Any]:
    # An empty text stands for nothing, which cannot be written as a setting.
    own = {item.name: item.default for item in fields(part.Options) if item.default not in (MISSING, "")}
    return own | dict(getattr(part, "searched", {}))
