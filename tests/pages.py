"""What pages show: their blocks of code, and those that no test runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(
    r"(?:^<!-- not run by the tests: (?P<reason>.+?) -->\n\n?)?^```(?P<language>\w+)\n(?P<text>.*?)^```$"
    r"(?:\n\n(?:Save it as|Saved as) `(?P<name>[\w./]+)`)?",
    flags=re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block: what it holds, where a reader is told to save it, why no test runs it."""

    language: str
    text: str
    name: str | None
    reason: str | None


def read_blocks(path: Path) -> list[Block]:
    """Return all fenced blocks of a page, in order."""
    return [Block(**found.groupdict()) for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))]


def blocks(text: str, language: str) -> list[str]:
    """Return what the blocks of one language hold."""
    return [found["text"] for found in _BLOCK.finditer(text) if found["language"] == language]


def shell_commands(block: Block) -> Iterator[str]:
    """Yield the commands of a block, one by one."""
    for line in re.sub(r"\\\n\s*", "", block.text).splitlines():
        yield from (part.strip() for part in line.split("&&") if not part.strip().startswith("#"))
