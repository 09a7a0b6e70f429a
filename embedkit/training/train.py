"""Train the experiments of a study: those that can share their mini-batches together, under one progress bar."""

from __future__ import annotations

import dataclasses
import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from embedkit.errors import FitError, lacks_memory
from embedkit.imports import looks_like_target
from embedkit.progress import Progress, Tell, show_progress
from embedkit.training.cross_validation import FoldResult, repeat_seeds, test_again, train_losses
from embedkit.training.data.features import Features, UtteranceFeatures
from embedkit.training.data.folds import FoldPlan
from embedkit.training.data.store_source import spread_folds
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import find_known_run, run_cache, run_config, unique_name, write_experiment
from embedkit.training.fine_tuning import tune_loss
from embedkit.training.layer_probing import LayerFeatures, join_plans, split_results
from embedkit.training.live.features import LiveFeatures
from embedkit.training.monitor import TrainingMonitor, tell_score
from embedkit.training.runs import UNFINISHED, RunRecord, digest_of, require_writable
from embedkit.training.saved_encoders import EncoderFolders
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.tracking import Trackers
from embedkit.wording import count_noun
from embedkit.writing import working_in

Announce: TypeAlias = Callable[..., None]
"""Called with an experiment, its run and a note on it."""

_logger = logging.getLogger("embedkit")

ABANDONED_SECONDS = 30 * 24 * 3600
"""After which what was begun, and never gone on with, is removed."""


def fit_experiments(
    experiments: Sequence[Experiment], threads: int, *, overwrite: bool, progress: Progress | bool | None, tell: Tell
) -> list[RunRecord]:
    """Train every experiment that is not there already; one record each, in order."""
    for folder in {experiment.options.runs for experiment in experiments}:
        require_writable(folder)
    known = {id(experiment): None if overwrite else find_known_run(experiment) for experiment in experiments}
    rows = [
        (row, [experiment for experiment in row if known[id(experiment)] is None]) for row in plan_rows(experiments)
    ]
    todo = [_Row.plan(row, missing) for row, missing in rows if missing]
    for done in (row for row, missing in rows if not missing):
        # A fit that was stopped right after its last run had no time for it.
        if (cache := _cache(done)) is not None:
            cache.clear()
    for runs in {experiment.options.runs for experiment in experiments if experiment.processes.rank == 0}:
        _forget_abandoned(runs / UNFINISHED)
    heads = sum(experiment.count_heads() for row in todo for experiment in distinct_trainings(row.trained))
    monitor = TrainingMonitor(heads, max((experiment.options.epochs or 1 for experiment in experiments), default=1))
    trained: dict[int, RunRecord] = {}
    with (
        _mark_work({experiment.options.runs for experiment in experiments if experiment.processes.rank == 0}),
        _tracked(experiments) as trackers,
        tell_in_order(experiments, tell) as announce,
        show_progress(progress, "fit", note=monitor.note) as monitor.report,
    ):
        for experiment in experiments:
            if (record := known[id(experiment)]) is not None:
                announce(experiment, record, "fitted before")
        if trackers.own and (before := sum(record is not None for record in known.values())):
            tell(f"--track follows what is trained now; {count_noun(before, 'run')} fitted before it does not show.")
        for row in todo:
            monitor.start(_name_row(row.trained), row.trained[0].data.task.score_name)
            monitor.track = _track_row(row, trackers)
            trained |= _fit_row(row, threads, monitor, announce)
            for experiment in row.missing:
                trackers.finish(unique_name(experiment), trained[id(experiment)])
    return [known[id(experiment)] or trained[id(experiment)] for experiment in experiments]


@contextmanager
def _mark_work(folders: Iterable[Path]) -> Iterator[None]:
    """Have `embedkit runs clean` leave alone what is not finished while it may still be."""
    with ExitStack() as stack:
        for folder in folders:
            stack.enter_context(working_in(folder / UNFINISHED))
        yield


@contextmanager
def _tracked(experiments: Sequence[Experiment]) -> Iterator[Trackers]:
    """Build the trackers that the first process tells of everything."""
    first = next((one for one in experiments if one.processes.rank == 0), None)
    trackers = Trackers(() if first is None else first.options.track, Path() if first is None else first.options.runs)
    try:
        yield trackers
    finally:
        trackers.tell("close")


def _track_row(row: _Row, trackers: Trackers) -> Callable[[str, float, int], None] | None:
    """Tell trackers of the experiments that begin; return what takes their scores. Layers share theirs."""
    if not trackers.own:
        return None
    for experiment in row.missing:
        trackers.tell("start", unique_name(experiment), run_config(experiment))

    def track(loss: str, score: float, step: int) -> None:
        for experiment in row.missing:
            if experiment.loss.spec == loss:
                scores = {f"so far/development {experiment.data.task.score_name}": score}
                trackers.tell("log", unique_name(experiment), scores, step)

    return track


