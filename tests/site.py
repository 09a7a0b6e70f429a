"""The documentation as a site: how it is built, where its links lead, what its search finds."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.pages import ROOT, read_blocks, shell_commands

LINKS = {"a": "href", "area": "href", "iframe": "src", "img": "src", "link": "href", "script": "src", "source": "src"}
EXPLAINED = {"UAR": "glossary.html", "LOSO": "glossary.html", "Holm": "protocol.html", "Soft labels": "glossary.html"}
LOADED = ("iframe", "img", "link", "script", "source")


def build_site(folder: Path, reports: Path | None = None) -> str:
    """Build the site into a folder, with the gallery's reports if there are any; return what is wrong."""
    shown = {"EMBEDKIT_REPORTS": str(reports)} if reports else {}
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_MKDOCS_2_WARNING": "1", **shown},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {name for name in (given.get("id"), given.get("name")) if name}
        if tag in LINKS and (target := given.get(LINKS[tag])):
            self.links.append((tag, target))


@cache
def _read(page: Path) -> _Reader:
    reader = _Reader()
    reader.feed(page.read_text(encoding="utf-8"))
    return reader


def find_broken_links(site: Path) -> Iterator[str]:
    """Yield links that lead to no file or place of the site, and what a page loads from elsewhere."""
    for page in sorted(site.glob("*.html")):
        for tag, target in _read(page).links:
            parts = urlsplit(target)
            if parts.scheme or parts.netloc:
                if tag in LOADED and parts.scheme != "data":
                    yield f"{page.name} loads {target}"
                continue
            # The page for what is not found has addresses from the root on, for it stands anywhere.
            place = site / parts.path.lstrip("/") if parts.path.startswith("/") else page.parent / unquote(parts.path)
            place = page if not parts.path else place / "index.html" if place.is_dir() else place
            if not place.is_file():
                yield f"{page.name} leads to {target}, and there is no such file"
            elif parts.fragment and place.suffix == ".html" and unquote(parts.fragment) not in _read(place).ids:
                yield f"{page.name} leads to {target}, and there is no such place"


def find_unfindable(site: Path) -> Iterator[str]:
    """Yield words that the site's search does not find on the page that explains them."""
    entries = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))["docs"]
    for word, page in EXPLAINED.items():
        found = {entry["location"].partition("#")[0] for entry in entries if word in entry["title"] + entry["text"]}
        if page not in found:
            yield f"the search finds {word} on {', '.join(sorted(found)) or 'no page'}, and not on {page}"


def gallery_commands() -> list[list[str]]:
    """Return the commands of the gallery, word by word."""
    shown = [block for block in read_blocks(ROOT / "docs" / "gallery.md") if block.language == "sh"]
    return [shlex.split(command) for block in shown for command in shell_commands(block)]
