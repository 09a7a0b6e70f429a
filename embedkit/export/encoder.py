"""Find the encoder that heads were trained on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.errors import RunError
from embedkit.export.predictor import ChosenHead, Predictor

VGGISH_FILE = "vggish.safetensors"


def group_by_encoder(predictor: Predictor) -> list[tuple[ChosenHead, ...]]:
    """Put the heads together that read the same encoder: all of them where it was never trained."""
    return [predictor.heads]


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
        device: "auto", "cpu" or "cuda".
        precision: None for that of the run.
        sources: Where encoder names lead, if elsewhere than in the run (`[encoders]` of embedkit.toml).

    Raises:
        RunError: the encoder found has other weights.
        EncoderError: it cannot be had any more.
    """
    identity = predictor.identity
    network = next((part for part in parts_of(identity) if part.get("weights_digest")), None)
    window = network["window"] if network else None
    encoder = load_encoder(
        identity["name"],
        layers=",".join(map(str, identity["layers"])) if network else "all",
        device=device,
        precision=precision or (network["precision"] if network else "fp32"),
        window=window if isinstance(window, str | int | float) else "clip",
        sources=_sources(predictor) if predictor.exported else {**_sources(predictor), **(sources or {})},
    )
    _compare(identity, encoder.identity())
    return encoder


def parts_of(identity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the identities of a concatenation's parts, or the only one."""
    return list(identity.get("parts") or [identity])


def part_folder(folder: Path, identity: Mapping[str, Any], place: int) -> Path:
    """Return where an exported folder holds an encoder, or a part of a concatenation."""
    return folder / f"encoder-{place}" if len(parts_of(identity)) > 1 else folder


def _sources(predictor: Predictor) -> dict[str, str]:
    """Return where the encoder's weights are, by the names it had."""
    found = {}
    for place, part in enumerate(parts_of(predictor.identity)):
        if part.get("weights_digest") is None or not part.get("source"):
            continue
        revision = part.get("revision")
        source = f"{part['source']}@{revision}" if revision else str(part["source"])
        if predictor.exported:
            own = part_folder(predictor.folder, predictor.identity, place).absolute()
            source = str(own / VGGISH_FILE if part["family"] == "vggish" else own)
        elif part["family"] == "vggish" and source.startswith("https://"):
            continue
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
