"""The demo corpus: synthetic emotional speech in IEMOCAP's official layout, for trying out only."""

from __future__ import annotations

import json
import os
from pathlib import Path

from embedkit.corpora.base import Corpus, Reader
from embedkit.corpora.iemocap import DEMO_MARKER, read_iemocap
from embedkit.errors import ConfigError, CorpusError
from embedkit.received import read_object
from embedkit.writing import new_folder

__all__ = ["READER", "cache_folder", "open_demo_corpus", "recognise", "write_demo_corpus"]

VERSION = 1
"""Raised whenever another sample would be written, so that an old copy is never taken for the new one."""
SEED = 7

TURNS, _FEWEST_TURNS = 52, 5
OTHER_CACHE = "name another folder by EMBEDKIT_CACHE"
"""What to do where the cache folder cannot be written."""


def write_demo_corpus(folder: str | os.PathLike[str], *, seed: int = SEED, turns: int = TURNS) -> int:
    """Write the demo corpus: five sessions of two speakers, 16 kHz 16-bit WAV, the same bytes for the same seed.

    Args:
        folder: Made where it is missing.
        turns: Utterances of each speaker, at least 5; the default makes 520, about 13 minutes.

    Returns:
        How many utterances were written.

    Raises:
        CorpusError: the folder holds something else, or cannot be written.
        ConfigError: too few turns.
    """
    if turns < _FEWEST_TURNS:
        raise ConfigError(f"The demo corpus was asked for {turns} turns a speaker; expected at least {_FEWEST_TURNS}.")
    target = Path(folder)
    if target.is_dir() and any(target.iterdir()) and not recognise(target):
        raise CorpusError(f"{str(target)!r} holds something else than the demo corpus; choose another folder.")
    with new_folder(target, error=CorpusError) as written:
        return _fill(written, seed, turns)


def _fill(folder: Path, seed: int = SEED, turns: int = TURNS) -> int:
    # scipy takes a second to import, and is needed on the first call only.
    from embedkit.corpora.demo.writing import write_sessions

    count = write_sessions(folder, seed=seed, turns=turns)
    marker = {"version": VERSION, "seed": seed, "utterances": count, "synthetic": True}
    (folder / DEMO_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8", newline="\n")
    return count


def cache_folder() -> Path:
    """Return the folder for what embedkit makes itself: $EMBEDKIT_CACHE, else the user's cache folder."""
    if own := os.environ.get("EMBEDKIT_CACHE"):
        return Path(own).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).expanduser().absolute() / "embedkit"


def open_demo_corpus() -> Corpus:
    """Open the demo corpus in the cache folder, written on the first call.

    Raises:
        CorpusError: the cache folder cannot be written to.
    """
    target = cache_folder() / f"demo-{VERSION}"
    if not _is_whole(target):
        with new_folder(target, error=CorpusError, otherwise=OTHER_CACHE, is_whole=_is_whole) as written:
            _fill(written)
    return read_iemocap(target)


def recognise(folder: Path) -> bool:
    """Tell whether a folder is a copy of the demo corpus, by its marker."""
    return (folder / DEMO_MARKER).is_file()


def _is_whole(target: Path) -> bool:
    try:
        marker = read_object(target / DEMO_MARKER)
        return bool(marker["utterances"] == sum(1 for _ in target.glob("Session*/sentences/wav/*/*.wav")))
    except (OSError, ValueError, KeyError, TypeError):
        return False


READER = Reader(
    layout="the demo corpus (EMBEDKIT_DEMO.json)",
    recognise=recognise,
    read=read_iemocap,
)
