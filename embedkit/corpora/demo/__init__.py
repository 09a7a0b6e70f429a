"""The demo corpus: synthetic emotional speech in IEMOCAP's official layout, for trying out only."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from pathlib import Path

from embedkit.corpora.base import Corpus
from embedkit.corpora.iemocap import DEMO_MARKER, read_iemocap
from embedkit.corpora.reader import Reader
from embedkit.errors import ConfigError, CorpusError
from embedkit.received import read_object

__all__ = ["READER", "cache_folder", "open_demo_corpus", "recognise", "write_demo_corpus"]

VERSION = 1
"""Raised whenever another sample would be written, so that an old copy is never taken for the new one."""
SEED = 7

_FEWEST_TURNS = 5
_ABANDONED_SECONDS = 3600.0


def write_demo_corpus(folder: str | os.PathLike[str], *, seed: int = SEED, turns: int = 52) -> int:
    """Write the demo corpus: five sessions of two speakers, 16 kHz 16-bit WAV, the same bytes for the same seed.

    Args:
        folder: Made where it is missing.
        turns: Utterances of each speaker, at least 5; the default makes 520, about 13 minutes.

    Returns:
        How many utterances were written.

    Raises:
        CorpusError: the folder cannot be written to.
        ConfigError: too few turns.
    """
    if turns < _FEWEST_TURNS:
        raise ConfigError(f"The demo corpus was asked for {turns} turns a speaker; expected at least {_FEWEST_TURNS}.")
    # scipy takes a second to import, and is needed on the first call only.
    from embedkit.corpora.demo.writing import write_sessions

    target = Path(folder)
    try:
        count = write_sessions(target, seed=seed, turns=turns)
        # The marker comes last: a folder that has it is whole.
        marker = {"version": VERSION, "seed": seed, "utterances": count, "synthetic": True}
        (target / DEMO_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8", newline="\n")
    except OSError as error:
        raise CorpusError(f"Cannot write the demo corpus to {str(target)!r} ({error.strerror or error}).") from error
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
        _write_to_cache(target)
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


def _write_to_cache(target: Path) -> None:
    """Write under a temporary name and rename, so that a killed write never looks whole."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target.parent)
        written = Path(tempfile.mkdtemp(prefix=".demo-", dir=target.parent))
    except OSError as error:
        raise CorpusError(
            f"Cannot write the demo corpus to {str(target.parent)!r} ({error.strerror}); name another folder by "
            "EMBEDKIT_CACHE."
        ) from error
    try:
        write_demo_corpus(written)
        written.chmod(0o755)
        _put_in_place(written, target)
    finally:
        shutil.rmtree(written, ignore_errors=True)


def _put_in_place(written: Path, target: Path) -> None:
    for _ in range(2):
        try:
            written.rename(target)
            return
        except OSError as error:
            # Another process may have been faster; what it wrote is the same.
            if _is_whole(target):
                return
            if not target.exists():
                raise CorpusError(f"Cannot write the demo corpus to {str(target)!r} ({error.strerror}).") from error
            shutil.rmtree(target, ignore_errors=True)
    raise CorpusError(f"The demo corpus in {str(target)!r} is damaged and cannot be replaced; remove that folder.")


def _remove_abandoned(folder: Path) -> None:
    for path in folder.glob(".demo-*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            shutil.rmtree(path, ignore_errors=True)


READER = Reader(
    layout="the demo corpus (EMBEDKIT_DEMO.json)",
    recognise=recognise,
    read=read_iemocap,
)
