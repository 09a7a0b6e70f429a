"""What the root attributes of a store may say: types of their JSON, names that are no paths elsewhere."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from embedkit.arguments import fits
from embedkit.received import parse_json, require_object
from embedkit.store import layout

LONGEST_CORPUS = 255
LONGEST_ENCODER = 4096
"""Characters of a corpus's name; of an encoder's, which may be the path of a folder."""
LONGEST_FINGERPRINT = 128
MOST_LAYERS = 4096
LARGEST_RATE = 10_000_000
"""Hertz; no audio has more."""

_TRAINING: Mapping[str, Any] = {
    "corpus": str,
    "study": str,
    "folds": str,
    "fold": str,
    "fold_number": int,
    "seed": int,
    "base": str,
    "speakers": Sequence[str],
    "development_speakers": Sequence[str],
    "utterances": int | Sequence[str],
    "development_utterances": int | Sequence[str],
    "before": Sequence[Mapping[str, Any]],
}
_PRECISION: Mapping[str, Any] = {"asked": str, "used": str, "relative_error": float | None}
_WINDOWS: Mapping[str, Any] = {"seconds": float, "overlap_seconds": float}
_OPTIONS: Mapping[str, Any] = {
    "levels": Sequence[str],
    "frame_dtype": str | None,
    "statistics": str,
    "max_seconds": Mapping[str, Any] | None,
    "rescale": bool,
    "noise": Mapping[str, Any],
}
_NOISE: Mapping[str, Any] = {"snr": float, "clean": str, "recordings": str}
_ENCODER: Mapping[str, Any] = {
    "name": str,
    "family": str,
    "source": str | None,
    "revision": str | None,
    "weights_digest": str | None,
    "layers": Sequence[int],
    "dimensions": int,
    "sampling_rate": float,
    "frame_rate": float,
    "precision": str,
    "versions": Mapping[str, Any],
    "parts": Sequence[Mapping[str, Any]],
}
_KINDS: Mapping[str, Mapping[str, Any]] = {
    "corpus_info": {"kind": str, "root": str, "task": Mapping[str, Any], "notes": Sequence[str]},
    "encoder": _ENCODER,
    "extraction": {
        "batch_seconds": float | None,
        "shard_seconds": float | None,
        "threads": int | None,
        "passes": int | None,
        "device": str,
        "sampling_rate": float,
        "options": Mapping[str, Any],
        "selection": Mapping[str, Any],
        "max_file_gb": float | None,
        "precision": Mapping[str, Any],
        "default_head": str | None,
    },
    "trained_on": _TRAINING,
}
_OF_A_FOLD = ("folds", "fold", "fold_number", "seed", "base")
"""What an encoder that names its study must tell as well."""


def check_described(attributes: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Check the names and the JSON of root attributes; return the JSON, decoded. What is not known is left as it is.

    Raises:
        ValueError: a name that is none, or JSON that is missing, no object, or of other types.
    """
    check_corpus_name(attributes["corpus"])
    check_name("fingerprint", attributes["fingerprint"], LONGEST_FINGERPRINT)
    found = {}
    for name in layout.JSON_ATTRIBUTES:
        found[name] = require_object(parse_json(attributes[name]))
        _check_types(name, found[name], _KINDS[name])
    task = found["corpus_info"].get("task", {})
    _check_types("corpus_info.task", task, {"classes": Sequence[str], "merge": Mapping[str, Any]})
    _check_types("corpus_info.task.merge", task.get("merge", {}), dict.fromkeys(task.get("merge", {}), str))
    _check_extraction(found["extraction"])
    _check_training(found["trained_on"])
    check_encoder("encoder", found["encoder"])
    _require_size(found["encoder"])
    return found


def check_name(what: str, name: str, longest: int) -> None:
    """Check the name of a corpus or an encoder.

    Raises:
        ValueError: it is empty or too long, or holds control characters.
    """
    if not 0 < len(name) <= longest or any(unicodedata.category(one) in _CONTROL for one in name):
        raise ValueError(
            f"the name of the {what} is {name[:40]!r}, expected 1 to {longest:,} characters without control characters"
        )


def check_corpus_name(name: str) -> None:
    """Check the name of a corpus.

    Raises:
        ValueError: as `check_name`, or it leads out of a folder.
    """
    check_name("corpus", name, LONGEST_CORPUS)
    if ".." in re.split(r"[/\\]", name) or name[0] in "/\\":
        raise ValueError(f"the name of the corpus is {name!r}, which leads out of a folder")


_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _check_types(where: str, found: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    wrong = next((name for name in found if name in kinds and not fits(found[name], kinds[name])), None)
    if wrong is not None:
        raise ValueError(f"{where}: {wrong} is of another type than it should be")


def check_encoder(where: str, encoder: Mapping[str, Any]) -> None:
    """Check what an encoder says of itself; what it does not say is told where it is needed.

    Raises:
        ValueError: it says what no encoder is.
    """
    _check_types(where, encoder, _ENCODER)
    check_name("encoder", encoder.get("name", "?"), LONGEST_ENCODER)
    layers, dimensions = encoder.get("layers", [0]), encoder.get("dimensions", 1)
    if not 0 < len(set(layers)) == len(layers) <= MOST_LAYERS or dimensions < 1:
        raise ValueError(f"{where}: expected 1 to {MOST_LAYERS:,} different layers, and one dimension at least")
    for name in ("frame_rate", "sampling_rate"):
        if not 0 <= encoder.get(name, 0) <= LARGEST_RATE:
            raise ValueError(f"{where}: {name} is {encoder[name]}, expected at most {LARGEST_RATE:,} Hz")
    for part in encoder.get("parts", ()):
        check_encoder(f"{where}.parts", part)


def _require_size(encoder: Mapping[str, Any]) -> None:
    """Require what the rows of a store are read by, of an encoder and its parts."""
    for name in ("layers", "dimensions"):
        if name not in encoder:
            raise KeyError(name)
    for part in encoder.get("parts", ()):
        _require_size(part)


def _check_extraction(extraction: Mapping[str, Any]) -> None:
    options = extraction.get("options", {})
    _check_types("extraction.options", options, _OPTIONS)
    _check_types("extraction.precision", extraction.get("precision", {}), _PRECISION)
    selection = {"where": Sequence[str], "limit": int | None}
    _check_types("extraction.selection", extraction.get("selection", {}), selection)
    if "noise" in options:
        _check_types("extraction.options.noise", options["noise"], _NOISE)
        if lacking := {"snr", "clean"} - options["noise"].keys():
            raise ValueError(f"extraction.options.noise: {min(lacking)} is missing")
    windows = options.get("max_seconds")
    if windows is not None:
        _check_types("extraction.options.max_seconds", windows, _WINDOWS)
        if not 0 < windows["seconds"] < math.inf:
            raise ValueError(f"extraction.options.max_seconds: seconds is {windows['seconds']}, expected a length")


def _check_training(known: Mapping[str, Any]) -> None:
    if "study" in known and (missing := [name for name in _OF_A_FOLD if name not in known]):
        raise ValueError(f"trained_on: {missing[0]} is missing")
    for earlier in known.get("before", ()):
        _check_types("trained_on.before", earlier, _TRAINING)
        _check_training(earlier)