@contextmanager
def tell_in_order(experiments: Sequence[Experiment], tell: Tell) -> Iterator[Announce]:
    """Have one line said of each experiment, in their order as soon as it allows; after them where to search further.

    Where training ends early, what was held back is said then.
    """
    lines: dict[int, str] = {}
    said: set[int] = set()
    edges: list[str] = []

    def say(waiting: Iterable[int]) -> None:
        for key in waiting:
            tell(lines[key])
            said.add(key)

    def announce(experiment: Experiment, record: RunRecord, note: str = "") -> None:
        score = tell_score(experiment.data.task.score_name, record.metrics)
        lines[id(experiment)] = ", ".join(filter(None, [f"{experiment}: {score}", note]))
        if not note:
            edges.extend(f"{experiment}: {sentence}" for sentence in record.metrics["search"].get("edges", ()))
        say(takewhile(lines.__contains__, (key for key in map(id, experiments) if key not in said)))

    try:
        yield announce
    finally:
        say([key for key in map(id, experiments) if key in lines and key not in said])
        for sentence in edges:
            tell(sentence)


def _forget_abandoned(folder: Path) -> None:
    """Remove what nobody has gone on with for a month."""
    for path in folder.glob("*"):
        with suppress(OSError):
            if time.time() - max(part.stat().st_mtime for part in [path, *path.rglob("*")]) > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def plan_rows(experiments: Sequence[Experiment]) -> list[list[Experiment]]:
    """Put the experiments together that differ in loss, layer or share of speakers alone and gain by sharing stacks.

    Heads on frames take so long that each loss is finished, and kept, before the next one starts. What differs in the
    corpus that is tested is trained once.
    """

    def shared(place: int) -> Any:
        experiment, data = experiments[place], experiments[place].data
        if experiment.options.tuned:
            return place
        if experiment.level == "frame":
            return id(data.store), experiment.head, experiment.loss.spec, experiment.layer, data.share
        apart = data.other is not None or data.folds_apart or data.by_corpus
        layer = experiment.layer if apart else experiment.layer is None
        return id(data.store), experiment.head, layer, experiment.loss.ratings

    # Cells are listed layer by layer and then head by head: those of a head are brought together.
    keys = [shared(place) for place in range(len(experiments))]
    return [
        [experiment for experiment, other in zip(experiments, keys, strict=True) if other == key]
        for key in dict.fromkeys(keys)
    ]


def distinct_trainings(experiments: Sequence[Experiment]) -> list[Experiment]:
    """Return the experiments less those whose heads another one before them trains."""
    return list({_training_key(one): one for one in reversed(experiments)}.values())[::-1]


def _training_key(experiment: Experiment) -> tuple[Any, ...]:
    own = experiment.layer, experiment.data.share, experiment.data.training
    if experiment.data.training is None:
        return id(experiment), *own
    return id(experiment.data.store), experiment.head, experiment.loss.spec, *own


@dataclass(frozen=True)
class _Row:
    """Cells trained together, those of them whose runs are missing, and where finished stacks are kept."""

    trained: Sequence[Experiment]
    missing: Sequence[Experiment]
    cache: ResultCache | None

    @classmethod
    def plan(cls, row: Sequence[Experiment], missing: Sequence[Experiment]) -> _Row:
        """Stopped between two of its runs, a row goes on with the stacks it had: all that it needs of them is kept."""
        cache = _cache(row)
        return cls(row if cache is not None and cache.folder.exists() else missing, missing, cache)


def _name_row(row: Sequence[Experiment]) -> str:
    return row[0].name_with(sorted({experiment.layer for experiment in row if experiment.layer is not None}))


def _fit_row(row: _Row, threads: int, monitor: TrainingMonitor, announce: Announce) -> dict[int, RunRecord]:
    started = time.perf_counter()
    train = _tune if row.trained[0].options.tuned else _train
    with _room_told(row.trained[0]):
        results = train(row, threads, monitor)
    row.trained[0].release()
    records = {}
    for experiment in row.missing:
        records[id(experiment)] = record = write_experiment(experiment, results[id(experiment)])
        announce(experiment, record)
    if row.cache is not None:
        row.cache.clear()
    heads = sum(experiment.count_heads() for experiment in distinct_trainings(row.missing))
    _logger.debug("%s: %d heads in %.0f s", _name_row(row.missing), heads, time.perf_counter() - started)
    return records


