"""The options of all commands as they are in effect: from embedkit.toml, or the defaults."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.config import FILE_NAME, SECTIONS, Config
from embedkit.options.option import declared

_UNSET: tuple[Any, ...] = (None, [], "")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """An option with its value.

    Attributes:
        section: The command; empty for what all share.
        key: As embedkit.toml writes it.
        value: As JSON holds it; None for a default that depends on other things.
        usual: Such a default in words.
        origin: "default", or where in embedkit.toml it is set.
    """

    section: str
    key: str
    value: Any
    usual: str
    origin: str

    @property
    def text(self) -> str:
        """The value as people read it."""
        if self.value in _UNSET:
            return self.usual or "none"
        return ",".join(map(str, self.value)) if isinstance(self.value, list) else str(self.value)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        return {**vars(self)}


def effective_settings(config: Config, command: str | None = None) -> list[Setting]:
    """List every option that embedkit.toml may set, with the value that a command takes where nothing is typed.

    Args:
        config: What embedkit.toml holds.
        command: One of `SECTIONS`; None for all, and what they share.
    """
    shared = [("", "corpus", config.corpus, "demo")]
    shared += [("encoders", name, source, "") for name, source in config.encoders.items()]
    found = [
        Setting(section=section, key=key, value=value, usual=usual, origin="default" if value is None else FILE_NAME)
        for section, key, value, usual in shared
        if command is None
    ]
    for section in SECTIONS if command is None else [command]:
        given = config.settings(section)
        for name, one in declared(SECTIONS[section]).items():
            if one.told.in_toml:
                value, origin = given.get(name, (one.default, ""))
                found.append(
                    Setting(
                        section=section,
                        key=one.flag[2:],
                        value=_plain(value),
                        usual=one.told.usual or "",
                        origin=f"{FILE_NAME}, [{origin}]" if origin else "default",
                    )
                )
    return found


def write_toml(settings: Sequence[Setting]) -> str:
    """Write settings as embedkit.toml holds them; defaults that depend on other things as comments."""
    lines, section = [], ""
    for setting in settings:
        if setting.section != section:
            section = setting.section
            lines += ["", f"[{section}]"]
        # Of JSON's texts, numbers, lists and truth values TOML takes all as they are.
        value = json.dumps(setting.value, ensure_ascii=False)
        known = setting.value not in _UNSET
        lines.append(f"{_key(setting.key)} = {value}" if known else f"# {setting.key} = {setting.usual or 'none'}")
    return "\n".join(lines).strip()


def _key(name: str) -> str:
    return name if name.replace("-", "").replace("_", "").isalnum() and name.isascii() else json.dumps(name)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return [f"{old}={new}" for old, new in value.items()]
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
