"""Train the cells of a study: those that can share their mini-batches together, under one progress bar."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedkit.errors import FitError, RunError, lacks_memory
from embedkit.registry import looks_like_target
from embedkit.training.cached import FoldResult, train_losses
from embedkit.training.end_to_end import tune_loss
from embedkit.training.features import Features, UtteranceFeatures
from embedkit.training.journal import Journal
from embedkit.training.layerwise import LayerFeatures, plan_layers, split_layers
from embedkit.training.live import LiveFeatures
from embedkit.training.per_fold import PerFoldStores, gather_folds, spread_folds
from embedkit.training.results import describe_choices, head_tensors, learning_curves, prediction_rows, summarise
from embedkit.training.runs import RunRecord, digest_of, read_run, write_run
from embedkit.training.search import describe_search
from embedkit.workflows.cell import UNFINISHED, Cell
from embedkit.workflows.encoder_folders import FOLDER, EncoderFolders
from embedkit.workflows.progress import Progress, show_progress
from embedkit.workflows.speech import Speech
from embedkit.workflows.watch import Watch, in_unit

Tell = Callable[[str], None]

ABANDONED_SECONDS = 30 * 24 * 3600
"""After which what was begun, and never gone on with, is removed."""


def fit_cells(
    cells: Sequence[Cell], threads: int, *, overwrite: bool, progress: Progress | bool | None, tell: Tell
) -> list[RunRecord]:
    """Train every cell that is not there already; one record each, in order."""
    known = {id(cell): None if overwrite else find_known_run(cell) for cell in cells}
    for cell in cells:
        if (record := known[id(cell)]) is not None:
            tell(f"{cell}: {_tell_score(cell, record.metrics)}, fitted before, nothing changed")
    rows = [(row, [cell for cell in row if known[id(cell)] is None]) for row in plan_rows(cells)]
    todo = [_Row.plan(row, missing) for row, missing in rows if missing]
    for runs in {cell.runs for cell in cells if cell.processes.rank == 0}:
        _forget_abandoned(runs / UNFINISHED)
    heads = sum(cell.count_heads() for row in todo for cell in row.trained)
    watch = Watch(heads, max((cell.settings.epochs for cell in cells), default=1))
    trained: dict[int, RunRecord] = {}
    with show_progress(progress, "fit", note=watch.note) as watch.report:
        for row in todo:
            watch.start(_name_row(row.trained), row.trained[0].data.score_name)
            trained |= _fit_row(row, threads, watch, tell)
    return [known[id(cell)] or trained[id(cell)] for cell in cells]


def _forget_abandoned(folder: Path) -> None:
    """Remove what nobody has gone on with for a month."""
    for path in folder.glob("*"):
        with suppress(OSError):
            if time.time() - max(part.stat().st_mtime for part in [path, *path.rglob("*")]) > ABANDONED_SECONDS:
                shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def plan_rows(cells: Sequence[Cell]) -> list[list[Cell]]:
    """Put the cells together that differ in their loss or their layer alone and gain by sharing stacks.

    Heads on frames take so long that each loss is finished, and kept, before the next one starts.
    """

    def shared(place: int) -> Any:
        cell = cells[place]
        if cell.level == "frame" or cell.settings.tuning is not None:
            return place
        apart = cell.other is not None or isinstance(cell.store, PerFoldStores)
        return id(cell.store), cell.head, cell.layer if apart else cell.layer is None

    # Cells are listed layer by layer and then head by head: those of a head are brought together.
    keys = [shared(place) for place in range(len(cells))]
    return [[cell for cell, other in zip(cells, keys, strict=True) if other == key] for key in dict.fromkeys(keys)]


@dataclass(frozen=True)
class _Row:
    """Cells trained together, those of them whose runs are missing, and where finished stacks are kept."""

    trained: Sequence[Cell]
    missing: Sequence[Cell]
    journal: Journal | None

    @classmethod
    def plan(cls, row: Sequence[Cell], missing: Sequence[Cell]) -> _Row:
        """Stopped between two of its runs, a row goes on with the stacks it had: all that it needs of them is kept."""
        journal = _journal(row)
        return cls(row if journal is not None and journal.folder.exists() else missing, missing, journal)


def _name_row(row: Sequence[Cell]) -> str:
    return row[0].name_with(sorted({cell.layer for cell in row if cell.layer is not None}))


def _fit_row(row: _Row, threads: int, watch: Watch, tell: Tell) -> dict[int, RunRecord]:
    started = time.perf_counter()
    train = _train if row.trained[0].settings.tuning is None else _tune
    with _room_told(row.trained[0]):
        results = train(row, threads, watch)
    row.trained[0].release()
    records = {id(cell): _write_once(cell, results[id(cell)], tell) for cell in row.missing}
    if row.journal is not None:
        row.journal.clear()
    heads = sum(cell.count_heads() for cell in row.missing)
    tell(f"{_name_row(row.missing)}: {heads} heads in {time.perf_counter() - started:.0f} s")
    return records


@contextmanager
def _room_told(cell: Cell) -> Iterator[None]:
    """Say which options need less memory where there is too little of it; what was finished is kept."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        lower = "give a smaller --batch-size"
        if cell.settings.tuning is not None:
            lower = "pass mini-batches in more parts with --accumulate, add --recompute, or take a smaller --batch-size"
        elif cell.settings.mode == "frozen":
            lower += ", fewer --layers, or --precision bf16"
        raise FitError(
            f"{cell} does not fit into the memory of {cell.device}; {lower}: what was finished is kept, and the same "
            "command continues."
        ) from error


