"""Exported folders that lie on the Hugging Face Hub: fetched at one commit, weights as safetensors alone."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from embedkit.encoders.hub import find_files
from embedkit.encoders.layout import (
    CONFIG_FILE,
    EMOTION2VEC_FILE,
    INDEX_ENDING,
    PREPROCESSOR_FILE,
    PROCESSOR_FILE,
    WEIGHT_FILES,
)
from embedkit.encoders.sources import CARD_FILE, VGGISH_FILE
from embedkit.errors import EncoderError, RunError
from embedkit.progress import Tell
from embedkit.received import read_object

_ENCODER_FILES = (
    *(CONFIG_FILE, PREPROCESSOR_FILE, PROCESSOR_FILE, CARD_FILE),
    *(WEIGHT_FILES[0], f"{WEIGHT_FILES[0]}{INDEX_ENDING}", VGGISH_FILE, EMOTION2VEC_FILE),
)
_MOST_PARTS = 16
"""Encoders side by side in a concatenation, as far as anything is fetched of them."""


def is_pushed(name: str, description: str) -> bool:
    """Tell whether `org/name` holds what `export --push` writes; False where nobody can say."""
    repository, _, revision = name.partition("@")
    with suppress(EncoderError):
        find_files(repository, revision or None, (description,))
        return True
    return False


def fetch_exported(name: str, needed: tuple[str, ...], tell: Tell) -> Path:
    """Bring what `export --push` wrote from the cache or the Hub.

    Args:
        name: `org/name` or `org/name@revision`.
        needed: Its description, and its heads.
        tell: Receives the commit where none was named.

    Raises:
        EncoderError: there is no such repository, it holds something else, or the Hub cannot be reached.
        RunError: its description cannot be read.
    """
    repository, _, revision = name.partition("@")
    folder = find_files(repository, revision or None, needed)
    try:
        parts = read_object(folder / needed[0])["store"]["encoder"].get("parts") or [None]
        folders = [f"encoder-{number}/" for number in range(min(len(parts), _MOST_PARTS))] if len(parts) > 1 else [""]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(f"The file {needed[0]} of {name!r} is damaged ({error}); push the run again.") from error
    find_files(repository, folder.name, needed, [f"{above}{file}" for above in folders for file in _ENCODER_FILES])
    if not revision:
        tell(f"{repository} is taken at its commit {folder.name}; {repository}@{folder.name[:8]} stays with it.")
    return folder
