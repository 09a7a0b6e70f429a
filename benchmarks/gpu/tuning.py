"""Part 4: encoders in training, and heads cached against frozen."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch
from common import median
from modes import BATCH, member, open_live, plan, train_cached, train_frozen, train_study, tune

from embedkit.encoders.precision import true_fp32
from embedkit.heads import resolve_head
from embedkit.options.fit import FitOptions
from embedkit.training.data.targets import build_targets
from embedkit.training.data.task import define_task
from embedkit.training.fine_tuning import plan_tuning
from embedkit.training.stacks import checkpoint
from embedkit.training.stacks.batches import count_steps
from embedkit.training.stacks.stack import Group, Stack, TrainingConfig
from gpu.work import Bench, count_operations, peak_memory, timed, watch

ENCODERS = ("hubert", "whisper-base")


def run(bench: Bench) -> None:
    """Time steps, epochs with all that belongs to them, and the two ways to train on a frozen encoder."""
    rows, tops, epochs = [], [], []
    for name in ENCODERS:
        for precision, recompute in (("fp32", False), ("bf16", False), ("bf16", True)):
            with bench.report.trying(f"tuning, {name}, {precision}, recompute {recompute}"):
                row, top = time_steps(bench, name, precision, recompute=recompute)
                rows.append(row)
                tops += top
        with bench.report.trying(f"tuning, {name}, whole epochs"):
            epochs.append(time_epochs(bench, name))
    bench.report.table("Fine-tuning a linear head and its encoder, mini-batches of 32: steps alone", rows)
    bench.report.table("What the device's time goes to in fine-tuning", tops)
    bench.report.table("Fine-tuning as `fit` does it: development scores and checkpoints", epochs)
    rows = []
    for name in ENCODERS:
        with bench.report.trying(f"cached and frozen, {name}"):
            rows += compare_modes(bench, name)
    bench.report.table("Cached against frozen; loading the encoder is part of both, study EXTRAPOLATED if frozen", rows)


def time_steps(
    bench: Bench, name: str, precision: str, *, recompute: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Time epochs of training steps on the first fold's training side."""
    folder = bench.encoder(name)
    speech = open_live(bench.corpus, folder, precision, bench.device, trainable=True)
    data = define_task(speech)
    features = speech.features(data.rows, "utterance")
    tuner = speech.fine_tuner(FitOptions(mode="finetune", recompute=recompute).resolve())
    features.tuned = tuner
    fold = plan_tuning(plan(data)).folds[0]
    train, validate = fold.validations[0]
    runs = bench.runs
    config = TrainingConfig(head=resolve_head("linear"), classes=len(data.classes), epochs=runs + 2, batch_size=BATCH)
    group = Group(train=train, validate=validate, seed=0, members=(member("ce", 0, runs + 2),))
    tuner.start(0, (runs + 2) * count_steps(len(train), BATCH))
    with true_fp32(), peak_memory(bench.device) as memory:
        targets = build_targets(data.targets, len(data.classes))
        stack = Stack(features, targets, [group], config, keep_best=True, dtype=torch.float32)
        stack.train_epoch(0)
        seconds = median(timed(bench.device, lambda e=epoch: stack.train_epoch(e)) for epoch in range(1, runs + 1))
    with true_fp32():
        idle, top = watch(bench.device, lambda: stack.train_epoch(runs + 1))
    samples = features.samples[train].tolist()
    operations = sum(count_operations(folder, int(count)).training for count in samples)
    what = f"{name}, {precision}{', recompute' if recompute else ''}"
    row = {
        "": what,
        "utterances": len(train),
        "seconds": seconds,
        "utterances a second": len(train) / seconds,
        "share of rate": bench.share(operations, seconds, precision),
        "idle": idle,
        **memory,
    }
    return row, [{"": what, "share": part, "what": kernel[:90]} for kernel, part in top]


def time_epochs(bench: Bench, name: str) -> dict[str, Any]:
    """Time epochs as `fit` runs them, and how much of that is writing weights to disk."""
    epochs, seconds = 2 if bench.small else 10, []
    write = checkpoint.write_whole

    def timed_write(*arguments: Any) -> None:
        seconds.append(timed(bench.device, lambda: write(*arguments)))

    with peak_memory(bench.device) as memory, patch.object(checkpoint, "write_whole", timed_write):
        one = tune(
            bench.corpus, bench.encoder(name), None, "bf16", bench.device, epochs, mode="finetune", folds=1, rate=1e-5
        )
    share = sum(seconds) / one.seconds
    bench.report.found["measured"]["writing"] = max(share, bench.report.found["measured"].get("writing", 0.0))
    return {
        "": f"{name}, bf16",
        "epochs": epochs,
        "seconds an epoch": one.parts["epoch"],
        "seconds in all": one.seconds,
        "epochs written": len(seconds),
        "share of writing": share,
        **memory,
    }


def compare_modes(bench: Bench, name: str) -> list[dict[str, Any]]:
    """Train one head both ways, then a small study on the store."""
    epochs = 3 if bench.small else 10
    common = (bench.corpus, bench.encoder(name), None, "bf16", bench.device, epochs)
    ways = {"cached": train_cached(*common), "frozen": train_frozen(*common)}
    rows = [
        {"": f"{name}, {way}, one head", "heads": 1, "s before": one.parts["before"], "s an epoch": one.parts["epoch"]}
        | {"seconds": one.seconds}
        for way, one in ways.items()
    ]
    study, frozen = train_study(*common), ways["frozen"].parts
    whole = study.heads * (frozen["before"] + epochs * frozen["epoch"])
    for way, seconds in (("cached", study.seconds), ("frozen, EXTRAPOLATED", whole)):
        nothing = float("nan")
        what = f"{name}, {way}, study"
        rows.append({"": what, "heads": study.heads, "s before": nothing, "s an epoch": nothing, "seconds": seconds})
    return rows
