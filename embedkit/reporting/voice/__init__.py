"""The page on which a run hears a voice: its files, for a server that sends them."""

from __future__ import annotations

from importlib.resources import files

from embedkit.reporting.figures.theme import write_styles

TYPES = {
    "page.html": "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "recorder.js": "text/javascript; charset=utf-8",
}


def read_page(name: str) -> bytes:
    """Return one of the files of `TYPES`; colours are those of figures."""
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return f"{write_styles() if name == 'page.css' else ''}{text}".encode()
