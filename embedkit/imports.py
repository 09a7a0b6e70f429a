"""Import code that embedkit does not have: what the user named, and nothing else from the current folder."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from embedkit.errors import CodeError

_TARGET = r"[^\W\d]\w*(?:\.\w+)*:[^\W\d]\w*"
_NAME_PARTS = ("corpus", "corpora", "inputs", "stores", "encoder", "head", "loss", "augment", "track")
_WORD: dict[str, str] = {}
"""What the user typed or allowed, `module:Name`, and the folder in which it may lie: the current one of then."""


def looks_like_target(name: str) -> bool:
    """Tell whether a name has the form `module:Name` or `package.module:Name`."""
    return re.fullmatch(_TARGET, name) is not None


def take_word(*typed: object, folder: str | None = None) -> None:
    """Take every `module:Name` in what the user typed for the user's word that it may be imported.

    Args:
        typed: Texts and paths, or lists of them. Anything else is passed over, and so are names of files that are
            there: a shell writes them in the place of a star.
        folder: Where modules may lie beside the installed ones; the current folder by default.
    """
    for one in typed:
        if isinstance(one, str | Path):
            if not os.path.lexists(one):
                for target in re.findall(rf"(?<![\w.]){_TARGET}", str(one)):
                    _WORD[target] = folder or os.getcwd()
        elif isinstance(one, list | tuple):
            take_word(*one, folder=folder)


def take_word_of(given: Mapping[str, object]) -> None:
    """Take the user's word for parts in those options and arguments of a command that name parts."""
    take_word(*(value for name, value in given.items() if name in _NAME_PARTS))


@dataclass(frozen=True)
class WithWord:
    """A call that takes the user's word for some names with it, to another process and another current folder."""

    call: Callable[..., Any]
    names: tuple[str, ...]
    folder: str

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it."""
        take_word(*self.names, folder=self.folder)
        return self.call(*arguments, **keywords)


def has_word(target: str) -> bool:
    """Tell whether the user typed or allowed `module:Name`."""
    return target in _WORD


def require_word(target: str) -> None:
    """Refuse `module:Name` that comes from data.

    Raises:
        CodeError: the user has neither typed nor allowed it.
    """
    if target not in _WORD:
        raise CodeError(
            f"{target!r} is code that embedkit does not have, and it was neither typed nor allowed; nothing was "
            f"imported: if you trust it, allow it with --allow-code {package_of(target)}."
        )


def package_of(target: str) -> str:
    """Return the top-level package of `package.module:Name`."""
    return re.split(r"[.:]", target, maxsplit=1)[0]


def import_own(name: str, target: str) -> ModuleType:
    """Import a module for which there is a word; while it is imported, the folder serves its top-level name alone."""
    with _served(package_of(target), _WORD[target]):
        return importlib.import_module(name)


def find_own(target: str) -> str | None:
    """Return the file that `module:Name` would be imported from, without importing anything; None where there is none.

    Of a package without `__init__.py` it is the folder.
    """
    name, places = "", [*sys.path, os.getcwd()]
    found: ModuleSpec | None = None
    for part in target.partition(":")[0].split("."):
        name = f"{name}.{part}" if name else part
        known = sys.modules.get(name)
        # By its last name alone: asked for a whole one, the finder expects the packages above to be imported.
        found = known.__spec__ if known is not None else PathFinder.find_spec(part, places)
        if found is None:
            return None
        places = list(found.submodule_search_locations or ())
    return found.origin if found is not None and found.origin else next(iter(places), None)


def leave_current_folder() -> None:
    """Take the current folder from the path of modules, whoever put it there but the user in PYTHONPATH.

    `python -m` and an empty entry of PYTHONPATH put it there, and every optional import of a library would find what
    lies in it. Processes of Python that are started from here do without it as well.
    """
    here = Path.cwd()
    named = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    kept = {Path(__file__).parents[1], Path(os.__file__).parent, *(Path(entry).resolve() for entry in named)}
    if here not in kept:
        sys.path[:] = [entry for entry in sys.path if Path(entry or here).absolute() != here]
    os.environ["PYTHONSAFEPATH"] = "1"


class _Folder:
    """Finds one top-level module where modules lie, and last in a folder."""

    def __init__(self, name: str, folder: str) -> None:
        self.name, self.folder = name, folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [*sys.path, self.folder], target) if name == self.name else None


@contextmanager
def _served(name: str, folder: str) -> Iterator[None]:
    finder = _Folder(name, folder)
    # Before the finder of the path: a package without __init__.py elsewhere must not hide a whole one in the folder.
    place = next((place for place, one in enumerate(sys.meta_path) if one is PathFinder), len(sys.meta_path))
    sys.meta_path.insert(place, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
