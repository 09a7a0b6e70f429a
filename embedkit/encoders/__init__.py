"""The table of encoders, and how one is found by name, by Hugging Face id or by folder.

Importing this imports neither torch nor transformers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.encoders.published import PUBLISHED, TABLE
from embedkit.encoders.sources import CARD_FILE, VGGISH_FILE, is_repository, refuse_file
from embedkit.errors import EncoderError, UnknownNameError
from embedkit.imports import looks_like_target
from embedkit.registry import Part, Registry, load_object, unknown_name
from embedkit.system import safe_name

if TYPE_CHECKING:
    from embedkit.encoders.base import Encoder

PRETRAINED = "embedkit.encoders.families:load_pretrained"
OPENSMILE = "embedkit.encoders.opensmile:OpensmileEncoder"
OWN = "embedkit.encoders.own:load_own"
CONCATENATED = "embedkit.encoders.concatenation:ConcatenatedEncoder"

ENCODERS = Registry(
    "encoder",
    [
        (
            "mfcc",
            Part(
                "embedkit.encoders.acoustic:MfccEncoder",
                "13 MFCC with deltas and delta-deltas, 50 a second",
                cites=("davis1980",),
            ),
        ),
        ("logmel", Part("embedkit.encoders.acoustic:LogMelEncoder", "64 log-mel bands, 50 a second")),
        (
            "egemaps",
            Part(
                OPENSMILE,
                "88 eGeMAPS functionals, one vector an utterance",
                extra="opensmile",
                cites=("eyben2016", "eyben2010"),
            ),
        ),
        (
            "egemaps-lld",
            Part(
                OPENSMILE, "25 eGeMAPS descriptors, 100 a second", extra="opensmile", cites=("eyben2016", "eyben2010")
            ),
        ),
        (
            "compare",
            Part(
                OPENSMILE,
                "6,373 ComParE functionals, one vector an utterance",
                extra="opensmile",
                cites=("schuller2016", "eyben2010"),
            ),
        ),
        (
            "compare-lld",
            Part(
                OPENSMILE,
                "65 ComParE descriptors, 100 a second",
                extra="opensmile",
                cites=("schuller2016", "eyben2010"),
            ),
        ),
        (
            "vggish",
            Part(
                "embedkit.encoders.vggish:VggishEncoder", "VGGish, 128 dimensions every 0.96 s", cites=("hershey2017",)
            ),
        ),
        (
            "vggish-scratch",
            Part(
                "embedkit.encoders.vggish:UntrainedVggish",
                "VGGish with random weights, to be trained end to end",
                cites=("hershey2017",),
            ),
        ),
        *((name, Part(PRETRAINED, entry.summary, cites=entry.cites)) for name, entry in TABLE.items()),
    ],
)

VGGISH = ("vggish", "vggish-scratch")
ACOUSTIC = tuple(name for name in ENCODERS if name not in (*VGGISH, *ENCODERS.names_of(PRETRAINED)))
"""Computed from the signal, without weights."""


def load_encoder(
    name: str,
    *,
    layers: str = "all",
    device: str = "cpu",
    precision: str = "fp32",
    window: str | float = "clip",
    sources: Mapping[str, str] | None = None,
    trainable: bool = False,
) -> Encoder:
    """Load an encoder.

    Args:
        name: A registered name, a Hugging Face id (`org/name`, optionally `@revision`), a local folder, a class of
            one's own (`package.module:MyEncoder`), or several of these joined by `+` (their vectors are concatenated;
            `layers` and `window` concern the transformers).
        layers: `all`, `last`, a number, a range such as `4-9`, or several of these with commas; 0 is the input of
            the first layer.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        precision: `fp32`, `bf16`, `fp16` or `auto`; acoustic features and VGGish are always fp32.
        window: Whisper only: `clip`, or seconds that every clip is padded to.
        sources: Where names lead instead of the published weights (`[encoders]` of embedkit.toml): a folder, a file
            of VGGish's or emotion2vec's weights, or a Hugging Face id.
        trainable: Whether its weights are to be trained (`Encoder.forward`); only checkpoints and VGGish can.

    Raises:
        UnknownNameError: neither registered, nor a folder, nor of the form of a Hugging Face id.
        EncoderError: weights that are unavailable or do not fit, or an option that the encoder does not have.
    """
    sources = sources or {}
    options = {"layers": layers, "device": device, "precision": precision, "window": window}
    parts = split_name(name, sources)
    if not all(parts):
        raise UnknownNameError(unknown_name("encoder", name, [*ENCODERS, *sources]))
    if trainable:
        _require_trainable(name, parts)
    if len(parts) > 1:
        return _concatenate(name, parts, options, sources)
    return _load_one(name, options, sources, trainable=trainable)


def _require_trainable(name: str, parts: list[str]) -> None:
    if len(parts) > 1:
        raise EncoderError(f"The encoder {name!r} joins several; name the one that is to be trained.")
    if name in ACOUSTIC or looks_like_target(name):
        kind = "is computed from the signal and has no weights" if name in ACOUSTIC else "is a class of your own"
        raise EncoderError(
            f"The encoder {name!r} {kind}, so it cannot be fine-tuned; expected a transformers checkpoint or VGGish: "
            "choose one, or fit with --mode cached or frozen."
        )


def split_name(name: str, sources: Mapping[str, str] | None = None) -> list[str]:
    """Split `hubert+mfcc` into its parts; a path or a name of one's own may hold a `+` itself."""
    if name in (sources or {}) or Path(name).expanduser().exists():
        return [name]
    return [part.strip() for part in name.split("+")]


