"""Where an encoder's weights come from: a local folder, or a Hugging Face repository at a known commit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.errors import EncoderError

PUBLISHED: dict[str, str] = {
    "wav2vec2": "facebook/wav2vec2-base@0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
    "wav2vec2-large": "facebook/wav2vec2-large-lv60@0cde644b64dac88d8416bec1c92a4099b850ba0b",
    "hubert": "facebook/hubert-base-ls960@dba3bb02fda4248b6e082697eee756de8fe8aa8a",
    "hubert-large": "facebook/hubert-large-ll60k@ff022d095678a2995f3c49bab18a96a9e553f782",
    "wavlm": "microsoft/wavlm-base-plus@4c66d4806a428f2e922ccfa1a962776e232d487b",
    "wavlm-large": "microsoft/wavlm-large@c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
    "whisper-tiny": "openai/whisper-tiny@169d4a4341b33bc18d8881c4b69c2e104e1cc0af",
    "whisper-base": "openai/whisper-base@e37978b90ca9030d5170a5c07aadb050351a65bb",
    "whisper-small": "openai/whisper-small@973afd24965f72e36ca33b3055d56a652f456b4d",
    "whisper-medium": "openai/whisper-medium@abdf7c39ab9d0397620ccaea8974cc764cd0953e",
    "whisper-large-v3": "openai/whisper-large-v3@06f233fe06e710322aca913c1bc4249a0d71fce1",
}
"""Hugging Face id of every registered transformer, `@` the commit it is pinned to.

Without a commit the repository's main branch is taken; the commit it stood at is part of the encoder's identity.
"""

CONFIG_FILE = "config.json"
VGGISH_FILE = "vggish.safetensors"
"""By which the folder of a VGGish that was trained here is known."""

CARD_FILE = "embedkit.json"
"""In the folder of an encoder that was trained here: what it was trained on."""

PREPROCESSOR_FILE = "preprocessor_config.json"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
CONNECTION_SECONDS = 5.0

_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder in the layout that transformers writes.

    Attributes:
        folder: Where the files lie.
        source: The Hugging Face id, or the folder's absolute path.
        revision: The commit of a Hugging Face repository; None for a local folder.
    """

    folder: Path
    source: str
    revision: str | None


def is_repository(text: str) -> bool:
    """Say whether a text has the form of a Hugging Face id, `org/name` or `org/name@revision`."""
    return _REPOSITORY.fullmatch(text) is not None and ".." not in text


