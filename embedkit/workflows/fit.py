"""Fit heads on stores under every loss, on one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from embedkit.arguments import as_list, checked
from embedkit.corpora import Corpus
from embedkit.devices import resolve_device
from embedkit.encoders.run_encoders import find_folders
from embedkit.errors import FitError
from embedkit.heads import complete_head, is_fitted
from embedkit.losses import LOSSES, OWN, build_loss
from embedkit.options.call import takes_options
from embedkit.options.fit import FitOptions
from embedkit.progress import Progress, Tell
from embedkit.reporting.results import Results
from embedkit.store.noise import is_noisy_path
from embedkit.store.reader import Store
from embedkit.system import count_cores
from embedkit.training.data.cross_corpus import name_other, share_merge
from embedkit.training.data.pooled import pool_stores
from embedkit.training.data.recordings import note_older_stores
from embedkit.training.data.source import Source
from embedkit.training.data.store_source import StoreSource, as_store, group_stores
from embedkit.training.data.task import find_doubtful_names, find_lonely_classes
from embedkit.training.experiment import Experiment
from embedkit.training.live.source import open_live_sources
from embedkit.training.noise import plan_noise, score_noise
from embedkit.training.plain import describe_plain_parts
from embedkit.training.processes import ALONE, count_processes
from embedkit.training.runs import RunRecord
from embedkit.training.train import fit_experiments
from embedkit.wording import count_noun

Input: TypeAlias = Store | Corpus | str | Path


@takes_options(FitOptions, "embedkit.fit", leading="loss", also="losses")
@checked("embedkit.fit")
def fit_heads(
    stores: Input | Sequence[Input],
    options: FitOptions,
    *,
    sources: Mapping[str, str] | None = None,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
    train: Callable[..., list[RunRecord]] = fit_experiments,
) -> Results:
    """Train every head under every loss on every store and keep one run folder each.

    A run that is there already, on the same data and with the same options, is not trained again.

    Args:
        stores: Stores, or their paths; in the modes other than "cached" corpora, or what `extract` takes for them.
        options: How; users give each as an argument.
        sources: Where encoders' names lead instead of the published weights.
        progress: Called with heads done and in all; True shows a bar, None one on a terminal.
        tell: Receives a line per experiment, and one per row of experiments trained together.
        train: Called with the checked experiments in place of their training.

    Returns:
        One record per store, head and loss, then those of the same heads on noisy recordings; `to_frame()` makes a
        table of them.

    Raises:
        FitError: too few groups, speakers or classes; frames or ratings that are needed and a store lacks.
        ArgumentError: an argument that is none.
        StoreError, ConfigError, UnknownNameError: an input or a name that cannot be used.
    """
    _require_trainable(options)
    options = options.resolve()
    if options.mode == "cached":
        if count_processes() > 1:
            raise FitError("Heads on stores train in one process; start embedkit fit without a launcher.")
        opened = _open_stores(as_list(stores), options)
    else:
        opened = _open_speech(as_list(stores), options, sources or {})
    processes = opened[0].processes if opened else ALONE
    if processes.rank > 0:
        progress, tell = False, lambda _: None
    elif processes.count > 1:
        tell(f"Training in {processes.count} processes.")
    if not opened:
        raise FitError("There is no store to fit; run embedkit extract first or name a store.")
    experiments = _plan(opened, options)
    for experiment in experiments:
        experiment.check()
    read = list(dict.fromkeys(store for one in experiments for store in one.data.stores))
    for store in read:
        store.require_undamaged()
    noise = plan_noise(experiments)
    said = [describe_plain_parts(one.grid[0].head, one.loss) for one in experiments]
    said.append(note_older_stores(read))
    said += [one.notes for one in experiments]
    pairs = [pair for one in experiments for pair in zip(one.data.stores, one.data.parts, strict=True)]
    parts = {id(store): (store, data) for store, data in pairs}
    said += [find_doubtful_names(store, data, options.folds or "") for store, data in parts.values()]
    said += [find_lonely_classes(data) for _, data in parts.values()]
    for sentence in dict.fromkeys(line for lines in said for line in lines):
        tell(sentence)
    threads = options.threads or count_cores()
    records = train(experiments, threads, overwrite=options.overwrite, progress=progress, tell=tell)
    # Whatever stands in the place of the training may return nothing.
    scored = score_noise(noise, records, overwrite=options.overwrite, tell=tell) if records else []
    return Results([*records, *scored])


def _plan(opened: Sequence[Source], options: FitOptions) -> list[Experiment]:
    """List what is trained: stores by test corpora by shares by layers by heads by losses.

    Fitted heads bring their own objective.
    """
    layers = options.layers if options.mode == "cached" else "all"
    if layers not in ("all", "each"):
        raise FitError(
            f"The layers are {layers!r}, expected all or each; to keep some of them, extract with --layers and --out."
        )
    others = [StoreSource(as_store(one)) for one in options.test_on]
    names = [name_other(opened[0], other) for other in others]
    merges = share_merge(options.test_merge or {}, others, names)
    tested: list[tuple[Source | None, Mapping[str, str]]] = [*zip(others, merges, strict=True)] or [(None, {})]
    device, built = resolve_device(options.device), [build_loss(loss) for loss in options.loss or ()]
    trained = [loss for loss in built if loss.name != OWN]
    experiments = [
        Experiment(store, complete_head(head, store.usual_pool), loss, options, device, layer, other, share, merge)
        for store in opened
        for other, merge in tested
        for share in options.train_share
        for layer in (store.layers if layers == "each" else (None,))
        for head in (options.head or [store.default_head])
        for loss in ([build_loss(OWN)] if is_fitted(head) else trained)
    ]
    if not experiments:
        raise FitError(f"There is no loss to train under; name some of {', '.join(LOSSES)}.")
    return experiments


def _require_trainable(options: FitOptions) -> None:
    """Refuse what means nothing for heads that are fitted.

    Raises:
        FitError: a loss for them alone, their objective for others, ratings, or an encoder that runs.
    """
    fitted = [head for head in options.head or () if is_fitted(head)]
    others = [head for head in options.head or (None,) if head not in fitted]
    if others and options.loss and {*options.loss} == {OWN}:
        raise FitError(
            f"The loss {OWN!r} belongs to heads that are fitted, not to {others[0] or 'the usual head'!r}; choose "
            "another loss."
        )
    if not fitted:
        return
    head = fitted[0]
    if not others and options.loss and {*options.loss} != {OWN}:
        raise FitError(
            f"The head {head!r} is fitted by an objective of its own and takes no loss, found {options.loss[0]!r}; "
            "leave out --loss, or name a head that is trained as well (linear, superb, mlp)."
        )
    if options.targets:
        raise FitError(
            f"The head {head!r} tells classes apart, but --targets names emotional attributes to predict; choose "
            "linear, superb or mlp."
        )
    if options.mode != "cached":
        raise FitError(
            f"The head {head!r} is fitted on stored embeddings and cannot be trained with --mode {options.mode}; leave "
            "out --mode, or choose linear, superb or mlp."
        )


def _open_speech(corpora: Sequence[Any], options: FitOptions, sources: Mapping[str, str]) -> list[Source]:
    for name in options.encoder:
        if folders := find_folders(name):
            raise FitError(
                f"{name} is a run with {count_noun(len(folders), 'trained encoder')}; run embedkit extract with it "
                f"and fit the stores, or name the folder of one encoder, such as {folders[0]}."
            )
    if options.test_on:
        raise FitError(f"Found --test-on beside --mode {options.mode}; test on another corpus in --mode cached.")
    return open_live_sources(corpora, options, sources)


def _open_stores(stores: Sequence[Input], options: FitOptions) -> list[Source]:
    found, name = [as_store(one) for one in stores], options.corpus_name
    if options.encoder:
        raise FitError(
            f"Found the encoder {options.encoder[0]!r}, but stores hold embeddings already; leave out --encoder, or "
            "run the encoder in every epoch with --mode frozen."
        )
    if name is not None:
        raise FitError(f"Found --corpus-name {name!r}, but a store has its corpus's name; give it to embedkit extract.")
    if options.pool and options.noise_snr and not options.test_on:
        raise FitError("Noisy recordings are those of one corpus; leave out --pool or --noise-snr.")
    return [pool_stores(found)] if options.pool else group_stores(found)


def find_stores(folder: str | Path = "embeddings") -> list[Path]:
    """Return every store below a folder, in sorted order; those of noisy recordings are tested on, not fitted.

    Raises:
        FitError: there is none.
    """
    folder = Path(folder)
    found = sorted(
        path
        for path in folder.rglob("*.h5")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not is_noisy_path(path)
    )
    if not found:
        raise FitError(f"There are no stores below {folder}/; run embedkit extract --encoder NAME first, or name one.")
    return found
