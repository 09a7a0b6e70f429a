"""Read `embedkit.toml` (which corpus, which encoder sources, defaults for options), and the user's own settings."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedkit.arguments import as_list
from embedkit.errors import ConfigError
from embedkit.options.evaluate import EvaluateOptions
from embedkit.options.extract import ExtractCommand
from embedkit.options.fit import FitOptions
from embedkit.options.option import declared
from embedkit.options.study import StudyOptions
from embedkit.options.table import TableOptions
from embedkit.received import read_toml
from embedkit.registry import unknown_name

FILE_NAME = "embedkit.toml"
ALLOW_CODE = "allow_code"

SECTIONS: Mapping[str, type[Any]] = {
    "extract": ExtractCommand,
    "fit": FitOptions,
    "study": StudyOptions,
    "table": TableOptions,
    "evaluate": EvaluateOptions,
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

    @property
    def runs(self) -> Path:
        """The folder of the runs, as `fit` writes them."""
        return Path(self.options("fit").get("runs", "runs"))

    def settings(self, command: str) -> dict[str, tuple[Any, str]]:
        """Return the options set for a command, those of other sections that it takes as well, each with its section.

        `study` takes what is set for `fit`, and the encoders of `extract`; `table` the folder of the runs of `fit`.
        """
        fit, extract = self.options("fit"), self.options("extract")
        found = {name: (value, command) for name, value in self.options(command).items()}
        if command == "study":
            taken = {name: (value, "fit") for name, value in fit.items()}
            taken |= {"mode": ((fit["mode"],), "fit")} if "mode" in fit else {}
            taken.pop("encoder", None)
            taken |= {"encoder": (extract["encoder"], "extract")} if "encoder" in extract else {}
            return {**taken, **found}
        return {**({"runs": (fit["runs"], "fit")} if command == "table" and "runs" in fit else {}), **found}

    def name_origins(self, command: str, given: Mapping[str, Any], sentence: str) -> list[str]:
        """Name what this file sets for a command, was not given otherwise, and stands in a sentence on an error.

        Args:
            command: The command.
            given: What its command line gave, by option.
            sentence: The sentence.
        """
        own = command if command in SECTIONS else "fit"
        known = declared(SECTIONS[own])
        found = {
            f"[{section}] {known[name].flag[2:]}": (known[name].flag, value)
            for name, (value, section) in self.settings(own).items()
            if given.get(name) in (None, [], (), False)
        }
        if not given.get("corpus") and self.corpus is not None:
            found["corpus"] = ("", [self.corpus, Path(self.corpus).absolute()])
        found |= {f"[encoders] {name}": ("", source) for name, source in self.encoders.items()}
        return [place for place, (flag, value) in found.items() if _stands_in(sentence, flag, value)]


def _stands_in(sentence: str, flag: str, value: Any) -> bool:
    texts = [str(one) for one in [*as_list(value), *(value.values() if isinstance(value, Mapping) else ())]]
    texts += [part for text in texts if "=" in text for part in text.split("=", 1)]
    return any(
        re.search(rf"(?<![\w/.-]){re.escape(one)}(?![\w/-])", sentence) is not None
        for one in [flag, *map(repr, texts), *(text for text in texts if "/" in text)]
        if one
    )


def read_config(folder: str | Path = ".") -> Config:
    """Read `embedkit.toml` in a folder; relative paths in it start from that folder.

    Raises:
        ConfigError: the file is not TOML, holds an unknown key (the nearest is named), or a value of the wrong type.
    """
    root = Path(folder).resolve()
    content = _parse(root / FILE_NAME, FILE_NAME)
    _refuse_allowing(content, *(content.get(name) for name in SECTIONS))
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


def user_config_path() -> Path:
    """Return where the user's own settings lie: `~/.config/embedkit/config.toml`, or below XDG_CONFIG_HOME.

    A relative XDG_CONFIG_HOME does not count (https://specifications.freedesktop.org/basedir-spec/latest/): it would
    lead into whatever folder is the current one.
    """
    folder = Path(os.environ.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / "embedkit" / "config.toml"


def read_user_config() -> tuple[str, ...]:
    """Read which packages data may name parts of, `allow_code` of the user's own settings; none without the file.

    Raises:
        ConfigError: the file is not TOML, holds an unknown key (the nearest is named), or what is no package's name.
    """
    path = user_config_path()
    content = {key.replace("-", "_"): value for key, value in _parse(path, str(path)).items()}
    _require_known(content, [ALLOW_CODE], where="key", file=str(path))
    packages = content.get(ALLOW_CODE, [])
    if not isinstance(packages, list) or not all(isinstance(one, str) and one.isidentifier() for one in packages):
        raise ConfigError(f"{path}: {ALLOW_CODE} is {packages!r}, expected a list of packages, such as ['mypackage'].")
    return tuple(packages)


def _refuse_allowing(*tables: Any) -> None:
    if any(key in table for table in tables if isinstance(table, dict) for key in (ALLOW_CODE, "allow-code")):
        raise ConfigError(
            f"{FILE_NAME}: {ALLOW_CODE} is not read here, for this file travels with studies; write it into "
            f"{str(user_config_path())!r}, or give --allow-code."
        )


def _parse(path: Path, name: str) -> dict[str, Any]:
    try:
        return read_toml(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"{name} cannot be read ({error.strerror}); expected a TOML file.") from error
    except ValueError as error:
        raise ConfigError(f"{name} is not valid TOML ({error}); correct that line.") from error


def _section(name: str, content: Mapping[str, Any], root: Path) -> dict[str, Any]:
    known = {option: one for option, one in declared(SECTIONS[name]).items() if one.told.in_toml}
    found: dict[str, Any] = {}
    for key, value in content.items():
        option = key.replace("-", "_")
        _require_known([key.replace("_", "-")], [one.flag[2:] for one in known.values()], where=f"key in [{name}]")
        read = known[option].read(value, f"{FILE_NAME}: [{name}] {key}")
        if isinstance(read, Path):
            read = root / read.expanduser()
        elif known[option].of_places:
            read = tuple(root / path.expanduser() for path in read)
        elif known[option].told.located:
            read = tuple(_locate(text, root) for text in read)
        found[option] = read
    return found


def _require_table(content: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{FILE_NAME}: {name} is {table!r}, expected a section that starts with [{name}].")
    return table


def _require_known(keys: Iterable[str], known: Iterable[str], *, where: str, file: str = FILE_NAME) -> None:
    names = list(known)
    for key in keys:
        if key not in names:
            raise ConfigError(f"{file}: {unknown_name(where, key, names)}")


def _locate(source: str, root: Path) -> str:
    """Make a path absolute where something lies there; leave names and Hugging Face ids alone."""
    path = root / Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~", "\\")) or path.exists()
    return str(path) if looks_like_path else source
