"""The commands that lead to the runs of a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from embedkit.encoders import ENCODERS
from embedkit.errors import EmbedkitError
from embedkit.options.evaluate import EvaluateOptions
from embedkit.options.fit import FitOptions
from embedkit.options.option import declared
from embedkit.reporting.figures.panels import is_cached
from embedkit.store.reader import open_store
from embedkit.training.identity import read_options_of
from embedkit.training.runs import NOT_SAID

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

Config: TypeAlias = Mapping[str, Any]

_OF_A_RUN = ("loss", "loss_options", "loss_spec", "search", "choices", "layer", "versions")
"""What may differ between runs of one command."""


def list_commands(records: Sequence[RunRecord], runs: str) -> list[str]:
    """Write the commands that extract the stores, train the runs, and show them, in order."""
    stores: dict[str, Config] = {}
    together: dict[str, list[RunRecord]] = {}
    for record in records:
        config = record.config
        for name in ("store", "test_store", "noise_store") if is_cached(record) else ():
            stores |= _list_stores(config[name]) if name in config else {}
        key = {name: value for name, value in config.items() if name not in _OF_A_RUN}
        together.setdefault(json.dumps([key, "layer" in config], sort_keys=True, default=str), []).append(record)
    # Encoders that are trained come first, for stores may be theirs.
    commands = [_fit(group, runs) for group in together.values() if not is_cached(group[0])]
    commands += [_extract(path, told) for path, told in stores.items()]
    commands += [_fit(group, runs) for group in together.values() if is_cached(group[0])]
    return [*commands, _join(["embedkit", "table", runs]), _join(["embedkit", "report", runs, "--out", "report.html"])]


def _list_stores(told: Config) -> dict[str, Config]:
    """Return the store, or those of all corpora, or of all folds where each has an encoder of its own."""
    if "stores" in told:
        return {path: own for part in told["stores"] for path, own in _list_stores(part).items()}
    path = Path(told["path"])
    if "encoders" not in told:
        return {str(path): told}
    stem, _, seed = path.stem.rpartition("-seed-")
    folds = [str(one["name"]).rpartition("fold-")[2].partition("-")[0] for one in told["encoders"]]
    return {
        str(path.with_name(f"{stem}-fold-{fold}-seed-{seed}.h5")): {**told, "encoder": encoder}
        for fold, encoder in zip(folds, told["encoders"], strict=True)
    }


def _extract(path: str, told: Config) -> str:
    options = told["options"]
    corpus = "CORPUS"
    selection: Config = {}
    with suppress(EmbedkitError):
        store = open_store(path)
        root = store.corpus_info.get("root")
        corpus = _name_corpus(store.corpus, Path(root)) if root else corpus
        selection = store.extraction.get("selection") or {}
    windows = options.get("max_seconds") or {}
    words: list[Any] = ["embedkit", "extract", corpus, *_choose_encoder(told["encoder"])]
    words += ["--level", "both" if "frame" in options.get("levels", ()) else "utterance"]
    words += ["--frame-dtype", options["frame_dtype"]] if options.get("frame_dtype") else []
    words += ["--rescale"] if options.get("rescale") else []
    noise = options.get("noise") or {}
    words += ["--noise-snr", noise["snr"]] if noise else []
    words += ["--noise", "FOLDER"] if noise.get("recordings") else []
    words += ["--max-seconds", windows["seconds"]] if windows else []
    for condition in selection.get("where") or ():
        words += ["--where", condition]
    words += ["--limit", selection["limit"]] if selection.get("limit") else []
    return _join([*words, "--out", path])


def _name_corpus(name: str, root: Path) -> str:
    """Write a corpus as commands take it: a manifest by its file, for the folder may hold others."""
    manifests = (root / f"{name}{suffix}" for suffix in (".csv", ".tsv"))
    return "demo" if name == "demo" else str(next((file for file in manifests if file.is_file()), root))


def _choose_encoder(encoder: Config) -> list[Any]:
    networks = [one for one in encoder.get("parts") or [encoder] if one.get("weights_digest") is not None]
    words: list[Any] = ["--encoder", _name_encoder(encoder)]
    if networks:
        words += ["--layers", ",".join(map(str, encoder["layers"])), "--precision", networks[0]["precision"]]
    windows = [one["window"] for one in networks if isinstance(one.get("window"), int | float)]
    return words + (["--window", windows[0]] if windows else [])


def _name_encoder(encoder: Config) -> str:
    """Write an encoder so that it is found from any folder."""
    if encoder.get("parts"):
        return "+".join(map(_name_encoder, encoder["parts"]))
    name, source = str(encoder["name"]), str(encoder.get("source") or "")
    return source if name not in ENCODERS and Path(source).is_absolute() else name


def _fit(group: Sequence[RunRecord], runs: str) -> str:
    """Write the options of a run that are not the defaults; what depends on the mode is always written."""
    config = group[0].config
    store = config["store"]
    if group[0].is_zero_shot:
        return _evaluate(config, runs)
    options = read_options_of(config)
    options["loss"] = tuple(dict.fromkeys(record.config["loss_spec"] for record in group))
    options["save_encoder"] = any((record.folder / "encoders").is_dir() for record in group)
    if is_cached(group[0]):
        words: list[Any] = ["embedkit", "fit", *_list_stores(store)]
    else:
        corpus = _name_corpus(config["corpus"], Path(store["path"]).parent)
        words = ["embedkit", "fit", corpus, *_choose_encoder(store["encoder"])]
    if "test_store" in config:
        options.pop("folds", None)
    known = declared(FitOptions)
    for name in known:
        used = config["mode"] in (known[name].told.modes or (config["mode"],))
        words += known[name].write(options[name]) if name in options and used else []
    return _join([*words, "--runs", runs])


def _evaluate(config: Config, runs: str) -> str:
    """Write the options of a run of a published classifier."""
    words: list[Any] = ["embedkit", "evaluate", _name_corpus(config["corpus"], Path(config["store"]["path"]).parent)]
    for one in declared(EvaluateOptions).values():
        value = config.get(one.told.record or "")
        if value not in (None, NOT_SAID, [], {}):
            words += one.write(tuple(value) if isinstance(value, list) else value)
    return _join([*words, "--runs", runs])


def _join(words: Sequence[Any]) -> str:
    texts = [f"{word:g}" if isinstance(word, float) else str(word) for word in words]
    return shlex.join(texts)
