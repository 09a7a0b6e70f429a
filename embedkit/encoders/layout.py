"""The files of a checkpoint as transformers writes it, and what is wrong with those that cannot be read."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.errors import EncoderError
from embedkit.received import describe_pointer, open_regular, parse_json, read_object, require_object

CONFIG_FILE = "config.json"
PREPROCESSOR_FILE = "preprocessor_config.json"
PROCESSOR_FILE = "processor_config.json"
"""What transformers 5 saves a whole processor as, its feature extractor's settings inside."""

INDEX_ENDING = ".index.json"
WEIGHT_FILES = (
    "model.safetensors",
    f"model.safetensors{INDEX_ENDING}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX_ENDING}",
)
"""In the order in which transformers looks for them."""

ADAPTER_FILE = "adapter_config.json"

_FLAX_OR_TF = (
    "holds weights for {} alone ({}), which transformers 5 does not read; write them for PyTorch once, with "
    "transformers 4: AutoModel.from_pretrained(FOLDER, from_{}=True).save_pretrained(FOLDER)"
)
_FOREIGN = {
    ADAPTER_FILE: (
        f"holds an adapter of PEFT ({ADAPTER_FILE}), which changes another model that it names; merge it into that "
        "model, and name the folder of the result: PeftModel.from_pretrained(MODEL, "
        "ADAPTER).merge_and_unload().save_pretrained(FOLDER)"
    ),
    "hyperparams.yaml": (
        "holds a model of SpeechBrain (hyperparams.yaml), whose settings run code; name the encoder that it was "
        "trained from, or save its own with SpeechBrain: its wav2vec2 module's model.save_pretrained(FOLDER)"
    ),
    "tf_model.h5": _FLAX_OR_TF.format("TensorFlow", "tf_model.h5", "tf"),
    "flax_model.msgpack": _FLAX_OR_TF.format("Flax", "flax_model.msgpack", "flax"),
}
"""What checkpoints of other libraries are known by, what they are, and how they are used."""

_LONGEST_HEADER = 100_000_000


EMOTION2VEC_FILE = "emotion2vec.safetensors"
"""By which the folder of an emotion2vec that was trained here is known."""

EMOTION2VEC_PUBLISHED = ("model.pt", "emotion2vec_base.pt")
"""What its authors call the weights of emotion2vec+ and of emotion2vec."""

FUNASR_FILE = "configuration.json"
"""What their repositories hold in the place of config.json."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A folder in the layout that transformers writes, or one file of emotion2vec's weights.

    Attributes:
        folder: Where the files lie.
        source: The Hugging Face id, or the absolute path of the folder or file.
        revision: The commit of a Hugging Face repository; None for a local folder.
        weights: The file, where it is emotion2vec's by its name; None in transformers' layout.
    """

    folder: Path
    source: str
    revision: str | None
    weights: Path | None = None


def find_emotion2vec(folder: Path) -> Path | None:
    """Return the file that may hold emotion2vec's weights; None in a folder that transformers wrote, or without one."""
    if (folder / CONFIG_FILE).is_file() and any((folder / file).is_file() for file in WEIGHT_FILES):
        return None
    names = (EMOTION2VEC_FILE, *EMOTION2VEC_PUBLISHED, WEIGHT_FILES[0])
    return next((folder / file for file in names if (folder / file).is_file()), None)


def explain_foreign(holds: Callable[[str], bool]) -> str | None:
    """Say which library's checkpoint lies where config.json or weights are missing, and how to use it.

    Args:
        holds: Tells whether a file of this name is there.
    """
    return next((sentence for file, sentence in _FOREIGN.items() if holds(file)), None)


def read_settings(folder: Path) -> dict[str, Any] | None:
    """Read a feature extractor's settings from where transformers looks for them; None where there are none.

    Raises:
        EncoderError: a file that is no JSON object.
    """
    processor = read_settings_file(folder / PROCESSOR_FILE) or {}
    for key in ("feature_extractor", "audio_processor"):
        if isinstance(settings := processor.get(key), dict):
            return settings
    return read_settings_file(folder / PREPROCESSOR_FILE)


def read_shards(index: Path) -> list[str]:
    """Read the names of the files that weights are spread over, from their index.

    Raises:
        EncoderError: it names none, or names that lead out of its folder.
    """
    weights = (read_settings_file(index) or {}).get("weight_map")
    names = sorted(set(map(str, weights.values()))) if isinstance(weights, dict) else []
    if not names or any(Path(name).name != name or "\\" in name for name in names):
        raise EncoderError(
            f"The index {str(index)!r} names no files of weights beside it; expected a weight_map with their names."
        )
    return names


def describe_damage(checkpoint: Checkpoint) -> str | None:
    """Say which of the files of weights is not what its name says, and what to do; None where nothing is seen."""
    files = [checkpoint.weights] if checkpoint.weights else []
    files = files or next(([path] for name in WEIGHT_FILES if (path := checkpoint.folder / name).is_file()), [])
    if files and files[0].name.endswith(INDEX_ENDING):
        files = [path for name in read_shards(files[0]) if (path := checkpoint.folder / name).is_file()]
    for path in files:
        if pointer := describe_pointer(path):
            return pointer
        if damage := _damage(path):
            anew = f"delete {str(path.resolve())!r}, and the same command downloads it anew"
            return f"{path.name} {damage}; {'copy or download it once more' if checkpoint.revision is None else anew}"
    return None


def _damage(path: Path) -> str | None:
    size = path.stat().st_size
    if not size:
        return "is empty"
    if path.suffix == ".safetensors":
        expected = _announced_size(path)
        if expected is None:
            return f"is no whole safetensors file ({size:,} bytes)"
        return f"has {size:,} of {expected:,} bytes" if size < expected else None
    with open_regular(path) as file:
        beginning = file.read(4)
    if beginning == b"PK\x03\x04":
        return None if zipfile.is_zipfile(path) else f"is cut short ({size:,} bytes)"
    return None if beginning[:1] == b"\x80" else f"is no PyTorch file ({size:,} bytes)"


def _announced_size(path: Path) -> int | None:
    """Return how long a safetensors file is by its header; None where it has none that can be read."""
    try:
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            header = require_object(parse_json(file.read(length))) if length < _LONGEST_HEADER else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return 8 + length + max(map(int, ends))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def read_settings_file(path: Path) -> dict[str, Any] | None:
    """Read a JSON object; None where there is no such file.

    Raises:
        EncoderError: a file that is no JSON object.
    """
    if not path.is_file():
        return None
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        reason = describe_pointer(path) or str(error).splitlines()[0]
        raise EncoderError(f"The file {str(path)!r} cannot be read ({reason}); expected JSON.") from error


def explain_unreadable(error: BaseException) -> str:
    """Say in a line why weights cannot be read; PyTorch's own advice would be to let the file run code."""
    if "weights_only" in str(error) or type(error).__name__ == "UnpicklingError":
        return "they hold more than tensors, which could run code"
    if isinstance(error, EOFError):
        return "they end too early"
    text = str(error).strip()
    return (text.splitlines()[0] if text else type(error).__name__).rstrip(".")
