"""What embedkit itself is here: its version, where it came from, what it asks for, and what installs it."""

from __future__ import annotations

import importlib.util
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

from packaging.requirements import Requirement

from embedkit.diagnosis.rows import Row
from embedkit.errors import ConfigError
from embedkit.installation import install_command
from embedkit.received import read_toml

DISTRIBUTIONS = ("embedkit-speech", "embedkit")
AUTHOR = "The embedkit authors"
FOR_DEVELOPERS = ("docs", "test")
"""Extras that no command needs."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """What embedkit's own metadata say.

    Attributes:
        name, version: Of the distribution.
        origin: Where it was installed from, in words.
        source: What it is installed from: a folder or the name.
        required, extras: The distributions that it needs here, and those of each extra.
    """

    name: str
    version: str
    origin: str
    source: str
    required: tuple[Requirement, ...]
    extras: Mapping[str, tuple[Requirement, ...]]

    def install_command(self, extra: str) -> str:
        """Return what installs embedkit with an extra."""
        return install_command(extra)


def read_project() -> Project:
    """Read embedkit's metadata: those of the checkout that is running, else those that are installed.

    Raises:
        ConfigError: there are none.
    """
    folder = Path(__file__).parents[2]
    path = folder / "pyproject.toml"
    project = read_toml(path).get("project", {}) if path.is_file() else {}
    if project.get("name") in DISTRIBUTIONS:
        extras = project["optional-dependencies"]
        return Project(
            name=project["name"],
            version=project["version"],
            origin=f"the checkout {folder}",
            source=str(folder),
            required=_here(project["dependencies"]),
            extras={extra: _here(texts) for extra, texts in extras.items() if extra not in FOR_DEVELOPERS},
        )
    own = next((one for name in DISTRIBUTIONS for one in metadata.distributions(name=name) if is_ours(one)), None)
    if own is None:
        raise ConfigError(f"The metadata of embedkit are missing beside {str(folder)!r}; install it again.")
    texts = own.requires or []
    required = _here(texts)
    names = [extra for extra in own.metadata.get_all("Provides-Extra") or [] if extra not in FOR_DEVELOPERS]
    origin, source = _read_origin(own)
    return Project(
        name=own.metadata["Name"],
        version=own.version,
        origin=origin,
        source=source,
        required=required,
        extras={extra: tuple(one for one in _here(texts, extra) if one not in required) for extra in names},
    )


def _here(texts: Sequence[str], extra: str = "") -> tuple[Requirement, ...]:
    """Return the requirements that hold on this machine, without what made them hold."""
    requirements = [Requirement(text) for text in texts]
    here = [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": extra})]
    for one in here:
        one.marker = None
    return tuple(here)


def is_ours(distribution: metadata.Distribution) -> bool:
    """Tell our distribution, whatever it is called, from another author's of the same name."""
    return AUTHOR in (distribution.metadata.get_all("Author") or [])


def _read_origin(distribution: metadata.Distribution) -> tuple[str, str]:
    """Say where a distribution came from, and what pip would install again; an address may hold a password."""
    name = str(distribution.metadata["Name"])
    text = distribution.read_text("direct_url.json")
    if text is None:
        return "the package index", name
    url = urlparse(str(json.loads(text)["url"]))
    if url.scheme != "file":
        return "an address", name
    folder = url2pathname(url.path)
    return f"the folder {folder}", folder


@cache
def installer() -> str:
    """Return the program that installs into this environment."""
    return "pip" if importlib.util.find_spec("pip") else "uv pip"


def installed_version(name: str) -> str | None:
    """Return the version of a distribution; None where it is not installed."""
    try:
        # Metadata without a version have None here.
        return metadata.version(name) or None
    except metadata.PackageNotFoundError:
        return None


def own_rows(project: Project) -> list[Row]:
    """Describe embedkit, and another author's distribution of that name if it is installed beside it."""
    found = f"{project.version}, from {project.origin}"
    facts = {"version": project.version, "distribution": project.name, "origin": project.origin}
    rows = [Row(section="program", name="embedkit", found=found, facts=facts)]
    others = [one for one in metadata.distributions(name="embedkit") if not is_ours(one)]
    if others:
        version = others[0].version
        again = f"{installer()} install --force-reinstall --no-deps {shlex.quote(project.source)}"
        rows.append(
            Row(
                section="program",
                name="other embedkit",
                found=f"embedkit {version}, another author's distribution",
                state="broken",
                problem=f"Another author's distribution 'embedkit' ({version}) is installed beside {project.name}: "
                "both write the folder 'embedkit', so files of either may be lost.",
                command=f"{installer()} uninstall -y embedkit && {again}",
                facts={"version": version},
            )
        )
    return rows
