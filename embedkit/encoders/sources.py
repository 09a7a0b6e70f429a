"""Where an encoder's weights come from: a local folder, or a Hugging Face repository at a known commit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from embedkit.encoders.layout import (
    CONFIG_FILE,
    INDEX_ENDING,
    PREPROCESSOR_FILE,
    WEIGHT_FILES,
    Checkpoint,
    explain_foreign,
    find_emotion2vec,
    read_shards,
)
from embedkit.errors import EncoderError
from embedkit.received import read_object
from embedkit.wording import list_some

VGGISH_FILE = "vggish.safetensors"
"""By which the folder of a VGGish that was trained here is known."""

CARD_FILE = "embedkit.json"
"""In the folder of an encoder that was trained here: what it was trained on."""

SHOWN_SHARDS = 3

EMOTION2VEC_SUFFIXES = (".pt", ".safetensors")
"""Of a file that may be named itself, because emotion2vec's weights need nothing beside them."""

_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


def is_repository(text: str) -> bool:
    """Say whether a text has the form of a Hugging Face id, `org/name` or `org/name@revision`."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def find_checkpoint(source: str, *, name: str) -> Checkpoint:
    """Find a checkpoint on this machine, in the local Hugging Face cache, or on the Hub, in this order.

    Args:
        source: A folder, a file of emotion2vec's weights, or a Hugging Face id with an optional revision.
        name: What the user called the encoder, for messages.

    Raises:
        EncoderError: there is no such folder or repository, a file is missing, or the Hub cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local_checkpoint(folder)
    refuse_file(folder)
    if folder.is_file():
        return Checkpoint(folder=folder.parent, source=str(folder.resolve()), revision=None, weights=folder)
    match = _REPOSITORY.fullmatch(source)
    if match is None or not is_repository(source):
        raise EncoderError(
            f"The source {source!r} of the encoder {name!r} is no folder; "
            "expected a folder with config.json and weights, or a Hugging Face id (org/name)."
        )
    # Whoever needs no weights does not wait for the library.
    from embedkit.encoders.hub import find_snapshot

    return find_snapshot(match["id"], match["revision"], name=name)


def refuse_file(path: Path) -> None:
    """Raise an EncoderError where a file was named in the place of its folder."""
    if path.is_file() and ((path.parent / CONFIG_FILE).is_file() or path.suffix not in EMOTION2VEC_SUFFIXES):
        beside = f"name {str(path.parent)!r}" if (path.parent / CONFIG_FILE).is_file() else "name such a folder"
        raise EncoderError(
            f"{str(path)!r} is a file; expected the folder of a checkpoint in the layout that transformers writes "
            f"({CONFIG_FILE}, {PREPROCESSOR_FILE}, {WEIGHT_FILES[0]}): {beside}."
        )


def _local_checkpoint(folder: Path) -> Checkpoint:
    foreign = explain_foreign(lambda file: (folder / file).is_file())
    if foreign and not ((folder / CONFIG_FILE).is_file() and any((folder / file).is_file() for file in WEIGHT_FILES)):
        raise EncoderError(f"The folder {str(folder)!r} {foreign}.")
    if single := find_emotion2vec(folder):
        return Checkpoint(folder=folder, source=str(folder.resolve()), revision=None, weights=single)
    if not (folder / CONFIG_FILE).is_file():
        raise EncoderError(
            f"The folder {str(folder)!r} holds no config.json; expected a checkpoint in the layout that transformers "
            "writes (config.json, preprocessor_config.json, model.safetensors)."
        )
    weights = next((folder / file for file in WEIGHT_FILES if (folder / file).is_file()), None)
    if weights is None:
        broken_off = any(folder.rglob("*.incomplete"))
        what = "only those of a download that broke off: repeat it, and" if broken_off else "no weights;"
        raise EncoderError(f"The folder {str(folder)!r} holds {what} expected one of {', '.join(WEIGHT_FILES)}.")
    if weights.name.endswith(INDEX_ENDING):
        absent = [shard for shard in read_shards(weights) if not (folder / shard).is_file()]
        if absent:
            raise EncoderError(
                f"The folder {str(folder)!r} lacks weights that {weights.name} names "
                f"({list_some(absent, SHOWN_SHARDS)}); copy or download them into it."
            )
    return Checkpoint(folder=folder, source=str(folder.resolve()), revision=None)


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an encoder that was trained by embedkit; empty where there is none.

    Raises:
        EncoderError: the card cannot be read: nobody could tell what the encoder has seen.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return {}
    try:
        card = read_object(path)
        if not isinstance(card["trained_on"]["speakers"], list) or not isinstance(card["trained_on"]["corpus"], str):
            raise TypeError("no list of speakers")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"The card {str(path)!r} of a trained encoder cannot be read ({error}); without it nobody knows which "
            "speakers it has seen: write it again with fit --save-encoder."
        ) from error
    return card
