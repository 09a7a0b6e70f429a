"""How often a table calls the same loss under other seeds different, on stores of real speech (an A/A trial).

    python benchmarks/same_loss.py STORE ... [--seeds 60] [--size 3 5] [--draws 400]

Each store is fitted with many seeds under four schemes: a given split, another half of the speakers (`--test-on`),
five folds and folds by speaker. Disjoint groups of seeds are drawn and compared as `embedkit table` compares losses.
Groups of different draws share seeds, so a share is known no better than from seeds / (2 size) independent pairs, which
are shown.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import describe_machine

import embedkit
from embedkit.reporting.comparison import compare_runs
from embedkit.store import Store, StoreContent, UtteranceEmbedding, open_store, write_store

COLUMNS = ("id", "path", "label", "speaker", "gender")
SCHEMES: dict[str, dict[str, Any]] = {
    "given split": {"folds": "split"},
    "another half (test-on)": {},
    "5 folds": {"folds": "session"},
    "folds by speaker": {"folds": "speaker"},
}


def main() -> None:
    """Fit, draw, and print a line for each store and scheme."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="+")
    parser.add_argument("--seeds", type=int, default=60)
    parser.add_argument("--size", type=int, nargs="+", default=[3, 5])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--scheme", nargs="+", choices=SCHEMES, default=list(SCHEMES))
    told = parser.parse_args()
    print(describe_machine())
    print("| store | scheme | systems | test | " + " | ".join(f"{size} seeds" for size in told.size) + " |", flush=True)
    with tempfile.TemporaryDirectory(prefix="embedkit-same-") as folder:
        for path in told.stores:
            store = open_store(path)
            speakers = np.unique(store.speakers)
            whole, *halves = (
                derive(store, Path(folder), f"{store.corpus}-{name}", own)
                for name, own in (("whole", speakers), ("a", speakers[::2]), ("b", speakers[1::2]))
            )
            for scheme in told.scheme:
                options = SCHEMES[scheme]
                own = options or {"test_on": halves[1]}
                (record,) = embedkit.fit(
                    whole if options else halves[0],
                    ["ce"],
                    head=["linear"],
                    lr=(1e-2,),
                    seeds=told.seeds,
                    epochs=told.epochs,
                    threads=1,
                    runs=Path(folder) / "runs" / Path(path).stem,
                    **own,
                )
                print(f"| {Path(path).stem} | {scheme} | {measure(record, told.size, told.draws)} |", flush=True)


def derive(store: Store, folder: Path, name: str, speakers: Sequence[str]) -> Path:
    """Write means and deviations of some speakers anew, with five sessions and a split of whole speakers."""
    taken = np.flatnonzero(np.isin(store.speakers, speakers))
    place = {speaker: number for number, speaker in enumerate(speakers)}
    numbers = np.array([place[speaker] for speaker in store.speakers[taken]])
    columns = {column: store.column(column)[taken].tolist() for column in COLUMNS if column in store.columns}
    columns["session"] = [f"session{number % 5}" for number in numbers]
    columns["split"] = ["train" if number < 0.6 * len(speakers) else "test" for number in numbers]
    content = StoreContent(
        corpus=name,
        corpus_info={"kind": "manifest", "root": "/corpus", "task": {"classes": [], "merge": {}}, "notes": []},
        encoder=store.encoder,
        fingerprint=store.fingerprint,
        columns=columns,
        extraction=store.extraction,
    )
    means, deviations = store.mean("all")[taken], store.std("all")[taken]
    path = folder / f"{store.path.stem}-{name}.h5"
    write_store(path, content, [UtteranceEmbedding(*pair, None) for pair in zip(means, deviations, strict=True)])
    return path


def measure(record: Any, sizes: Sequence[int], draws: int) -> str:
    """Count draws in which two disjoint groups of seeds differ, by the code of the table."""
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        header, *lines = csv.reader(file)
    column, seeds = header.index("seed"), sorted({line[header.index("seed")] for line in lines}, key=int)
    by_seed = {seed: [line for line in lines if line[column] == seed] for seed in seeds}
    random = np.random.default_rng(0)
    shares = []
    tests: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            claims = 0
            rows = [{**record.metrics, "loss": loss, "loss_options": {}, "seeds": size} for loss in ("ce", "focal")]
            for _ in range(draws):
                drawn = random.permutation(seeds)[: 2 * size]
                paths = [Path(folder) / f"{place}.csv" for place in (0, 1)]
                for place, path in enumerate(paths):
                    write(path, header, [by_seed[seed] for seed in drawn[place::2]], column)
                tests = [test for test in compare_runs(rows, paths)[1].differences if test.family == "losses"]
                claims += tests[0].differs
            shares.append(f"{100 * claims / draws:.1f} ({len(seeds) // (2 * size)})")
    return " | ".join([str(tests[0].systems), tests[0].method, *shares])


def write(path: Path, header: Sequence[str], groups: Sequence[Sequence[Sequence[str]]], column: int) -> None:
    """Write predictions whose seeds are numbered anew."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for number, lines in enumerate(groups):
            writer.writerows([*line[:column], number, *line[column + 1 :]] for line in lines)


if __name__ == "__main__":
    main()
