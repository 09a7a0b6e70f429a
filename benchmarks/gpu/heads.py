"""Part 3: stacked training, and a whole study of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from training import BATCH, Data, synthetic, train_data

from embedkit.heads import resolve_head, resolve_heads
from embedkit.losses import LOSSES, build_loss
from embedkit.system import count_cores
from embedkit.training.cross_validation import train_losses
from embedkit.training.data.features import UtteranceFeatures
from embedkit.training.search import build_grid
from embedkit.training.stacks import schedule
from embedkit.training.stacks.stack import TrainingConfig
from gpu.work import Bench, peak_memory, timed, watch

USUAL_EPOCHS = 30
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
SEEDS = 5
ENCODERS = 4


def run(bench: Bench) -> None:
    """Time rows of tables of two corpora's sizes in stacks of several sizes, then a study."""
    sizes = {"EmoDB (535)": synthetic(535, 7, 10), "IEMOCAP (5,531)": synthetic(5531, 4, 5)}
    if bench.small:
        sizes = {"tiny": synthetic(120, 4, 4, layers=3, dimensions=32)}
    stacks = (schedule.MOST_HEADS, 1000, 4000) if bench.device == "cuda" else (schedule.MOST_HEADS,)
    rows = []
    for name, data in sizes.items():
        train(bench, data, 1)
        for most in stacks:
            with bench.report.trying(f"heads, {name}, stacks of {most}"), stacks_of(most):
                rows.append(time_heads(bench, name, data, most))
                best = bench.report.found["measured"].get("heads", 0.0)
                if data is list(sizes.values())[-1]:
                    bench.report.found["measured"]["heads"] = max(best, rows[-1]["heads a minute"])
    columns = "linear heads, five losses, four rates, five seeds, all folds; a minute's heads at 30 epochs"
    bench.report.table(f"Stacked training: {columns}", rows)
    with bench.report.trying("heads, the whole study"):
        bench.report.table(
            f"The whole study: {ENCODERS} encoders x 5 losses x 5 folds x 4 inner folds x {SEEDS} seeds x 4 rates, "
            "and the refits; one fold of one encoder measured, the rest EXTRAPOLATED",
            [time_study(bench, list(sizes.values())[-1], most) for most in stacks[::2]],
        )


def train(bench: Bench, data: Data, epochs: int) -> Any:
    """Train one row of a table."""
    losses = list(LOSSES.names_in_all)
    return train_data(data, epochs, losses=losses, device=bench.device, rates=RATES, seeds=SEEDS)


def time_heads(bench: Bench, name: str, data: Data, most: int) -> dict[str, Any]:
    """Time heads in stacks of at most so many."""
    epochs = 2 if bench.small else USUAL_EPOCHS // 3
    with peak_memory(bench.device) as memory:
        one = train(bench, data, epochs)
    idle, top = watch(bench.device, lambda: train(bench, data, 1))
    return {
        "": name,
        "most in a stack": most,
        "heads": one.heads,
        "epochs": epochs,
        "seconds": one.seconds,
        "heads a minute": 60 * one.heads * epochs / USUAL_EPOCHS / one.seconds,
        "idle": idle,
        **memory,
        "first in the profile": f"{top[0][1]:.0%} {top[0][0][:40]}" if top else "",
    }


def time_study(bench: Bench, data: Data, most: int) -> dict[str, Any]:
    """Search, choose and refit in one fold as `embedkit fit` does."""
    folds = data.plan.folds
    epochs = 2 if bench.small else USUAL_EPOCHS // 3
    config = TrainingConfig(
        head=resolve_head("linear"), classes=int(data.targets.max()) + 1, epochs=epochs, batch_size=BATCH
    )
    heads = 0

    def count(groups: Any, results: Any) -> None:
        nonlocal heads
        heads += sum(len(group.members) for group in groups)

    features = UtteranceFeatures(data.values, bench.device)

    def search() -> None:
        train_losses(
            features,
            data.targets,
            replace(data.plan, folds=folds[:1]),
            config,
            [build_loss(name) for name in LOSSES.names_in_all],
            grid=build_grid(resolve_heads("linear"), RATES),
            seeds=range(SEEDS),
            threads=count_cores(),
            on_stack=count,
        )

    with stacks_of(most):
        seconds = timed(bench.device, search)
    times = ENCODERS * len(folds)
    return {
        "most in a stack": most,
        "heads measured": heads,
        "epochs measured": epochs,
        "seconds": seconds,
        "heads in all": times * heads,
        "minutes in all, EXTRAPOLATED": times * seconds * USUAL_EPOCHS / epochs / 60,
    }


@contextmanager
def stacks_of(most: int) -> Iterator[None]:
    """Let stacks hold up to so many heads."""
    before = schedule.MOST_HEADS
    schedule.MOST_HEADS = most
    try:
        yield
    finally:
        schedule.MOST_HEADS = before