def encoder_label(name: str) -> str:
    """Return a stem for file names: `org--name` for a Hugging Face id, the last part of a folder's or file's path.

    A trained encoder in the folder of its run is named after the run as well.

    >>> encoder_label("facebook/hubert-base-ls960")
    'facebook--hubert-base-ls960'
    """
    parts = split_name(name)
    if len(parts) > 1:
        return "+".join(encoder_label(part) for part in parts)
    folder = Path(name).expanduser()
    if (folder / CARD_FILE).is_file() and folder.resolve().parent.name == "encoders":
        run = folder.resolve().parents[1]
        stem = f"{run.parents[1].name}-{run.name}-{folder.resolve().name}"
    elif folder.is_file():
        # The published name of weights says nothing.
        stem = folder.resolve().parent.name if folder.stem == "model" else folder.stem
    elif folder.is_dir() or not is_repository(name):
        stem = folder.resolve().name if "/" in name or folder.is_dir() else name
    else:
        stem = name.replace("/", "--")
    return safe_name(stem.replace("\\", "-"), default="encoder")


def _concatenate(name: str, parts: list[str], options: dict[str, Any], sources: Mapping[str, str]) -> Encoder:
    encoders = []
    for part in parts:
        single = part in ACOUSTIC or part in VGGISH or looks_like_target(part)
        chosen = options | {"layers": "all", "window": "clip"} if single else options
        encoders.append(_load_one(part, chosen, sources))
    combined: Encoder = load_object(CONCATENATED)(encoders, name=name)
    return combined


def _load_one(name: str, options: dict[str, Any], sources: Mapping[str, str], *, trainable: bool = False) -> Encoder:
    if looks_like_target(name):
        own: Encoder = load_object(OWN)(name, options)
        return own
    if name in ACOUSTIC or name in VGGISH:
        return _load_single_layer(name, options, sources)
    source = sources.get(name) or PUBLISHED.get(name) or name
    weights = Path(source).expanduser() / VGGISH_FILE
    if weights.is_file():
        vggish: Encoder = ENCODERS.load("vggish")(name=name, source=weights, device=options["device"])
        return vggish
    refuse_file(Path(source).expanduser())
    if source == name and not (Path(name).expanduser().exists() or is_repository(name)):
        if re.match(r"[./~]|.*[/\\]", name):
            raise EncoderError(f"There is no folder {name!r}; expected a checkpoint's folder, or a registered encoder.")
        hint = " A local folder, a Hugging Face id (org/name) or a class of your own (module:Class) works as well."
        raise UnknownNameError(unknown_name("encoder", name, [*ENCODERS, *sources]) + hint)
    try:
        encoder: Encoder = load_object(PRETRAINED)(name, source, **options, trainable=trainable)
    except EncoderError as error:
        raise EncoderError(f"{error}{_misspelt(name, sources)}") from error
    return encoder


def _misspelt(name: str, sources: Mapping[str, str]) -> str:
    """Ask, where published weights are unavailable, whether a source of nearly that name was meant for them."""
    nearest = [] if name in sources else get_close_matches(name, sources, n=1, cutoff=0.8)
    return f" [encoders] has a source for {nearest[0]!r}: did you mean {name!r} there?" if nearest else ""


def _load_single_layer(name: str, options: dict[str, Any], sources: Mapping[str, str]) -> Encoder:
    from embedkit.devices import resolve_device
    from embedkit.encoders.base import select_layers
    from embedkit.encoders.precision import resolve_precision

    device = resolve_device(options["device"])
    resolve_precision(options["precision"], device)
    select_layers(options["layers"], 0)
    if options["window"] != "clip":
        raise EncoderError(f"The encoder {name!r} has no window option; expected 'clip', got {options['window']!r}.")
    source = sources.get(name)
    if name in VGGISH:
        encoder: Encoder = ENCODERS.load(name)(name=name, source=source, device=str(device))
        return encoder
    if source is not None:
        raise EncoderError(f"The encoder {name!r} has no weights; remove its source {source!r} from [encoders].")
    acoustic: Encoder = ENCODERS.load(name)(name=name)
    return acoustic
