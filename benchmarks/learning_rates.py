"""What the grid of learning rates decides: inner scores by grid, and what halving it would choose.

    python benchmarks/learning_rates.py [stores ...] --head linear mlp --loss all

Seven rates are searched once; every smaller grid, and halving after a third of the epochs, is read off the same inner
predictions. Without stores two synthetic ones are made: 12 speakers of 30 utterances, one with two strong directions a
class, one with weak ones.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import embedkit
from embedkit.store import StoreContent, UtteranceEmbedding, write_store
from embedkit.training import cross_validation
from embedkit.training.selection import Choice, choose, smooth_scores

RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
GRIDS = {
    "3e-4 to 3e-3": (0, 3),
    "1e-3 to 3e-2": (1, 5),
    "1e-3 to 1e-1": (1, 6),
    "one lower": (0, 6),
    "one higher": (1, 7),
}
DEFAULT = "1e-3 to 1e-1"


def main() -> None:
    """Search, and print one line for each store, head and loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*")
    parser.add_argument("--head", nargs="+", default=["linear", "mlp"])
    parser.add_argument("--loss", nargs="+", default=["all"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=30)
    told = parser.parse_args()
    print("store, head, loss | " + " | ".join(GRIDS) + " | same after halving | lost by it", flush=True)
    with tempfile.TemporaryDirectory(prefix="embedkit-rates-") as folder:
        stores = told.stores or [str(write_synthetic(Path(folder), shift)) for shift in (1.0, 0.35)]
        for store in stores:
            for head in told.head:
                losses = told.loss if told.loss != ["all"] else ["ce", "label-smoothing", "focal", "aam", "ccc"]
                with listening() as heard:
                    embedkit.fit(
                        store, losses, head=[head], lr=RATES, seeds=told.seeds, epochs=told.epochs, runs=folder
                    )
                own = split(heard, len(losses))
                for loss, scores in zip(losses, own, strict=True):
                    print(f"{Path(store).stem}, {head}, {loss} | {describe(scores)}", flush=True)


@contextmanager
def listening() -> Iterator[list[NDArray[np.float64]]]:
    """Keep the inner scores `[rates, epochs]` of every choice, loss after loss."""
    heard: list[NDArray[np.float64]] = []

    def hear(scores: NDArray[np.float64], **options: Any) -> Choice:
        heard.append(scores)
        return choose(scores, **options)

    cross_validation.choose = hear  # type: ignore[attr-defined]
    try:
        yield heard
    finally:
        cross_validation.choose = choose  # type: ignore[attr-defined]


def split(heard: list[NDArray[np.float64]], parts: int) -> list[list[NDArray[np.float64]]]:
    """Divide what was heard into equal consecutive parts."""
    size = len(heard) // parts
    return [heard[place * size : (place + 1) * size] for place in range(parts)]


def describe(found: list[NDArray[np.float64]]) -> str:
    """Write the mean inner score under each grid, how often halving chooses the same, and what it loses (points)."""
    means = {
        name: 100 * np.mean([choose(scores[first:last]).score for scores in found])
        for name, (first, last) in GRIDS.items()
    }
    first, last = GRIDS[DEFAULT]
    pairs = [(choose(scores[first:last]), halve(scores[first:last])) for scores in found]
    same = np.mean([whole.candidate == half.candidate for whole, half in pairs])
    lost = 100 * np.mean([whole.score - half.score for whole, half in pairs])
    return " | ".join([*(f"{value:.1f}" for value in means.values()), f"{100 * same:.0f} %", f"{lost:.2f}"])


def halve(scores: NDArray[np.float64]) -> Choice:
    """Choose among the better half of the rates, rounded up, after a third of the epochs."""
    early = smooth_scores(scores[:, : max(1, scores.shape[1] // 3)])[:, -1]
    order = np.argsort(-early, kind="stable")[: -(-len(scores) // 2)]
    kept = np.sort(order)
    choice = choose(scores[kept])
    return Choice(candidate=int(kept[choice.candidate]), epochs=choice.epochs, score=choice.score)


def write_synthetic(folder: Path, strength: float) -> Path:
    """Write a store of frames: every class has a direction of its own, every speaker a shift."""
    rng = np.random.default_rng(round(100 * strength))
    speakers, each, classes, dimensions = 12, 30, 4, 48
    directions = strength * rng.normal(size=(classes, 2, dimensions))
    columns: dict[str, Any] = {name: [] for name in ("id", "path", "label", "speaker", "session", "split")}
    rows = []
    for speaker in range(speakers):
        shift = 0.5 * rng.normal(size=(2, dimensions))
        for number in range(each):
            label, frames = number % classes, int(rng.integers(20, 60))
            centre = directions[label] * rng.uniform(0, 0.6) + shift + 0.8 * rng.normal(size=(2, dimensions))
            values = (centre + rng.normal(size=(frames, 2, dimensions))).astype("float32")
            rows.append(UtteranceEmbedding(values.mean(0), values.std(0), values))
            name = f"s{speaker:02d}-{number:02d}"
            told = (name, f"{name}.wav", f"class{label}", f"s{speaker:02d}", "", "")
            for column, value in zip(columns, told, strict=True):
                columns[column].append(value)
    path = folder / f"synthetic-{strength:g}.h5"
    content = StoreContent(
        corpus=f"synthetic-{strength:g}",
        corpus_info={"kind": "manifest", "root": "/corpus", "task": {"classes": [], "merge": {}}, "notes": []},
        encoder={"name": "synthetic", "layers": [0, 1], "dimensions": dimensions, "frame_rate": 50.0},
        fingerprint="0" * 64,
        columns=columns,
        frame_dtype="float32",
        frame_counts=[len(row.frames) for row in rows if row.frames is not None],
        failures={},
        extraction={"options": {"frame_dtype": "float32", "max_seconds": None}},
    )
    write_store(path, content, rows)
    return path


if __name__ == "__main__":
    main()
