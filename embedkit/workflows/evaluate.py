"""Test a published classifier on a corpus as it is, and keep a run like those of heads that were trained."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.arguments import checked
from embedkit.corpora import Corpus
from embedkit.corpora.clips import Clip
from embedkit.corpora.emotions import map_labels, tell_map
from embedkit.corpora.opening import as_corpus, rename_corpus
from embedkit.corpora.selection import choose_utterances
from embedkit.encoders import encoder_label
from embedkit.encoders.published import RATED, names_corpus
from embedkit.errors import FitError, RunError
from embedkit.options.call import takes_options
from embedkit.options.evaluate import EvaluateOptions
from embedkit.progress import Progress, Tell, show_progress
from embedkit.system import count_cores, safe_name
from embedkit.training.data.annotators import read_annotators
from embedkit.training.data.attributes import define_dimensions, find_rating_columns
from embedkit.training.data.folds import Fold, FoldPlan
from embedkit.training.data.recordings import digest_recordings, recording_keys, share_recordings, sketch_recordings
from embedkit.training.data.task import TaskData, define_task
from embedkit.training.experiment_record import versions
from embedkit.training.live.source import LiveSource
from embedkit.training.results import prediction_rows
from embedkit.training.runs import (
    NOT_SAID,
    RUN_FORMAT_VERSION,
    UNFINISHED,
    ZERO_SHOT,
    RunRecord,
    digest_of,
    read_run,
    require_writable,
    write_run,
)
from embedkit.training.summary import summarise_classes, summarise_raters, summarise_ratings, summarise_votes
from embedkit.wording import count_noun
from embedkit.workflows.predict import Asked, Prediction, tell_predictions
from embedkit.workflows.predict_file import Kept, title_of
from embedkit.workflows.published import PublishedClassifier, choose_names
from embedkit.writing import working_in

HEAD = "published"

_logger = logging.getLogger("embedkit")


@dataclass(frozen=True, kw_only=True)
class _Whole:
    """All utterances as one test set of one system."""

    fold: Fold
    outputs: NDArray[np.float64]


@takes_options(EvaluateOptions, "embedkit.evaluate")
@checked("embedkit.evaluate")
def evaluate_model(
    corpus: str | os.PathLike[str] | Corpus,
    options: EvaluateOptions,
    *,
    sources: Mapping[str, str] | None = None,
    progress: Progress | bool | None = False,
    tell: Tell = _logger.info,
) -> RunRecord:
    """Test a published classifier on a corpus as it is (zero-shot), and keep a run for tables and reports.

    What is there already, of the same data and with the same options, is not asked again; what was stopped goes on.

    Args:
        corpus: As for `extract`.
        options: How; users give each as an argument.
        sources: Where names of models lead instead of the published weights.
        progress: Called with clips done and in all; True shows a bar, None one on a terminal.
        tell: Called with each sentence for the user; by default they are logged.

    Returns:
        The record of the run.

    Raises:
        CorpusError, EncoderError, ConfigError: a corpus, a model or an option that cannot be used.
        FitError: labels and classes have too little in common.
        AudioError: audio that cannot be used.
    """
    opened, _ = choose_utterances(rename_corpus(as_corpus(corpus), options.corpus_name), options.where, options.limit)
    classifier = PublishedClassifier(
        options.model, device=options.device, precision=options.precision, sources=sources or {}
    )
    threads = options.threads or count_cores()
    source = LiveSource(opened, classifier.encoder, options.model, threads=threads)
    trained_on = options.trained_on or classifier.trained_on or NOT_SAID
    data, mapped, said = _define(source, classifier, options)
    scale = _choose_scale(classifier, options, opened.kind)
    config = _config(source, options, data, mapped, scale=scale, trained_on=trained_on)
    leak = names_corpus(trained_on, source.corpus)
    if leak:
        said.append(f"LEAK: the model was trained on {trained_on}, so its numbers on {source.corpus} are no zero-shot.")
        config["leak"] = True
    for sentence in [*said, f"Trained on: {trained_on}.", *filter(None, [classifier.note])]:
        tell(sentence)
    folder = _folder(options.runs, config)
    if (known := _find_known(folder, source)) and not options.overwrite:
        return known
    require_writable(options.runs)
    keep = options.runs / UNFINISHED / f"{folder.name}.jsonl"
    names = choose_names(mapped)
    told = Asked(source=f"the weights of {options.model}", names=names, rates=classifier.rates)
    clips = _clips(source, data)

    def stream(missing: Sequence[Clip]) -> Iterator[Prediction]:
        hearing: dict[str, Any] = {"max_hours": options.max_hours, "rescale": options.rescale, "tell": tell}
        outputs = classifier.score(missing, mapped, threads=threads, side_by_side=True, **hearing)
        return tell_predictions(told, missing, [outputs], on_error=options.on_error, tell=tell)

    title = title_of(config=config, encoder=source.fingerprint)
    with (
        working_in(keep.parent),
        show_progress(progress, f"evaluate {options.model}") as report,
        Kept(keep, title) as kept,
    ):
        kept.fill(clips, stream, skipping=options.on_error == "skip", report=report, tell=tell)
        found = {one.path: one.dimensions or one.probabilities for one in kept.read(clips)}
        record = _write(folder, source, config, data, found, scale, tell)
        kept.remove()
    return record


def _define(
    source: LiveSource, classifier: PublishedClassifier, options: EvaluateOptions
) -> tuple[TaskData, dict[str, str], list[str]]:
    """Choose utterances and labels, and say what counts as what."""
    given = dict(options.map or {})
    if classifier.rates:
        if options.classes is not None or options.merge:
            raise FitError(f"{options.model} gives ratings, not classes; leave out --classes and --merge.")
        columns = find_rating_columns(source)
        mapped = map_labels(classifier.labels, given, columns, source.corpus, least=1)
        if len(set(mapped.values())) < len(mapped):
            raise FitError("--map counts two ratings as one column; name each column once.")
        data = define_dimensions(source, choose_names(mapped), where=options.where)
        return data, mapped, tell_map(classifier.labels, choose_names(mapped), mapped, "column")
    chosen: dict[str, Any] = {"merge": options.merge, "where": options.where}
    whole = define_task(source, classes=options.classes, **chosen)
    mapped = map_labels(classifier.labels, given, whole.classes, source.corpus)
    told = tell_map(classifier.labels, whole.classes, mapped, "class")
    known = [name for name in whole.classes if name in mapped.values()]
    if len(known) == len(whole.classes):
        return whole, mapped, told
    if options.classes is not None:
        lost = ", ".join(name for name in whole.classes if name not in known)
        raise FitError(
            f"The model has no label for {lost}; leave it out of --classes, or say with --map which label counts as it."
        )
    data = define_task(source, classes=known, **chosen)
    told.append(f"{count_noun(len(whole) - len(data), 'utterance')} of other classes are left out.")
    return data, mapped, told


def _choose_scale(classifier: PublishedClassifier, options: EvaluateOptions, kind: str) -> tuple[float, float] | None:
    if options.scale is not None:
        if not classifier.rates:
            raise FitError(f"{options.model} gives classes, not ratings; leave out --scale.")
        return options.scale[0], options.scale[1]
    if not classifier.unit:
        return None
    if kind not in RATED:
        raise FitError(
            f"{options.model} rates from 0 to 1, and in which unit the corpus is rated is not known; give what 0 and 1 "
            "are there: --scale 1,5."
        )
    return RATED[kind]


def _config(
    source: LiveSource,
    options: EvaluateOptions,
    data: TaskData,
    mapped: Mapping[str, str],
    *,
    scale: tuple[float, float] | None,
    trained_on: str,
) -> dict[str, Any]:
    """Return everything that determines the run."""
    kept: dict[str, Any] = {"dimensions": list(data.dimensions)} if data.dimensions else {}
    kept |= {} if scale is None else {"scale": list(scale)}
    kept |= {name: getattr(options, name) for name in ("limit", "corpus_name", "rescale") if getattr(options, name)}
    return {
        "format": "embedkit-run",
        "format_version": RUN_FORMAT_VERSION,
        "algorithm": 1,
        "corpus": source.corpus,
        "encoder": encoder_label(options.model),
        "head": HEAD,
        "head_options": {},
        "loss": ZERO_SHOT,
        "loss_options": {},
        "mode": ZERO_SHOT,
        "folds": {"kind": "none", "names": ["all"], "train": [0], "test": [len(data)]},
        "classes": list(data.classes),
        "merge": dict(data.merge),
        "where": list(data.where),
        "seeds": [0],
        "store_fingerprint": source.fingerprint,
        "model": options.model,
        "map": dict(mapped),
        "trained_on": trained_on,
        "precision": str(source.encoder.get("precision", "fp32")),
        **kept,
    }


def _folder(runs: Path, config: Mapping[str, Any]) -> Path:
    parts = [safe_name(str(config[name]), default="unnamed") for name in ("corpus", "encoder")]
    return runs.joinpath(*parts, HEAD, f"{ZERO_SHOT}-{digest_of(config)}")


def _find_known(folder: Path, source: LiveSource) -> RunRecord | None:
    """Return the run that is there if it is on exactly this data.

    Raises:
        FitError: it is on another corpus of the same name.
    """
    try:
        record = read_run(folder)
    except RunError:
        return None
    known = record.config.get("store", {}).get("digest") == source.digest
    if not known and not share_recordings(sketch_recordings(source.audio_digests()), record.config["recordings"]):
        raise FitError(
            f"{folder} holds a run on another corpus that is called {source.corpus}, too; keep the runs apart with "
            "--runs, or name this corpus with --corpus-name."
        )
    return record if known and record.predictions_path.is_file() else None


def _clips(source: LiveSource, data: TaskData) -> list[Clip]:
    """Return the clips to be asked, those of like lengths beside each other."""
    lengths = {name: item.samples for name, item in source.items.items()}
    chosen = sorted((source.utterances[row] for row in data.rows), key=lambda one: lengths.get(one.id, 0))
    return [Clip(name=one.id, path=source.root / one.path, start=one.start, end=one.end) for one in chosen]


def _write(
    folder: Path,
    source: LiveSource,
    config: Mapping[str, Any],
    data: TaskData,
    found: Mapping[str, Mapping[str, float]],
    scale: tuple[float, float] | None,
    tell: Tell,
) -> RunRecord:
    heard = np.array([name in found for name in data.ids.tolist()])
    unheard = int(np.sum(~heard))
    data = data.take(np.flatnonzero(heard))
    outputs = np.array([[found[name][one] for one in data.dimensions or data.classes] for name in data.ids.tolist()])
    if scale is not None:
        outputs = scale[0] + (scale[1] - scale[0]) * outputs
    fold = Fold(name="all", train=data.rows[:0], test=np.arange(len(data)), validations=(), refit=False)
    plan = FoldPlan(kind="none", folds=(fold,), selection="", speaker_dependent=False)
    keys = recording_keys([source], [data])
    annotators = read_annotators([source], [data])
    if data.dimensions:
        scores = summarise_ratings(data.targets, outputs[None], data.speakers, data.dimensions)
        scores |= summarise_raters(annotators, data.targets, data.dimensions)
    else:
        scores = summarise_classes(data.targets, outputs[None], None, data.speakers)
        scores |= summarise_votes(annotators, data.targets, outputs[None], None, data.speakers)
    left_out = [f"left out {count_noun(unheard, 'utterance')} whose audio cannot be used"] if unheard else []
    if data.unrated:
        left_out.append(
            f"left out {count_noun(data.unrated, 'utterance')} of {source.corpus} without a number in "
            f"{' or '.join(filter(None, [', '.join(data.dimensions[:-1]), *data.dimensions[-1:]]))}"
        )
    task = [*(f"{old} counted as {new}" for old, new in data.merge.items()), *data.where, *left_out]
    same = ("corpus", "encoder", "head", "head_options", "loss", "loss_options", "mode", "classes", "store_fingerprint")
    further = ("model", "map", "trained_on", "precision", "leak", "dimensions", "scale")
    metrics = {
        **{name: config[name] for name in (*same, *further) if name in config},
        "folds": "none",
        "seeds": 1,
        "utterances": len(data),
        "speakers": len(np.unique(data.speakers[data.speakers != ""])),
        **scores,
        "speaker_dependent": False,
        "demo": source.corpus == "demo",
        "task": ", ".join(task),
        "recordings": digest_recordings(keys),
    }
    store = {**source.describe(plan), "options": {}}
    sketch = sketch_recordings(source.audio_digests())
    record = write_run(
        folder,
        config={**config, "store": store, "recordings": sketch, "choices": [], "versions": versions()},
        metrics=metrics,
        predictions=prediction_rows(data, [_Whole(fold=fold, outputs=outputs[None])], [0]),
    )
    told = f"CCC {metrics['ccc']:.3f}" if data.dimensions else f"UAR {100 * metrics['ua']:.1f} %"
    tell(f"{source.corpus} {config['encoder']}, zero-shot: {told} on {count_noun(len(data), 'utterance')}")
    return record
