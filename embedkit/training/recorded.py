"""What the files of a run may say: the types of what is read from them. What is not known is left as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from embedkit.arguments import fits
from embedkit.errors import EmbedkitError, RunError, lacks_memory
from embedkit.store.described import check_encoder

_Tensor = TypeVar("_Tensor")
Shape: TypeAlias = Any
"""A type, `[shape]` for a list of it, `(shape, shape)` for a list of two, or a mapping of known keys, none needed."""

_STORE: Shape = {
    "path": str,
    "fingerprint": str,
    "digest": str,
    "encoder": Mapping[str, Any],
    "encoders": [Mapping[str, Any]],
    "options": {"frame_dtype": str | None, "rescale": bool},
}
_STORE = {**_STORE, "stores": [_STORE]}
CONFIG: Shape = {
    "corpus": str,
    "encoder": str,
    "head": str,
    "head_spec": str,
    "loss": str,
    "loss_spec": str,
    "mode": str,
    "folds": {"kind": str, "names": [str], "train": [int], "test": [int]},
    "classes": [str],
    "pooled": [str],
    "standardise_by": str,
    "dimensions": [str],
    "layer": int | None,
    "seeds": [int],
    "store": _STORE,
    "test_store": _STORE,
    "init_head": {"kind": str, "map": Mapping[str, Any], "digest": str},
    "noise": {"snr": float, "folder": str},
    "noise_store": _STORE,
    "model": str,
    "map": Mapping[str, Any],
    "trained_on": str,
    "choices": [{"fold": str, "seed": int, "head": str, "temperature": float}],
}
_ROW_TEXTS = ("corpus", "encoder", "head", "loss", "mode", "folds", "selection", "precision", "loss_spec", "head_spec")
_ZERO_SHOT_TEXTS = ("model", "trained_on")
_SCORES = ("wa", "ua", "f1", "ccc")
_ROW_NUMBERS = ("seeds", "utterances", "speakers", *_SCORES, *(f"{name}_std" for name in _SCORES))
_DISTANCES = ("nll", "brier", "adaptive_ece", "kl", "js")
_BELIEF = ("ece", *(f"{name}{suffix}" for name in _DISTANCES for suffix in ("", "_calibrated")))
_AGREEMENT = ("labels_of_majority", "ua", "wa", "f1", "js", "ua_of_labels", "wa_of_labels")
METRICS: Shape = {
    **dict.fromkeys((*_ROW_TEXTS, *_ZERO_SHOT_TEXTS), str),
    **dict.fromkeys(_ROW_NUMBERS, float),
    **dict.fromkeys([f"{name}{suffix}" for name in _BELIEF for suffix in ("", "_std")], float | None),
    **{f"{name}_ci": (float, float) for name in (*_SCORES, *_BELIEF)},
    **dict.fromkeys(("ua_dev", "ccc_dev"), float | None),
    "class_speakers": [int],
    "classes": [str],
    "pooled": [str],
    "by_corpus": Mapping[str, Any],
    "untrained": bool,
    "copied": bool,
    "leak": bool,
    "where": [str],
    "dimensions": [str],
    "train_share": float,
    "noise_snr": float,
    "noise": str,
    "train_speakers": [int],
    "layer": int | None,
    "head_options": Mapping[str, Any],
    "loss_options": Mapping[str, Any],
}
CURVES: Shape = {"seeds": [int], "score": str, "loss": [[float | None]], "dev": [[float | None]]}


def head_state(tensors: Mapping[str, _Tensor], fold: int, seed: int) -> dict[str, _Tensor]:
    """Return the parameters of one head by name, from the tensors of a run, `<fold>/<seed>/<parameter>`."""
    prefix = f"{fold}/{seed}/"
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def check_shape(where: str, value: Any, shape: Shape) -> None:
    """Check a decoded JSON value.

    Raises:
        ValueError: it, or a part of it, is of another type, or a number that is not finite.
    """
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            raise ValueError(f"{where} is no object")
        for key in shape.keys() & value.keys():
            check_shape(f"{where}.{key}" if where else key, value[key], shape[key])
    elif isinstance(shape, tuple):
        if value is None:
            # An interval that cannot be estimated, as of a single speaker.
            return
        if not isinstance(value, list) or len(value) != len(shape):
            raise ValueError(f"{where} is no list of {len(shape)}")
        for one, own in zip(value, shape, strict=True):
            check_shape(where, one, own)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError(f"{where} is no list")
        for one in value:
            check_shape(where, one, shape[0])
    elif not fits(value, shape) or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError(f"{where} is of another type than it should be")


def check_metrics(metrics: Mapping[str, Any]) -> None:
    """Check the row of a run.

    Raises:
        ValueError: as `check_shape`, or it lacks what every table groups runs by.
    """
    check_shape("", metrics, METRICS)
    for name, own in metrics.get("by_corpus", {}).items():
        check_shape(f"by_corpus.{name}", own, METRICS)
    # There are none where speakers are unknown.
    check_shape("recall_ci", metrics.get("recall_ci") or [], [(float, float)])
    _check_annotators(metrics.get("annotators", {}), ratings=bool(metrics.get("dimensions")))
    if missing := [name for name in ("corpus", "encoder", "head", "loss") if name not in metrics]:
        raise ValueError(f"{missing[0]} is missing")


def _check_annotators(found: Any, *, ratings: bool) -> None:
    """Check what is said of annotators: numbers, and all that the line below a table is made of.

    Raises:
        ValueError: as `check_metrics`.
    """
    check_shape("annotators", found, {**dict.fromkeys(found, float), "alpha": float | None})
    needed = () if ratings or not found.get("compared") else _AGREEMENT
    if found and (missing := [name for name in ("utterances", "compared", *needed) if name not in found]):
        raise ValueError(f"annotators.{missing[0]} is missing")


def check_results(results: Any) -> None:
    """Check what an exported folder says of the scores of its heads.

    Raises:
        ValueError: as `check_shape`.
    """
    check_shape("results", results, {**METRICS, "protocol": [str], "confusion": [[float]]})


def check_config(config: Mapping[str, Any]) -> None:
    """Check the configuration of a run, or of a folder that was exported from one.

    Raises:
        ValueError: as `check_shape`, or an encoder that is none.
    """
    check_shape("", config, CONFIG)
    if any(choice.get("temperature", 1.0) <= 0 for choice in config.get("choices", ())):
        raise ValueError("choices.temperature is not above 0")
    own = config.get("store", {})
    for store in (own, *own.get("stores", ()), config.get("test_store", {})):
        for encoder in (store.get("encoder", {}), *store.get("encoders", ())):
            check_encoder("store.encoder", encoder)
        if windows := (store.get("options") or {}).get("max_seconds"):
            check_shape("store.options.max_seconds", windows, {"seconds": float})
            if not windows["seconds"] > 0:
                raise ValueError("store.options.max_seconds is no length")


def check_curves(curves: Mapping[str, Any]) -> None:
    """Check how heads learned.

    Raises:
        ValueError: as `check_shape`, or curves of different lengths.
    """
    check_shape("", curves, CURVES)
    for name in ("loss", "dev"):
        if len({len(row) for row in curves.get(name, ())}) > 1:
            raise ValueError(f"{name} holds curves of different lengths")
    if curves.get("dev") and "score" not in curves:
        raise ValueError("score is missing")


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Name a run whose parts are each well-formed, but do not fit together.

    Raises:
        RunError: instead of what building heads and encoders from them raises.
    """
    try:
        yield
    except EmbedkitError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        if lacks_memory(error):
            raise
        said = str(error).splitlines()[:1]
        raise RunError(
            f"What {folder} says of its encoder and its heads does not fit together ({type(error).__name__}: "
            f"{''.join(said)[:200]}); make it again."
        ) from error
