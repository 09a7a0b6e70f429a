"""Read `embedkit.toml`: which corpus, which encoder sources, and defaults for the commands' options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.errors import ConfigError
from embedkit.options.extract import ExtractCommand
from embedkit.options.fit import FitOptions
from embedkit.options.option import declared
from embedkit.options.study import StudyOptions
from embedkit.options.table import TableOptions
from embedkit.received import read_toml
from embedkit.registry import unknown_name

FILE_NAME = "embedkit.toml"

SECTIONS: Mapping[str, type[Any]] = {
    "extract": ExtractCommand,
    "fit": FitOptions,
    "study": StudyOptions,
    "table": TableOptions,
}
"""The sections, and what declares their keys."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """The content of `embedkit.toml`; empty where there is no such file.

    Attributes:
        corpus: What `extract` reads by default: a folder or manifest (absolute), or the name of a built-in corpus.
        encoders: Sources of encoder names: Hugging Face ids, or absolute paths of folders and files.
        sections: Options of each command by name, as in `SECTIONS`.
    """

    corpus: str | None = None
    encoders: Mapping[str, str] = field(default_factory=dict)
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def options(self, command: str) -> dict[str, Any]:
        """Return the options set for a command, named as Python names (`frame_dtype`)."""
        return dict(self.sections.get(command, {}))


def read_config(folder: str | Path = ".") -> Config:
    """Read `embedkit.toml` in a folder; relative paths in it start from that folder.

    Raises:
        ConfigError: the file is not TOML, holds an unknown key (the nearest is named), or a value of the wrong type.
    """
    root = Path(folder).resolve()
    content = _parse(root / FILE_NAME)
    _require_known(content, ["corpus", "encoders", *SECTIONS], where="key")
    corpus = content.get("corpus")
    sources = _require_table(content, "encoders")
    for key, value in [("corpus", corpus), *((f"[encoders] {name}", source) for name, source in sources.items())]:
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f"{FILE_NAME}: {key} is {value!r}, expected a text in quotes.")
    return Config(
        corpus=None if corpus is None else _locate(corpus, root),
        encoders={name: _locate(source, root) for name, source in sources.items()},
        sections={name: _section(name, _require_table(content, name), root) for name in SECTIONS},
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{FILE_NAME} cannot be read ({error.strerror}); expected a TOML file.") from error
    except ValueError as error:
        raise ConfigError(f"{FILE_NAME} is not valid TOML ({error}); correct that line.") from error


def _section(name: str, content: Mapping[str, Any], root: Path) -> dict[str, Any]:
    known = {option: one for option, one in declared(SECTIONS[name]).items() if one.told.in_toml}
    found: dict[str, Any] = {}
    for key, value in content.items():
        option = key.replace("-", "_")
        _require_known([key.replace("_", "-")], [one.flag[2:] for one in known.values()], where=f"key in [{name}]")
        read = known[option].read(value, f"{FILE_NAME}: [{name}] {key}")
        if isinstance(read, Path):
            read = root / read.expanduser()
        elif known[option].told.located:
            read = tuple(_locate(text, root) for text in read)
        found[option] = read
    return found


def _require_table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{FILE_NAME}: {name} is {table!r}, expected a section that starts with [{name}].")
    return table


def _require_known(keys: Iterable[str], known: Iterable[str], *, where: str) -> None:
    names = list(known)
    for key in keys:
        if key not in names:
            raise ConfigError(f"{FILE_NAME}: {unknown_name(where, key, names)}")


def _locate(source: str, root: Path) -> str:
    """Make a path absolute where something lies there; leave names and Hugging Face ids alone."""
    path = root / Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~", "\\")) or path.exists()
    return str(path) if looks_like_path else source
