"""Find the encoder that heads were trained on, or with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.encoders.run_encoders import SAVED, tuned_folder
from embedkit.encoders.sources import VGGISH_FILE
from embedkit.errors import RunError
from embedkit.export.predictor import ChosenHead, Predictor
from embedkit.training.recorded import reading

TUNED = ("finetune", "lora")
"""Modes in which every fold and seed has an encoder of its own."""

_PER_FOLD = "encoders"
"""In what a run says of its store: the encoders of all folds, in order, where every fold has one of its own."""

_NO_PLACES = ("https://", "random weights")
"""How sources of VGGish begin that cannot be read from again."""


def group_by_encoder(predictor: Predictor) -> list[tuple[ChosenHead, ...]]:
    """Put the heads together that read the same encoder: all of them, where none was trained on the corpus."""
    heads = predictor.heads
    if predictor.exported:
        return [heads]
    if predictor.config.get("mode") in TUNED:
        return [(head,) for head in heads]
    if _PER_FOLD in predictor.config["store"]:
        numbers = dict.fromkeys(head.number for head in heads)
        return [tuple(head for head in heads if head.number == number) for number in numbers]
    return [heads]


def find_encoder(
    predictor: Predictor,
    heads: tuple[ChosenHead, ...],
    *,
    device: str = "auto",
    precision: str | None = None,
    sources: Mapping[str, str] | None = None,
) -> Encoder:
    """Load the encoder of some heads as it was when they were trained.

    Args:
        predictor: A run, or an exported folder.
        heads: A group of `group_by_encoder`.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        precision: None for that of the run.
        sources: Where encoder names lead, if elsewhere than in the run (`[encoders]` of embedkit.toml).

    Raises:
        RunError: the encoder found has other weights, or one that was trained was not kept.
        EncoderError: it is no longer available.
    """
    with reading(predictor.folder):
        return _find_encoder(predictor, heads, device, precision, sources)


def _find_encoder(
    predictor: Predictor,
    heads: tuple[ChosenHead, ...],
    device: str,
    precision: str | None,
    sources: Mapping[str, str] | None,
) -> Encoder:
    identity = _identity_of(predictor, heads[0])
    network = next((part for part in parts_of(identity) if part.get("weights_digest")), None)
    window = network.get("window") if network else None
    own = _own_folder(predictor, heads[0]) if network else None
    encoder = load_encoder(
        identity["name"] if own is None else str(own.absolute()),
        layers=",".join(map(str, identity["layers"])) if network else "all",
        device=device,
        precision=precision or (network["precision"] if network else "fp32"),
        window=window if isinstance(window, str | int | float) else "clip",
        sources={**_sources(predictor, identity), **({} if predictor.exported else sources or {})}
        if own is None
        else {},
    )
    encoder.name = identity["name"]
    if predictor.exported or own is None:
        _compare(identity, encoder.identity())
    return encoder


def parts_of(identity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the identities of a concatenation's parts, or the only one."""
    return list(identity.get("parts") or [identity])


def has_network(identity: Mapping[str, Any]) -> bool:
    """Tell whether an encoder has weights, or is computed from the signal."""
    return any(part.get("weights_digest") for part in parts_of(identity))


def without_places(identity: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of what an encoder says of itself where on this machine its weights are: names of folders stay."""
    hidden = dict(identity)
    for key in ("name", "source"):
        path = Path(str(identity.get(key) or ""))
        hidden |= {key: path.name} if path.is_absolute() else {}
    if parts := identity.get("parts"):
        hidden["parts"] = [without_places(part) for part in parts]
        named = [part["name"] for part in hidden["parts"]]
        # The parts are found by their names.
        if len(set(named)) < len(named):
            return dict(identity)
        hidden["name"] = "+".join(named)
    return hidden


def part_folder(folder: Path, identity: Mapping[str, Any], place: int) -> Path:
    """Return where an exported folder holds an encoder, or a part of a concatenation."""
    return folder / f"encoder-{place}" if len(parts_of(identity)) > 1 else folder


def _own_folder(predictor: Predictor, head: ChosenHead) -> Path | None:
    """Return the folder that holds the encoder of a head; None where it is found by its name.

    Raises:
        RunError: it was trained, and not kept.
    """
    if predictor.exported:
        is_there = any((predictor.folder / first).is_file() for first, *_ in SAVED)
        return predictor.folder if is_there else None
    if predictor.config.get("mode") not in TUNED:
        return None
    folder = tuned_folder(predictor.folder, head.number, head.seed)
    if not folder.is_dir():
        raise RunError(
            f"The run {predictor.folder} trained its encoders, but there is none at {folder}; fit again with "
            "--save-encoder --overwrite to predict or export."
        )
    return folder


def _identity_of(predictor: Predictor, head: ChosenHead) -> Mapping[str, Any]:
    """Return what the encoder of a head said of itself."""
    per_fold = None if predictor.exported else predictor.config["store"].get(_PER_FOLD)
    return predictor.identity if per_fold is None else per_fold[head.number]


def _sources(predictor: Predictor, identity: Mapping[str, Any]) -> dict[str, str]:
    """Return where the encoder's weights are, by the names it had."""
    found = {}
    for place, part in enumerate(parts_of(identity)):
        source = str(part.get("source") or "")
        is_vggish = part["family"] == "vggish"
        if part.get("weights_digest") is None or not source or (is_vggish and source.startswith(_NO_PLACES)):
            continue
        if predictor.exported:
            folder = part_folder(predictor.folder, identity, place).absolute()
            source = str(folder / VGGISH_FILE if is_vggish else folder)
        elif part.get("revision"):
            source = f"{source}@{part['revision']}"
        found[str(part["name"])] = source
    return found


def _compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for wanted, own in zip(parts_of(expected), parts_of(found), strict=True):
        if wanted.get("weights_digest") != own.get("weights_digest"):
            raise RunError(
                f"The encoder {expected['name']!r} found now has other weights ({str(own.get('weights_digest'))[:12]}) "
                f"than the run's ({str(wanted.get('weights_digest'))[:12]}); name the run's under [encoders] in "
                "embedkit.toml, or fit again."
            )
