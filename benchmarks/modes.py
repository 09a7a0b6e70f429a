"""Heads on a store, extraction included, beside the same heads with the encoder in the loop; and encoders in training.

    python benchmarks/modes.py CORPUS ENCODER
    python benchmarks/modes.py CORPUS ENCODER --tune

Every row runs in a process of its own, so that its peak memory is its own. The first part trains one linear head on one
fold, cached and frozen, and says after how many epochs extracting first is ahead. Then come 5 losses x 10 folds x 3
seeds: measured on the store, extrapolated from the one head for the frozen encoder. `--tune` trains the encoder, by
all of its weights and by adapters, on the first folds, beside the frozen one on the same folds.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import Outcome, describe_machine, run_apart, show_table, spread_corpus

import embedkit
from embedkit.corpora import Corpus
from embedkit.encoders import load_encoder
from embedkit.evaluation.metrics import unweighted_average_recall
from embedkit.heads import resolve_head, resolve_heads
from embedkit.losses import LOSSES, build_loss
from embedkit.options.fit import FitOptions
from embedkit.system import count_cores
from embedkit.training.cross_validation import train_losses
from embedkit.training.data.features import Features
from embedkit.training.data.folds import FoldPlan, plan_folds
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.task import TaskData, define_task
from embedkit.training.fine_tuning import plan_tuning, tune_loss
from embedkit.training.live.source import LiveSource
from embedkit.training.search import build_grid
from embedkit.training.stacks.cache import ResultCache
from embedkit.training.stacks.schedule import run_groups
from embedkit.training.stacks.scoring import score_states
from embedkit.training.stacks.stack import Group, Member, TrainingConfig, train_stack

BATCH, RATE, SEEDS = 32, 1e-3, 3


def main() -> None:
    """Run what was asked for and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("encoder")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--limit", type=int, help="utterances, evenly spread")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--folds", type=int, default=2, help="folds in which an encoder is trained")
    parser.add_argument("--encoder-lr", type=float, default=3e-5)
    options = parser.parse_args()
    print(describe_machine())
    if options.tune:
        report_tuning(options)
    else:
        report_modes(options)


def report_modes(options: argparse.Namespace) -> None:
    """Compare one head cached with one frozen, and whole studies."""
    common = (options.corpus, options.encoder, options.limit, options.precision, options.device, options.epochs)
    cached, frozen = run_apart(train_cached, *common), run_apart(train_frozen, *common)
    study = run_apart(train_study, *common)
    rows = [
        (name, *(f"{one.parts[part]:.3g}" for part in ("before", "epoch")), f"{one.seconds:.1f}", *judged(one))
        for name, one in {"cached": cached, "frozen": frozen}.items()
    ]
    columns = ["one linear head, one fold", "s before the first epoch", "s an epoch", "s in all", "UA %", "peak MB"]
    show_table(f"{options.epochs} epochs; before the first: extraction, or one pass to measure", columns, rows)
    ahead = (cached.parts["before"] - frozen.parts["before"]) / (frozen.parts["epoch"] - cached.parts["epoch"])
    print(f"Cached is ahead from epoch {max(1, math.floor(ahead) + 1)} on.")
    heads = study.heads
    whole = heads * (frozen.parts["before"] + options.epochs * frozen.parts["epoch"])
    rows = [
        ("cached, extraction included", heads, f"{study.seconds:.0f}", "1", f"{100 * study.ua:.1f}"),
        ("frozen, one head after another (EXTRAPOLATED)", heads, f"{whole:.0f}", f"{whole / study.seconds:.0f}", ""),
    ]
    columns = ["", "heads", "seconds", "to cached", "UA of ce %"]
    show_table(f"5 losses x all folds x {SEEDS} seeds, {options.epochs} epochs", columns, rows)


def report_tuning(options: argparse.Namespace) -> None:
    """Train the encoder on the first folds."""
    rows = []
    for mode in ("frozen", "finetune", "lora"):
        rate = 10 * options.encoder_lr if mode == "lora" else options.encoder_lr
        common = (options.corpus, options.encoder, options.limit, options.precision, options.device, options.epochs)
        one = run_apart(tune, *common, mode=mode, folds=options.folds, rate=rate)
        told = f"{100 * one.parts['dev']:.1f}", f"{one.parts['epoch']:.1f}", f"{one.seconds:.0f}"
        rows.append((mode, *told, *judged(one)))
    columns = ["", "development UA %", "s an epoch", "s in all", "test UA %", "peak MB"]
    show_table(
        f"Linear head, cross-entropy, the first {options.folds} folds by speaker, {options.epochs} epochs, the best by "
        "the development speaker",
        columns,
        rows,
    )


def judged(one: Outcome) -> tuple[str, str]:
    """Write UA and peak memory."""
    return f"{100 * one.ua:.1f}", f"{one.peak:.0f}"


def plan(data: TaskData) -> FoldPlan:
    """One fold for each speaker."""
    return plan_folds("speaker", labels=data.labels, speakers=data.speakers, hold_out=True)


def member(loss: str, seed: int, epochs: int) -> Member:
    """One head."""
    return Member(loss=build_loss(loss), seed=seed, learning_rate=RATE, epochs=epochs)


