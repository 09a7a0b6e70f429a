"""The commands that lead to the runs of a report."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from embedkit.errors import EmbedkitError
from embedkit.store.reader import open_store

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord

_OF_A_RUN = ("loss", "loss_options", "loss_spec", "search", "choices", "layer", "versions")
"""What may differ between runs of one command."""


def list_commands(records: Sequence[RunRecord], runs: str) -> list[str]:
    """Write the commands that extract the stores, train the runs, and show them, in order.

    Runs that run or train the encoder as well are not told as commands: see `tell_others`.
    """
    cached = [record for record in records if _is_cached(record)]
    stores: dict[str, Mapping[str, Any]] = {}
    together: dict[str, list[Mapping[str, Any]]] = {}
    for record in cached:
        config = record.config
        for name in ("store", "test_store"):
            if name in config:
                stores.setdefault(str(config[name]["path"]), config[name])
        key = {name: value for name, value in config.items() if name not in _OF_A_RUN}
        together.setdefault(json.dumps([key, "layer" in config], sort_keys=True, default=str), []).append(config)
    commands = [_extract(path, told) for path, told in stores.items()]
    commands += [_fit(configs, runs) for configs in together.values()]
    return [*commands, _join(["embedkit", "table", runs]), _join(["embedkit", "report", runs, "--out", "report.html"])]


def tell_others(records: Sequence[RunRecord]) -> str:
    """Say which runs have no command here; nothing where all have one."""
    modes = dict.fromkeys(str(record.config["mode"]) for record in records if not _is_cached(record))
    if not modes:
        return ""
    return (
        f"Runs of --mode {' and '.join(modes)} start from a corpus instead of a store; every setting of each lies in "
        "the config.json of its folder."
    )


def _is_cached(record: RunRecord) -> bool:
    return str(record.config.get("mode", "cached")) == "cached"


def _extract(path: str, told: Mapping[str, Any]) -> str:
    encoder, options = told["encoder"], told["options"]
    corpus = "CORPUS"
    selection: Mapping[str, Any] = {}
    with suppress(EmbedkitError):
        store = open_store(path)
        corpus = "demo" if store.corpus == "demo" else str(store.corpus_info.get("root") or "CORPUS")
        selection = store.extraction.get("selection") or {}
    network = encoder.get("weights_digest") is not None
    windows = options.get("max_seconds") or {}
    words: list[Any] = ["embedkit", "extract", corpus, "--encoder", encoder["name"]]
    words += ["--layers", ",".join(map(str, encoder["layers"]))] if network else []
    words += ["--level", "both" if "frame" in options.get("levels", ()) else "utterance"]
    words += ["--frame-dtype", options["frame_dtype"]] if options.get("frame_dtype") else []
    words += ["--precision", encoder["precision"]] if network else []
    words += ["--window", encoder["window"]] if network and isinstance(encoder.get("window"), int | float) else []
    words += ["--max-seconds", windows["seconds"]] if windows else []
    for condition in selection.get("where") or ():
        words += ["--where", condition]
    words += ["--limit", selection["limit"]] if selection.get("limit") else []
    return _join([*words, "--out", path])


def _fit(configs: Sequence[Mapping[str, Any]], runs: str) -> str:
    config = configs[0]
    budget = config["budget"]
    words: list[Any] = ["embedkit", "fit", config["store"]["path"], "--head", config["head_spec"]]
    for loss in dict.fromkeys(one["loss_spec"] for one in configs):
        words += ["--loss", loss]
    words += ["--layers", "each"] if "layer" in config else []
    words += ["--normalise", config["normalise"]] if config.get("normalise") else []
    if "test_store" in config:
        words += ["--test-on", config["test_store"]["path"]]
        words += _pairs("--test-merge", config.get("test_merge") or {})
    else:
        words += ["--folds", config["folds"]["kind"]]
    words += ["--targets", ",".join(config["dimensions"])] if config.get("dimensions") else []
    words += ["--classes", ",".join(config["classes"])] if config.get("classes") else []
    words += _pairs("--merge", config.get("merge") or {})
    for condition in config.get("where") or ():
        words += ["--where", condition]
    words += ["--seeds", len(config["seeds"]), "--epochs", budget["epochs"], "--batch-size", budget["batch_size"]]
    words += ["--lr", ",".join(f"{rate:g}" for rate in budget["learning_rates"])]
    decays = budget.get("weight_decays") or [0.0]
    words += ["--weight-decay", ",".join(f"{decay:g}" for decay in decays)] if decays != [0.0] else []
    for name in ("patience", "clip"):
        words += [f"--{name}", budget[name]] if budget.get(name) is not None else []
    return _join([*words, "--runs", runs])


def _pairs(option: str, merge: Mapping[str, str]) -> list[str]:
    return [word for old, new in merge.items() for word in (option, f"{old}={new}")]


def _join(words: Sequence[Any]) -> str:
    texts = [f"{word:g}" if isinstance(word, float) else str(word) for word in words]
    return shlex.join(texts)
