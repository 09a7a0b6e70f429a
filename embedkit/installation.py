"""Where this installation came from, and the commands that complete or mend it.

Only the standard library is imported before a version is compared: this must run where the rest does not.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from embedkit import system
from embedkit.received import read_toml

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "embedkit-speech"
"""The name on the package index, where `embedkit` is another author's."""

AUTHOR = "The embedkit authors"
"""As in the metadata of every release, also of those that were called `embedkit`."""

CHECKOUT = Path(__file__).parent.parent


def install_command(extra: str) -> str:
    """Return what to type to install an extra, from where embedkit itself came."""
    return _find_origin().install_command(f"[{extra}]")


def library_command(*requirements: str, flags: str = "") -> str:
    """Return what to type to install libraries into this environment."""
    return " ".join(filter(None, [f"{_find_origin().pip} install", flags, *map(system.quote_word, requirements)]))


def removal_command(name: str) -> str:
    """Return what to type to take a library away."""
    return f"{_find_origin().pip} uninstall {name}"


def mend_command() -> str:
    """Return what to type to take another author's `embedkit` away and to put back what it changed."""
    origin = _find_origin()
    # The other package asks for an old torch: ours is installed with what it depends on. uv never asks back.
    flags = " -y" if origin.pip == "pip" else ""
    return f"{origin.pip} uninstall{flags} embedkit {DISTRIBUTION} && {origin.install_command()}"


def read_checkout() -> dict[str, Any]:
    """Return `[project]` of the pyproject.toml beside the sources; empty where they lie in site-packages."""
    path = CHECKOUT / "pyproject.toml"
    project = read_toml(path).get("project", {}) if path.is_file() else {}
    return project if project.get("name") == DISTRIBUTION else {}


def describe_lack(package: str, extra: str) -> str | None:
    """Say what is wrong with a package of an extra: missing, or of a version that does not do; None if nothing is."""
    if importlib.util.find_spec(package) is None:
        return f"{package}, which is not installed"
    found = _find_distribution(package)
    for wanted in _read_requirements(extra):
        if (
            wanted.name.replace("-", "_") == package
            and found
            and not wanted.specifier.contains(found.version, prereleases=True)
        ):
            return f"{package}{wanted.specifier}, and {found.version} is installed"
    return None


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """Another author's package `embedkit`, installed into the same folder.

    Attributes:
        version: Of that package.
        overwritten: Files of ours that are not ours any more.
    """

    version: str
    overwritten: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say what is wrong, and the command that mends it."""
        mend = f"run {mend_command()}"
        if self.overwritten:
            files = ", ".join(self.overwritten[:3])
            return f"Another author's package embedkit {self.version} overwrote files of this one ({files}); {mend}."
        return (
            f"Another author's package embedkit {self.version} is installed in the folder of this one and takes files "
            f"of it away when it is changed or removed; {mend}."
        )


def find_conflict() -> Conflict | None:
    """Return the other author's `embedkit` where it is installed beside ours, None where it is not."""
    ours, other = _find_distribution(DISTRIBUTION), _find_distribution("embedkit")
    if ours is None or other is None or other.metadata.get_all("Author") == [AUTHOR]:
        return None
    shared = {str(path) for path in other.files or ()}
    changed = (path for path in ours.files or () if str(path) in shared and not _is_as_recorded(path))
    return Conflict(version=other.version, overwritten=tuple(map(str, changed)))


def _is_as_recorded(path: metadata.PackagePath) -> bool:
    place = path.locate()
    if path.hash is None or not Path(place).is_file():
        return path.hash is None
    digest = hashlib.new(path.hash.mode, Path(place).read_bytes()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode() == path.hash.value


@dataclass(frozen=True, kw_only=True)
class _Origin:
    pip: str = "pip"
    source: str = DISTRIBUTION
    editable: bool = False

    def install_command(self, extras: str = "") -> str:
        return f"{self.pip} install {'-e ' if self.editable else ''}{system.quote_word(self.source + extras)}"


def _find_origin() -> _Origin:
    ours = _find_distribution(DISTRIBUTION)
    if ours is None:
        return _Origin(source=str(CHECKOUT) if read_checkout() else DISTRIBUTION)
    pip = "uv pip" if (ours.read_text("INSTALLER") or "").strip() == "uv" else "pip"
    direct = json.loads(ours.read_text("direct_url.json") or "{}")
    url = urlsplit(direct.get("url", ""))
    if url.scheme == "file":
        from urllib.request import url2pathname

        folder = url2pathname(url.path)
        if Path(folder).exists():
            return _Origin(pip=pip, source=folder, editable=direct.get("dir_info", {}).get("editable", False))
    return _Origin(pip=pip)


def _find_distribution(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _read_requirements(extra: str) -> list[Requirement]:
    """Return what an extra asks for, by the sources' own pyproject.toml or by the installed metadata."""
    from packaging.requirements import Requirement

    if project := read_checkout():
        return [Requirement(text) for text in project["optional-dependencies"].get(extra, ())]
    ours = _find_distribution(DISTRIBUTION)
    wanted = [Requirement(text) for text in (ours.requires if ours else None) or ()]
    return [
        item
        for item in wanted
        if item.marker and "extra" in str(item.marker) and item.marker.evaluate({"extra": extra})
    ]