def _train(row: _Row, threads: int, watch: Watch) -> dict[int, list[FoldResult]]:
    """Train cells that differ in their loss, or in loss and layer, together."""
    cells = row.trained
    first = cells[0]
    targets, plan = first.data.targets, first.plan
    features: Features
    layers = list(dict.fromkeys(cell.layer for cell in cells))
    places = [first.store.layers.index(layer) for layer in layers if layer is not None]
    layered, per_fold = len(layers) > 1, isinstance(first.store, PerFoldStores)
    if not layered:
        features = first.features
        if per_fold:
            plan, targets = spread_folds(plan, len(first.data)), np.concatenate([targets] * len(plan.folds))
    else:
        whole = first.load(layer=None)
        assert isinstance(whole, UtteranceFeatures)
        features, plan = LayerFeatures(whole), plan_layers(plan, len(whole), places)
        targets = np.concatenate([targets] * whole.layers)
    found = train_losses(
        features,
        targets,
        plan,
        first.recipe,
        list(dict.fromkeys(cell.loss for cell in cells)),
        grid=first.grid,
        seeds=first.settings.seed_numbers,
        threads=threads,
        on_stack=watch.on_stack,
        on_epoch=watch.on_epoch,
        journal=row.journal,
    )
    if per_fold:
        return {id(cell): gather_folds(found[cell.loss], first.plan) for cell in cells}
    if not layered:
        return {id(cell): found[cell.loss] for cell in cells}
    split = {loss: split_layers(results, first.plan, places) for loss, results in found.items()}
    return {id(cell): split[cell.loss][first.store.layers.index(cell.layer)] for cell in cells}


def _tune(row: _Row, threads: int, watch: Watch) -> dict[int, list[FoldResult]]:
    """Train the heads of one cell, each with an encoder of its own."""
    (cell,) = row.trained
    features = cell.features
    assert isinstance(features, LiveFeatures)
    assert isinstance(cell.store, Speech)
    assert cell.settings.tuning is not None
    tuner = cell.store.tuner(cell.settings.tuning)
    encoders = EncoderFolders(cell, tuner) if cell.settings.save_encoder else None
    results = tune_loss(
        features,
        cell.data.targets,
        cell.plan,
        cell.recipe,
        cell.loss,
        grid=cell.grid,
        seeds=cell.settings.seed_numbers,
        tuner=tuner,
        work=cell.work,
        on_stack=watch.on_stack,
        on_epoch=watch.on_epoch,
        save_encoder=None if encoders is None else encoders.save,
    )
    return {id(cell): results}


