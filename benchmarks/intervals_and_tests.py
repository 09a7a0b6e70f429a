"""Do intervals cover, do tests claim too much: simulated speakers, whose truth is known; and how long a table takes.

python benchmarks/intervals_and_tests.py
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from common import describe_machine, show_table
from numpy.typing import NDArray
from simulated_speakers import WORLDS, World

from embedkit.evaluation.intervals import score_intervals
from embedkit.evaluation.metrics import accuracy, confusion_matrix, mean_f1, mean_recall
from embedkit.evaluation.significance import holm_adjust, recall_shares, swap_p_values
from embedkit.reporting import build_table

SPEAKERS = (10, 24)
LOSSES = ("ce", "label-smoothing", "focal", "aam", "ccc")
ENCODERS = ("mfcc", "vggish", "wav2vec2", "hubert")


def main() -> None:
    """Run all three parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=2000, help="of every line")
    count = parser.parse_args().simulations
    print(describe_machine())
    show_table(
        f"Coverage of 95 % intervals in % ({count} simulations): model of speakers, percentile bootstrap",
        ("", "speakers", "WA", "UA", "F1", "WA, bootstrap", "UA, bootstrap", "F1, bootstrap"),
        [
            (world.name, speakers, *measure_coverage(world, speakers, count))
            for world in WORLDS
            for speakers in SPEAKERS
        ],
    )
    losses, encoders = [(place, 0) for place in range(1, 5)], list(combinations(range(4), 2))
    lines = [
        (world, told, speakers)
        for told, more in (("equal systems", {}), ("equal systems, strong interaction", {"interaction": 1.0}))
        for world in (replace(WORLDS[0], **{"interaction": 0.3, **more}),)
        for speakers in (6, *SPEAKERS)
    ]
    show_table(
        f"Families in which a difference is claimed, in % ({count} simulations)",
        (
            "",
            "speakers",
            "4 losses against one",
            "6 pairs of encoders",
            "uncorrected pairs",
            "first is 5 points better",
        ),
        [
            (
                told,
                speakers,
                measure_claims(world, speakers, losses, count),
                measure_claims(world, speakers, encoders, count),
                measure_claims(world, speakers, encoders, count, corrected=False),
                measure_claims(world, speakers, losses, count, gain=0.25),
            )
            for world, told, speakers in lines
        ],
    )
    seconds = time_table()
    print("A table of 4 encoders and 5 losses, 5,531 utterances, 5 seeds:", end=" ")
    print(f"{seconds[0]:.2f} s, without comparing {seconds[1]:.2f} s")


def measure_coverage(world: World, speakers: int, simulations: int) -> list[str]:
    """Count how often the intervals of WA, UA and F1 hold the truth: by the model of speakers, then by bootstrap."""
    random = np.random.default_rng(0)
    covered = np.zeros(6)
    for _ in range(simulations):
        targets, predictions, owners = world.draw(random, speakers)
        found = score_intervals(targets, predictions[0], owners.astype(str), len(world.sizes))
        intervals = [
            found.wa,
            found.ua,
            found.f1,
            *bootstrap(targets, predictions[0], owners, len(world.sizes), random),
        ]
        truths = (*world.truth, *world.truth)
        covered += [low <= truth <= high for (low, high), truth in zip(intervals, truths, strict=True)]
    return [f"{share:.1f}" for share in 100 * covered / simulations]


def bootstrap(
    targets: NDArray[np.int64],
    predictions: NDArray[np.int64],
    owners: NDArray[np.int64],
    classes: int,
    random: np.random.Generator,
) -> list[tuple[float, float]]:
    """Compute percentile intervals over resampled speakers."""
    speakers = owners.max() + 1
    own = np.stack(
        [confusion_matrix(targets[owners == one], predictions[:, owners == one], classes) for one in range(speakers)]
    )
    drawn = random.multinomial(speakers, np.full(speakers, 1 / speakers), 1000)
    matrices = np.tensordot(drawn, own, 1)
    return [tuple(np.percentile(score(matrices).mean(-1), (2.5, 97.5))) for score in (accuracy, mean_recall, mean_f1)]


def measure_claims(
    world: World,
    speakers: int,
    pairs: Sequence[tuple[int, int]],
    simulations: int,
    *,
    gain: float = 0.0,
    corrected: bool = True,
) -> str:
    """Count the families in which any pair differs at 5 %."""
    random = np.random.default_rng(0)
    claims = 0
    for _ in range(simulations):
        targets, predictions, owners = world.draw(random, speakers, systems=5, gain=gain)
        seeds = predictions.shape[1]
        shares = [
            recall_shares((one == targets).ravel(), np.tile(targets, seeds), np.tile(owners, seeds))
            for one in predictions
        ]
        first, second = (np.stack([shares[pair[side]] for pair in pairs], axis=1) for side in (0, 1))
        p_values = swap_p_values(first, second)
        claims += bool((holm_adjust(p_values) if corrected else p_values).min() <= 0.05)
    return f"{100 * claims / simulations:.1f}"


def time_table() -> list[float]:
    """Time tables of a study of IEMOCAP's size, with and without comparing."""
    world = World(name="IEMOCAP", sizes=(110, 163, 171, 109), recalls=(0.7, 0.6, 0.65, 0.7), interaction=0.3)
    random = np.random.default_rng(0)
    classes = ("anger", "happiness", "neutral", "sadness")
    with tempfile.TemporaryDirectory() as folder:
        rows, paths = [], []
        for encoder in ENCODERS:
            targets, predictions, owners = world.draw(random, 10, systems=5, seeds=5)
            for loss, own in zip(LOSSES, predictions, strict=True):
                paths.append(Path(folder) / f"{encoder}-{loss}.csv")
                write_predictions(paths[-1], classes, targets, own, owners)
                rows.append(
                    {"corpus": "iemocap", "encoder": encoder, "head": "linear", "loss": loss, "mode": "cached"}
                    | {"folds": "session", "classes": classes, "seeds": 5, "utterances": len(targets), "speakers": 10}
                    | dict.fromkeys(("wa", "ua", "f1", "wa_std", "ua_std", "f1_std"), 0.6)
                )
        seconds = []
        for predictions_of_runs in (paths, None):
            start = time.perf_counter()
            str(build_table(rows, predictions=predictions_of_runs))
            seconds.append(time.perf_counter() - start)
    return seconds


def write_predictions(
    path: Path,
    classes: Sequence[str],
    targets: NDArray[np.int64],
    predictions: NDArray[np.int64],
    owners: NDArray[np.int64],
) -> None:
    """Write a run's predictions as `embedkit fit` does."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["id", "speaker", "session", "label", "fold", "seed", "predicted", *(f"p_{c}" for c in classes)]
        )
        for seed, row in enumerate(predictions):
            for place, (truth, found, owner) in enumerate(zip(targets, row, owners, strict=True)):
                names = [f"Ses{owner:02}F_impro_{place:05}", f"Ses{owner:02}F", f"Ses{owner // 2:02}"]
                shares = ["0.123456"] * len(classes)
                writer.writerow([*names, classes[truth], f"Ses{owner // 2:02}", seed, classes[found], *shares])


if __name__ == "__main__":
    main()
