"""Read `embedkit.toml`: which corpus, which encoder sources, and defaults for the commands' options."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from embedkit.errors import ConfigError
from embedkit.registry import unknown_name

FILE_NAME = "embedkit.toml"

Kind: TypeAlias = Literal["text", "name", "texts", "integer", "number", "numbers", "switch", "path", "sources"]

SECTIONS: Mapping[str, Mapping[str, Kind]] = {
    "extract": {
        "encoder": "texts",
        "layers": "name",
        "level": "text",
        "frame-dtype": "text",
        "out": "path",
        "where": "texts",
        "device": "text",
        "precision": "text",
        "window": "name",
        "batch-seconds": "number",
        "shard-seconds": "number",
        "max-seconds": "number",
        "workers": "integer",
        "threads": "integer",
        "engine": "text",
        "max-file-gb": "number",
        "on-error": "text",
        "limit": "integer",
    },
    "fit": {
        "mode": "text",
        "encoder": "texts",
        "encoder-lr": "number",
        "warmup": "number",
        "tune-layers": "name",
        "tune-convolutions": "switch",
        "recompute": "switch",
        "accumulate": "integer",
        "augment": "texts",
        "lora-rank": "integer",
        "lora-alpha": "integer",
        "lora-targets": "texts",
        "save-encoder": "switch",
        "allow-leak": "switch",
        "precision": "text",
        "window": "name",
        "loss": "texts",
        "head": "texts",
        "layers": "name",
        "normalise": "text",
        "folds": "text",
        "test-on": "path",
        "test-merge": "texts",
        "seeds": "integer",
        "classes": "texts",
        "merge": "texts",
        "where": "texts",
        "targets": "texts",
        "lr": "numbers",
        "weight-decay": "numbers",
        "epochs": "integer",
        "patience": "integer",
        "clip": "number",
        "batch-size": "integer",
        "device": "text",
        "threads": "integer",
        "memory-gb": "number",
        "runs": "path",
    },
    "study": {
        "corpora": "sources",
        "encoder": "texts",
        "head": "texts",
        "loss": "texts",
        "mode": "texts",
        "folds": "text",
        "seeds": "integer",
        "classes": "texts",
        "targets": "texts",
        "where": "texts",
        "epochs": "integer",
        "device": "text",
        "threads": "integer",
        "runs": "path",
    },
    "table": {"runs": "path", "metric": "text", "format": "text", "published": "switch", "compare": "switch"},
}
"""The keys of each section: the names of the command's options, and what a value must be."""


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
        return {key.replace("-", "_"): value for key, value in self.sections.get(command, {}).items()}


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
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{FILE_NAME} cannot be read ({error.strerror}); expected a TOML file.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{FILE_NAME} is not valid TOML ({error}); correct that line.") from error


def _section(name: str, content: Mapping[str, Any], root: Path) -> dict[str, Any]:
    kinds = SECTIONS[name]
    options: dict[str, Any] = {}
    for key, value in content.items():
        option = key.replace("_", "-")
        _require_known([option], kinds, where=f"key in [{name}]")
        options[option] = _convert(value, kinds[option], where=f"[{name}] {key}", root=root)
    return options


def _convert(value: Any, kind: Kind, *, where: str, root: Path) -> Any:
    """Check one value; texts and numbers may be given alone or as a list."""
    match kind:
        case "text" if isinstance(value, str):
            return value
        case "name" if isinstance(value, str) or _is_number(value):
            return str(value)
        case "path" if isinstance(value, str) and value:
            return str(root / Path(value).expanduser())
        case "switch" if isinstance(value, bool):
            return value
        case "integer" if isinstance(value, int) and not isinstance(value, bool):
            return value
        case "number" if _is_number(value):
            return float(value)
        case "texts" | "numbers":
            items = value if isinstance(value, list) else [value]
            if items and all(isinstance(item, str) if kind == "texts" else _is_number(item) for item in items):
                return items if kind == "texts" else [float(item) for item in items]
        case "sources":
            texts = _convert(value, "texts", where=where, root=root)
            return [_locate(text, root) for text in texts]
    raise ConfigError(f"{FILE_NAME}: {where} is {value!r}, expected {_EXPECTED[kind]}.")


_EXPECTED: Mapping[Kind, str] = {
    "text": 'a text ("session")',
    "name": 'a text ("last") or a number (6)',
    "texts": 'a list of texts (["ce", "focal"])',
    "integer": "a whole number (5)",
    "number": "a number (0.001)",
    "numbers": "a list of numbers ([0.001, 0.003])",
    "switch": "true or false",
    "path": 'a path in quotes ("results")',
    "sources": 'a list of paths (["data/emodb"])',
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