@contextmanager
def _room_told(experiment: Experiment) -> Iterator[None]:
    """Say which options need less memory where there is too little of it; what was finished is kept."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        lower = "give a smaller --batch-size"
        if experiment.options.tuned:
            lower = "pass mini-batches in more parts with --accumulate, add --recompute, or take a smaller --batch-size"
        elif experiment.options.mode == "frozen":
            lower += ", fewer --layers, or --precision bf16"
        raise FitError(
            f"{experiment} does not fit into the memory of {experiment.device}; {lower}: what was finished is kept, "
            "and the same command continues."
        ) from error


def _train(row: _Row, threads: int, monitor: TrainingMonitor) -> dict[int, list[FoldResult]]:
    """Train experiments together that differ in their loss, their layer, or their share of the training speakers.

    Heads that are tested on several corpora are tested on the first one's, and then on those of the others.
    """
    experiments = row.trained
    first = experiments[0]
    plans = {_name_plan(experiment): _test_on(experiment, first) for experiment in experiments}
    # Losses on classes read the same of targets that hold shares of annotators as well.
    targets = next((one for one in experiments if one.loss.soft), first).data.targets
    places = [0] * len(plans)
    joined = list(plans.values())
    features: Features
    if len({layer for layer, *_ in plans}) == 1:
        features = first.features
        if first.data.folds_apart:
            joined = [spread_folds(plan, len(first.data)) for plan in joined]
            targets = np.concatenate([targets] * len(first.data.plan.folds))
    else:
        whole = first.load(layer=None)
        assert isinstance(whole, UtteranceFeatures)
        places = [first.data.store.layers.index(layer) for layer, *_ in plans if layer is not None]
        features, targets = LayerFeatures(whole), np.concatenate([targets] * whole.layers)
    seeds = first.options.seed_numbers
    found = train_losses(
        features,
        targets,
        join_plans(joined, places, len(first.data)),
        first.training_config,
        list({experiment.loss.spec: experiment.loss for experiment in experiments}.values()),
        grid=first.grid,
        seeds=seeds[:1] if first.fitted else seeds,
        threads=threads,
        on_stack=monitor.on_stack,
        on_epoch=monitor.on_epoch,
        cache=row.cache,
    )
    if first.fitted:
        found = {loss: repeat_seeds(results, len(seeds)) for loss, results in found.items()}
    split = {
        loss: dict(zip(plans, split_results(results, list(plans.values())), strict=True))
        for loss, results in found.items()
    }
    results = {id(experiment): split[experiment.loss.spec][_name_plan(experiment)] for experiment in experiments}
    first.release()
    for other in dict.fromkeys(one.data.other for one in experiments if one.data.other is not first.data.other):
        own = [one for one in experiments if one.data.other is other]
        features = own[0].load(own[0].layer)
        results |= {
            id(one): [
                test_again(features, result, fold, one.loss, one.grid, one.training_config)
                for result, fold in zip(results[id(one)], one.data.plan.folds, strict=True)
            ]
            for one in own
        }
    return results


def _name_plan(experiment: Experiment) -> tuple[int | None, float, str | None]:
    return experiment.layer, experiment.data.share, experiment.data.training


def _test_on(experiment: Experiment, first: Experiment) -> FoldPlan:
    """Return an experiment's plan with the test set of the first one where it tests another corpus."""
    plan = experiment.data.plan
    if experiment.data.other is first.data.other:
        return plan
    folds = zip(plan.folds, first.data.plan.folds, strict=True)
    return dataclasses.replace(
        plan, folds=tuple(dataclasses.replace(fold, name=one.name, test=one.test) for fold, one in folds)
    )


def _tune(row: _Row, threads: int, monitor: TrainingMonitor) -> dict[int, list[FoldResult]]:
    """Train the heads of one experiment, each with an encoder of its own."""
    (experiment,) = row.trained
    features = experiment.features
    assert isinstance(features, LiveFeatures)
    tuner = experiment.data.store.fine_tuner(experiment.options)
    encoders = EncoderFolders(experiment, tuner) if experiment.options.save_encoder else None
    results = tune_loss(
        features,
        experiment.data.targets,
        experiment.data.plan,
        experiment.training_config,
        experiment.loss,
        grid=experiment.grid,
        seeds=experiment.options.seed_numbers,
        tuner=tuner,
        cache=run_cache(experiment),
        on_stack=monitor.on_stack,
        on_epoch=monitor.on_epoch,
        save_encoder=None if encoders is None else encoders.save,
    )
    return {id(experiment): results}


def _cache(row: Sequence[Experiment]) -> ResultCache | None:
    """Return where finished stacks are kept; nowhere for a user's own code, which may change until it goes on."""
    experiment = row[0]
    if experiment.options.tuned:
        return run_cache(experiment)
    if any(looks_like_target(name) for own in row for name in (own.head_name, own.loss.name)):
        return None
    task = {
        name: value for name, value in run_config(experiment).items() if not name.startswith("loss")
    } | experiment.data.digests
    own = experiment.loss.spec if experiment.level == "frame" else list(experiment.loss.ratings) or None
    return ResultCache(experiment.options.runs / UNFINISHED / digest_of([task, own]), task, experiment.processes)
