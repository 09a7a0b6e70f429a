"""Pages use one word for one thing, the field's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import DOCUMENTS

INSTEAD = {
    r"honest protocol": "leakage-free evaluation protocol",
    r"(?<!mis)taken for": "predicted, or mistaken for",
    r"not shown to differ": "not significant (n.s.)",
    r"attainable": "minimum possible p",
    r"most epochs of": "maximum number of epochs",
    r"mean that heads learned": "learned weighted sum of layers",
    r"(cannot|could not|is to|was to) be had": "unavailable",
    r"looks? away from": "down-weights",
    r"sides? of (a|the|each|every) fold": "training set, development set, test set",
    r"[Ww]ithout a corpus this": "if no corpus is given",
    r"(?<!empty )\bcells?\b(?! of CSV|\.py)": "configuration, or experiment",
}


def squeeze(path: Path) -> str:
    """Return a page without its code, all white space as single blanks."""
    return " ".join(re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S).split())


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_pages_say_it_in_the_fields_words(path: Path) -> None:
    text = squeeze(path)
    found = {text[max(0, one.start() - 30) : one.end() + 30]: word for rule, word in INSTEAD.items()
             for one in re.finditer(rule, text)}  # fmt: skip
    assert not found
    assert "UAR" in text or not re.search(r"\bUA\b", text)