def _journal(row: Sequence[Cell]) -> Journal | None:
    """Return where finished stacks are kept; nowhere for a user's own code, which may change until it goes on."""
    cell = row[0]
    if cell.settings.tuning is not None:
        return None
    if any(looks_like_target(name) for own in row for name in (own.head_name, own.loss_name)):
        return None
    task = {name: value for name, value in cell.config.items() if not name.startswith("loss")} | cell.digests
    folder = cell.runs / UNFINISHED / digest_of([task, cell.loss if cell.level == "frame" else None])
    return Journal(folder, task, cell.processes)


def _write_once(cell: Cell, results: Sequence[FoldResult], tell: Tell) -> RunRecord:
    """Write a run, by the first process where several have trained it."""
    if cell.processes.rank == 0:
        _write(cell, results, tell)
        shutil.rmtree(cell.work, ignore_errors=True)
        with suppress(OSError):
            cell.work.parent.rmdir()
    cell.processes.wait()
    return read_run(cell.folder)


def _write(cell: Cell, results: Sequence[FoldResult], tell: Tell) -> RunRecord:
    seeds = cell.settings.seed_numbers
    chosen = [choice.candidate for result in results for choice in result.choices]
    search = describe_search(cell.grid, chosen, chosen_on=cell.plan.selection)
    metrics = {**_metrics(cell, summarise(cell.data, results)), "search": search}
    config = {
        **cell.config,
        **cell.data_config,
        "search": search,
        "choices": describe_choices(results, cell.grid, seeds, cell.data.score_name),
        "loss_spec": cell.loss,
        "head_spec": cell.head,
        "versions": _versions(),
    }
    record = write_run(
        cell.folder,
        config=config,
        metrics=metrics,
        predictions=prediction_rows(cell.data, results, seeds),
        heads=head_tensors(results, seeds),
        curves=learning_curves(results, seeds, cell.data.score_name),
        folders={FOLDER: cell.work / FOLDER} if cell.settings.save_encoder else None,
    )
    tell(f"{cell}: {_tell_score(cell, metrics)}")
    return record


def _tell_score(cell: Cell, metrics: Mapping[str, Any]) -> str:
    name = cell.data.score_name
    return f"{name} {in_unit(name, metrics[name.lower()])}{' %' if name == 'UA' else ''}"


def find_known_run(cell: Cell) -> RunRecord | None:
    """Return the run that is there if it was trained on exactly this data."""
    try:
        record = read_run(cell.folder)
    except RunError:
        return None
    known = {name: record.config.get(name, {}).get("digest") for name in cell.digests}
    kept = not cell.settings.save_encoder or (cell.folder / FOLDER).is_dir()
    return record if known == cell.digests and kept else None


def _metrics(cell: Cell, scores: Mapping[str, Any]) -> dict[str, Any]:
    task = [*(f"{old} counted as {new}" for old, new in cell.data.merge.items()), *cell.data.where, *cell.unrated]
    if cell.other is not None:
        task += [f"{old} counted as {new} in {cell.other.corpus}" for old, new in cell.parts[1].merge.items()]
    return {
        "corpus": cell.store.corpus,
        "encoder": cell.store.path.stem,
        "head": cell.head_name,
        "loss": cell.loss_name,
        "mode": cell.settings.mode,
        "folds": cell.plan.kind,
        **scores,
        "head_options": cell.head_options,
        "loss_options": dataclasses.asdict(cell.loss_options),
        "selection": cell.plan.selection,
        "precision": cell.store.encoder.get("precision", "fp32"),
        "speaker_dependent": cell.plan.speaker_dependent,
        "budget": cell.settings.budget,
        "standardised": "over frames" if cell.level == "frame" else "over utterance means",
        "loss_spec": cell.loss,
        "head_spec": cell.head,
        "demo": "demo" in (cell.store.corpus, cell.other and cell.other.corpus),
        "task": ", ".join(task),
        "store_fingerprint": cell.store.fingerprint,
        **cell.variant,
    }


def _versions() -> dict[str, str]:
    import embedkit

    return {"embedkit": embedkit.__version__, "torch": torch.__version__, "numpy": np.__version__}