def find_checkpoint(source: str, *, name: str) -> Checkpoint:
    """Find a checkpoint on this machine, in the local Hugging Face cache, or on the Hub, in this order.

    Args:
        source: A folder, or a Hugging Face id with an optional revision.
        name: What the user called the encoder, for messages.

    Raises:
        EncoderError: there is no such folder or repository, a file is missing, or the Hub cannot be reached.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return _local_checkpoint(folder)
    match = _REPOSITORY.fullmatch(source)
    if match is None or not is_repository(source):
        raise EncoderError(
            f"The source {source!r} of the encoder {name!r} is no folder; "
            "expected a folder with config.json and weights, or a Hugging Face id (org/name)."
        )
    return _hub_checkpoint(match["id"], match["revision"], name=name)


def _local_checkpoint(folder: Path) -> Checkpoint:
    if not (folder / CONFIG_FILE).is_file():
        raise EncoderError(
            f"The folder {str(folder)!r} holds no config.json; expected a checkpoint in the layout that transformers "
            "writes (config.json, preprocessor_config.json, model.safetensors)."
        )
    if not any((folder / file).is_file() for file in WEIGHT_FILES):
        raise EncoderError(f"The folder {str(folder)!r} holds no weights; expected one of {', '.join(WEIGHT_FILES)}.")
    return Checkpoint(folder=folder, source=str(folder.resolve()), revision=None)


def _hub_checkpoint(repository: str, revision: str | None, *, name: str) -> Checkpoint:
    hub = _Hub(repository, name)
    config = hub.require(CONFIG_FILE, revision)
    commit = config.parent.name
    hub.fetch(PREPROCESSOR_FILE, commit)
    for file in WEIGHT_FILES:
        weights = hub.fetch(file, commit)
        if weights is not None:
            if file.endswith(".index.json"):
                for shard in sorted(set(json.loads(weights.read_text(encoding="utf-8"))["weight_map"].values())):
                    hub.require(shard, commit)
            return Checkpoint(folder=config.parent, source=repository, revision=commit)
    raise EncoderError(f"The repository {repository!r} holds no weights; expected one of {', '.join(WEIGHT_FILES)}.")


class _Hub:
    """Files of one repository: from the cache where they are in it, else from the Hub, asked without retries."""

    def __init__(self, repository: str, name: str) -> None:
        self.repository = repository
        self.name = name

    def require(self, file: str, revision: str | None) -> Path:
        path = self.fetch(file, revision)
        if path is None:
            raise EncoderError(f"The repository {self.repository!r} of the encoder {self.name!r} holds no {file}.")
        return path

    def fetch(self, file: str, revision: str | None) -> Path | None:
        """Return the file's path, or None where the repository is known not to have it."""
        from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache

        cached = try_to_load_from_cache(self.repository, file, revision=revision)
        if cached is _CACHED_NO_EXIST:
            return None
        if isinstance(cached, str):
            return Path(cached)

        def download() -> Path:
            self._ask(file, revision)
            return Path(hf_hub_download(self.repository, file, revision=revision))

        return self._answered(download, file, revision)

    def _ask(self, file: str, revision: str | None) -> None:
        """Look the file up once: the downloader itself would retry for half a minute without a network."""
        from huggingface_hub import get_hf_file_metadata, hf_hub_url

        get_hf_file_metadata(hf_hub_url(self.repository, file, revision=revision), timeout=CONNECTION_SECONDS)

    def _answered(self, download: Callable[[], Path], file: str, revision: str | None) -> Path | None:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            GatedRepoError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        at = f" at revision {revision!r}" if revision else ""
        try:
            return download()
        except GatedRepoError as error:
            raise EncoderError(
                f"The repository {self.repository!r} is gated; accept its terms and log in with `hf auth login`."
            ) from error
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise EncoderError(
                f"There is neither a folder nor a Hugging Face repository {self.repository!r}{at}; "
                "expected an existing folder, a Hugging Face id (org/name), or a registered encoder."
            ) from error
        except EntryNotFoundError as error:
            if isinstance(error, LocalEntryNotFoundError):
                raise self._unreachable(file, at, error) from error
            return None
        except Exception as error:
            raise self._unreachable(file, at, error) from error

    def _unreachable(self, file: str, at: str, error: Exception) -> EncoderError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return EncoderError(
            f"Cannot get {file} of {self.repository!r}{at} for the encoder {self.name!r}: it is neither a local "
            f"folder, nor in the Hugging Face cache, nor can the Hub be reached ({reason}); name a local copy in "
            f'embedkit.toml ([encoders] {_toml_key(self.name)} = "path/to/folder"), or take an encoder that needs no '
            "weights (mfcc)."
        )


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else json.dumps(name)


def read_card(folder: Path) -> dict[str, Any]:
    """Return the card of an encoder that was trained by embedkit; empty where there is none.

    Raises:
        EncoderError: the card cannot be read: nobody could tell what the encoder has seen.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return {}
    try:
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(card["trained_on"]["speakers"], list) or not isinstance(card["trained_on"]["corpus"], str):
            raise TypeError("no list of speakers")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EncoderError(
            f"The card {str(path)!r} of a trained encoder cannot be read ({error}); without it nobody knows which "
            "speakers it has seen: write it again with fit --save-encoder."
        ) from error
    return card
