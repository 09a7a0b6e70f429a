"""Files that a table names in other characters than the disk: backslashes, another Unicode normal form."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable

from embedkit.corpora.base import left_out_note


class SpelledPaths:
    """Finds files below a root by names that are spelled otherwise than on disk; each folder is listed once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self._root = os.fspath(root)
        self._listings: dict[str, dict[str, list[str]]] = {}

    def find(self, path: str) -> str:
        """Return a path as it is spelled on disk; as it is given where nothing, or more than one file, is found."""
        if (path.isascii() and "\\" not in path) or os.path.lexists(os.path.join(self._root, path)):
            return path
        spellings = (path, path.replace("\\", "/"))
        return next((found for spelling in spellings if (found := self._walk(spelling)) is not None), path)

    def explain(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Say which paths with backslashes or other characters than ASCII name no file."""
        odd = [path for path in paths if "\\" in path or not path.isascii()]
        lost = [path for path in odd if not os.path.lexists(os.path.join(self._root, path))]
        return left_out_note(
            lost, "path{s} with backslashes or special characters that name no file", verb="Did not find"
        )

    def _walk(self, path: str) -> str | None:
        parts = path.split("/")
        at, found = (os.sep, [""]) if path.startswith("/") else (self._root, [])
        for part in parts[1:] if path.startswith("/") else parts:
            if part in ("", ".", ".."):
                name: str | None = part
            else:
                names = self._names(at).get(unicodedata.normalize("NFC", part), [])
                name = part if part in names else names[0] if len(names) == 1 else None
            if name is None:
                return None
            at, found = os.path.join(at, name), [*found, name]
        return "/".join(found)

    def _names(self, folder: str) -> dict[str, list[str]]:
        if folder not in self._listings:
            listing: dict[str, list[str]] = defaultdict(list)
            try:
                for name in os.listdir(folder):
                    listing[unicodedata.normalize("NFC", name)].append(name)
            except OSError:
                pass
            self._listings[folder] = dict(listing)
        return self._listings[folder]