def train_one(features: Features, data: TaskData, epochs: int, before: float) -> Outcome:
    """Train and score one head of the first fold; the clock was started by the caller."""
    fold = plan(data).folds[0]
    config = TrainingConfig(head=resolve_head("linear"), classes=len(data.classes), epochs=epochs, batch_size=BATCH)
    nothing = np.zeros(0, dtype=np.int64)
    group = Group(train=fold.train, validate=nothing, seed=0, members=(member("ce", 0, epochs),))
    ends = []
    _ = features.moments(fold.train)
    started = time.perf_counter()
    (result,) = train_stack(
        features, data.targets, [group], config, on_epoch=lambda done, results: ends.append(time.perf_counter())
    )
    shares = score_states(features, result.states, build_loss("ce"), result.standardiser, fold.test, config)[0]
    ua = float(unweighted_average_recall(data.targets[fold.test], shares.argmax(-1), len(data.classes)))
    seconds = time.perf_counter() - before
    parts = {"before": started - before, "epoch": (ends[-1] - started) / epochs}
    return Outcome(1, seconds, ua, parts=parts)


def train_cached(
    corpus: str | Corpus, encoder: str, limit: int | None, precision: str, device: str, epochs: int
) -> Outcome:
    """Extract, then train one head."""
    chosen = spread_corpus(corpus, limit)
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        store = embedkit.extract(chosen, encoder=encoder, out=Path(folder) / "s.h5", precision=precision, device=device)
        data = define_task(StoreSource(store))
        return train_one(StoreSource(store).features(data.rows, "utterance", device), data, epochs, before)


def train_frozen(
    corpus: str | Corpus, encoder: str, limit: int | None, precision: str, device: str, epochs: int
) -> Outcome:
    """Train one head with the encoder in the loop."""
    chosen = spread_corpus(corpus, limit)
    before = time.perf_counter()
    speech = open_live(chosen, encoder, precision, device, trainable=False)
    data = define_task(speech)
    return train_one(speech.features(data.rows, "utterance"), data, epochs, before)


def train_study(
    corpus: str | Corpus, encoder: str, limit: int | None, precision: str, device: str, epochs: int
) -> Outcome:
    """Extract, then train every loss on every fold with every seed."""
    chosen = spread_corpus(corpus, limit)
    nothing = np.zeros(0, dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        before = time.perf_counter()
        store = embedkit.extract(chosen, encoder=encoder, out=Path(folder) / "s.h5", precision=precision, device=device)
        data = define_task(StoreSource(store))
        features = StoreSource(store).features(data.rows, "utterance", device)
        config = TrainingConfig(head=resolve_head("linear"), classes=len(data.classes), epochs=epochs, batch_size=BATCH)
        shares = np.zeros((SEEDS, len(data), len(data.classes)))
        losses, folds = list(LOSSES.names_in_all), plan(data).folds
        groups = [
            Group(
                train=fold.train,
                validate=nothing,
                seed=seed,
                members=tuple(member(loss, seed, epochs) for loss in losses),
            )
            for fold in folds
            for seed in range(SEEDS)
        ]
        results = run_groups(features, data.targets, groups, config, keep_best=False, threads=count_cores())
        for place, result in enumerate(results):
            fold, own = folds[place // SEEDS], [result.states[losses.index("ce")]]
            found = score_states(features, own, build_loss("ce"), result.standardiser, fold.test, config)[0]
            shares[place % SEEDS][fold.test] = found
        heads = len(groups) * len(losses)
        ua = float(np.mean(unweighted_average_recall(data.targets, shares.argmax(-1), len(data.classes))))
        return Outcome(heads, time.perf_counter() - before, ua)


def tune(
    corpus: str | Corpus,
    encoder: str,
    limit: int | None,
    precision: str,
    device: str,
    epochs: int,
    *,
    mode: str,
    folds: int,
    rate: float,
) -> Outcome:
    """Train a head, and the encoder with it unless it is frozen, on the first folds."""
    speech = open_live(spread_corpus(corpus, limit), encoder, precision, device, trainable=mode != "frozen")
    data = define_task(speech)
    features = speech.features(data.rows, "utterance")
    whole = plan_tuning(plan(data))
    chosen = replace(whole, folds=whole.folds[:folds])
    config = TrainingConfig(head=resolve_head("linear"), classes=len(data.classes), epochs=epochs, batch_size=BATCH)
    ends: list[float] = []
    settings: dict[str, Any] = {
        "grid": build_grid(resolve_heads("linear"), (RATE,), (0.0,)),
        "seeds": (0,),
        "on_epoch": lambda groups, done, results: ends.append(time.perf_counter()),
    }
    started = time.perf_counter()
    if mode == "frozen":
        found = train_losses(
            features, data.targets, chosen, config, [build_loss("ce")], threads=count_cores(), **settings
        )
        results = found["ce"]
    else:
        tuner = speech.fine_tuner(FitOptions(mode="lora" if mode == "lora" else "finetune", encoder_lr=rate).resolve())
        with tempfile.TemporaryDirectory() as work:
            results = tune_loss(
                features,
                data.targets,
                chosen,
                config,
                build_loss("ce"),
                tuner=tuner,
                cache=ResultCache(Path(work), {}),
                **settings,
            )
    seconds = time.perf_counter() - started
    index = np.concatenate([result.fold.test for result in results])
    guessed = np.concatenate([result.outputs[0].argmax(-1) for result in results])
    ua = float(unweighted_average_recall(data.targets[index], guessed, len(data.classes)))
    dev = float(np.mean([result.choices[0].score for result in results]))
    return Outcome(folds, seconds, ua, parts={"dev": dev, "epoch": (ends[-1] - ends[0]) / (len(ends) - 1)})


def open_live(corpus: Corpus, encoder: str, precision: str, device: str, *, trainable: bool) -> LiveSource:
    """Open a corpus with an encoder that runs in every epoch."""
    loaded = load_encoder(encoder, precision=precision, device=device, trainable=trainable)
    return LiveSource(corpus, loaded, encoder, threads=count_cores())


if __name__ == "__main__":
    main()
