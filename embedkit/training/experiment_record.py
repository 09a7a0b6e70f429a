"""What is written of an experiment: the configuration that names its run, and the run with its results."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedkit.encoders.run_encoders import FOLDER, is_whole_encoder, tuned_folder
from embedkit.errors import FitError, RunError
from embedkit.system import avoid_reserved
from embedkit.training.cross_validation import FoldResult
from embedkit.training.data.folds import DEALT, describe_folds
from embedkit.training.data.recordings import digest_recordings, share_recordings
from embedkit.training.experiment import Experiment
from embedkit.training.identity import record_options
from embedkit.training.monitor import shown_name
from embedkit.training.results import (
    describe_choices,
    head_tensors,
    learning_curves,
    prediction_rows,
    summarise,
    summarise_corpora,
)
from embedkit.training.runs import RUN_FORMAT_VERSION, UNFINISHED, RunRecord, digest_of, read_run, write_run
from embedkit.training.search import describe_search, tell_edges
from embedkit.training.stacks.cache import ResultCache

ALGORITHM, DEALT_ALGORITHM = 1, 2
"""Raised when training changes in a way that changes results, so that old runs are not taken for new ones; here for
runs with more groups than folds, which were dealt by their sorted names before."""


def run_variant(experiment: Experiment) -> dict[str, Any]:
    """Return what sets the run apart: a layer, fewer speakers, dimensions, test data that is seen, other corpora."""
    data, options, begun = experiment.data, experiment.options, experiment.begun
    found: dict[str, Any] = {} if experiment.layer is None else {"layer": experiment.layer}
    if len(data.store.names) > 1:
        found |= {"pooled": list(data.store.names)}
    if data.share < 1:
        found |= {"train_share": data.share}
    if data.plan.dealt:
        found |= {"dealt": DEALT}
    if data.task.dimensions:
        found |= {"dimensions": list(data.task.dimensions)}
    if options.tuned:
        changes = [one.describe() for one in experiment.augmentations]
        found |= {"tuning": record_options(options)["tuning"] | {"augment": changes}}
    if options.normalise != "none":
        found |= {"normalise": options.normalise, "transductive": True}
    if data.by_corpus:
        found |= {"standardise_by": "corpus"} | ({"transductive": True} if data.untrained else {})
    if begun is not None:
        found |= {"init_head": dict(begun.kept)}
    if experiment.leak:
        found |= {"leak": True}
    if data.other is not None:
        found |= {"test_corpus": data.other_name, "test_merge": dict(data.parts[1].merge)}
    return found


def run_config(experiment: Experiment) -> dict[str, Any]:
    """Return everything that determines the run."""
    data, loss = experiment.data, experiment.loss
    return {
        "format": "embedkit-run",
        "format_version": RUN_FORMAT_VERSION,
        "algorithm": DEALT_ALGORITHM if data.plan.dealt or data.plan.dealt_inside else ALGORITHM,
        "corpus": data.store.corpus,
        "encoder": data.store.path.stem,
        "head": experiment.head_name,
        "head_options": experiment.head_options,
        "loss": loss.name,
        "loss_options": dataclasses.asdict(loss.options),
        "mode": experiment.options.mode,
        "folds": describe_folds(data.plan),
        "classes": list(data.task.classes),
        "merge": dict(data.task.merge),
        "where": list(data.task.where),
        "seeds": list(experiment.options.seed_numbers),
        "store_fingerprint": data.store.fingerprint,
        **record_options(experiment.options),
        **run_variant(experiment),
    }


def data_config(experiment: Experiment) -> dict[str, Any]:
    """Return where the data lies that the run was trained on, changed by, and tested on where that is another store."""
    data = experiment.data
    own: dict[str, Any] = {"store": data.store.describe(data.plan), "recordings": data.sketch}
    if experiment.options.tuned:
        own["augment"] = [one.spec for one in experiment.augmentations]
    return own if data.other is None else {**own, "test_store": data.other.describe(data.plan)}


def run_folder(experiment: Experiment) -> Path:
    """Return where the run lies, or will."""
    config = run_config(experiment)
    name = f"{_safe(experiment.loss.name)}-{digest_of(config)}"
    return experiment.options.runs / _safe(config["corpus"]) / _safe(config["encoder"]) / _safe(config["head"]) / name


def run_cache(experiment: Experiment) -> ResultCache:
    """Return where finished heads, their encoders and checkpoints lie until the run is written."""
    known = digest_of([run_config(experiment), experiment.data.digests])
    return ResultCache(experiment.options.runs / UNFINISHED / known, {}, experiment.processes)


def unique_name(experiment: Experiment) -> str:
    """Return its name, and what the folder of its run ends with: runs may differ in options that a name leaves out."""
    return f"{experiment} ({digest_of(run_config(experiment))})"


def _safe(name: str) -> str:
    """Make one harmless path component of a name."""
    kept = "".join(letter if letter.isalnum() or letter in "-_+.@" else "-" for letter in name)
    return avoid_reserved(kept.strip(".")) or "unnamed"


def write_experiment(experiment: Experiment, results: Sequence[FoldResult]) -> RunRecord:
    """Write a run, by the first process where several have trained it."""
    if experiment.processes.rank == 0:
        _write(experiment, results)
    experiment.processes.wait()
    return read_run(run_folder(experiment))


def _write(experiment: Experiment, results: Sequence[FoldResult]) -> None:
    data, seeds = experiment.data, experiment.options.seed_numbers
    chosen = [choice.candidate for result in results for choice in result.choices]
    search = describe_search(experiment.grid, chosen, chosen_on=data.plan.selection)
    at_edges = [own for result in results for own in result.edges]
    edges = tell_edges(at_edges, experiment.head_name, shown_name(data.task.score_name))
    search |= {"edges": edges} if edges else {}
    scores = summarise(data.task, results)
    if len(data.store.names) > 1 and data.other is None:
        told = summarise_corpora(data.task, results, data.corpora)
        scores["by_corpus"] = {name: {**own, **_tell_seen(experiment, name)} for name, own in told.items()}
    metrics = {**_metrics(experiment, scores), "search": search}
    config = {
        **run_config(experiment),
        **data_config(experiment),
        "search": search,
        "choices": describe_choices(results, experiment.grid, seeds, data.task.score_name),
        "loss_spec": experiment.loss.spec,
        "head_spec": experiment.head,
        "versions": versions(),
    }
    write_run(
        run_folder(experiment),
        config=config,
        metrics=metrics,
        predictions=prediction_rows(data.task, results, seeds),
        heads=head_tensors(results, seeds),
        curves=learning_curves(results, seeds, data.task.score_name),
        folders={FOLDER: run_cache(experiment).folder / FOLDER} if experiment.options.save_encoder else None,
    )


def find_known_run(experiment: Experiment) -> RunRecord | None:
    """Return the run that is there if it was trained on exactly this data."""
    try:
        record = read_run(run_folder(experiment))
    except RunError:
        return None
    _require_same_corpus(experiment, record)
    known = {name: record.config.get(name, {}).get("digest") for name in experiment.data.digests}
    return record if known == experiment.data.digests and record.is_whole and _has_encoders(experiment) else None


def _has_encoders(experiment: Experiment) -> bool:
    """Tell whether the run keeps the encoders it shall keep, of every fold and seed."""
    options, folds = experiment.options, range(len(experiment.data.plan.folds))
    return not options.save_encoder or all(
        is_whole_encoder(tuned_folder(run_folder(experiment), number, seed))
        for number in folds
        for seed in options.seed_numbers
    )


def _require_same_corpus(experiment: Experiment, record: RunRecord) -> None:
    """Refuse to replace a run on another corpus of the same name.

    Raises:
        FitError: that.
    """
    if not share_recordings(experiment.data.sketch, str(record.config.get("recordings") or "")):
        raise FitError(
            f"{record.folder} holds a run on another corpus that is called {experiment.data.store.corpus}, too; keep "
            "the runs apart with --runs, or give one corpus another name with --corpus-name when it is extracted."
        )


def _metrics(experiment: Experiment, scores: Mapping[str, Any]) -> dict[str, Any]:
    data = experiment.data
    task = [
        *(f"{old} counted as {new}" for old, new in data.task.merge.items()),
        *data.task.where,
        *data.left_out,
    ]
    if data.other is not None:
        task += [f"{old} counted as {new} in {data.other.corpus}" for old, new in data.parts[1].merge.items()]
    return {
        "corpus": data.store.corpus,
        "encoder": data.store.path.stem,
        "head": experiment.head_name,
        "loss": experiment.loss.name,
        "mode": experiment.options.mode,
        "folds": data.plan.kind,
        **scores,
        "head_options": experiment.head_options,
        "loss_options": dataclasses.asdict(experiment.loss.options),
        "selection": data.plan.selection,
        "precision": data.store.encoder.get("precision", "fp32"),
        "speaker_dependent": data.plan.speaker_dependent,
        "train_speakers": data.train_speakers,
        "budget": run_config(experiment)["budget"],
        "standardised": _tell_standardised(experiment),
        "loss_spec": experiment.loss.spec,
        "head_spec": experiment.head,
        **({"fitted": True} if experiment.fitted else {}),
        "demo": any("demo" in store.names for store in data.stores),
        "task": ", ".join(task),
        **({"where": list(data.task.where)} if data.task.where else {}),
        "store_fingerprint": data.store.fingerprint,
        "recordings": digest_recordings(data.recordings),
        **_tell_copied(experiment, data.other_name),
        **run_variant(experiment),
    }


def _tell_seen(experiment: Experiment, corpus: str) -> dict[str, Any]:
    """Say what of a pooled corpus was trained on where it is tested."""
    found = {"untrained": corpus in experiment.data.untrained, "leak": corpus in experiment.data.leaked}
    return found | _tell_copied(experiment, corpus)


def _tell_copied(experiment: Experiment, corpus: str) -> dict[str, Any]:
    """Say of a corpus that another one had recordings of it, which were dropped."""
    return {"copied": True} if corpus in experiment.data.copied else {}


def _tell_standardised(experiment: Experiment) -> str:
    if experiment.begun is not None:
        return "not, as the published head reads embeddings"
    data, told = experiment.data, "over frames" if experiment.level == "frame" else "over utterance means"
    if not data.by_corpus:
        return told
    alone = f", {', '.join(sorted(data.untrained))} by all of its own utterances where it is tested alone"
    return f"{told}, each corpus by its own part of the training set{alone if data.untrained else ''}"


def versions() -> dict[str, str]:
    """Return the versions that runs keep."""
    import embedkit

    return {"embedkit": embedkit.__version__, "torch": torch.__version__, "numpy": np.__version__}
