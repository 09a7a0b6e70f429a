"""What Whisper's window costs and what it buys: seconds, and UA of logistic regression, speaker by speaker.

python benchmarks/whisper_window.py CORPUS WHISPER_FOLDER
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import describe_machine, show_table, spread_corpus
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import embedkit
from embedkit.store import Store


def main() -> None:
    """Extract under each window and score the embeddings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus")
    parser.add_argument("whisper")
    parser.add_argument("--windows", nargs="+", default=["30", "10", "clip"])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--limit", type=int, help="utterances, evenly spread")
    options = parser.parse_args()
    corpus = spread_corpus(options.corpus, options.limit)
    rows = []
    for window in options.windows:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter(), time.process_time()
            store = embedkit.extract(
                corpus,
                encoder=options.whisper,
                out=Path(folder) / "store.h5",
                window=window,
                precision=options.precision,
                threads=options.threads,
                tell=print,
            )
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            middle = store.layers[len(store.layers) // 2]
            scores = [score(store, layer) for layer in ("average", middle, store.layers[-1])]
            rows.append([window, f"{wall:.1f}", f"{cpu:.1f}", *(f"{value:.3f}" for value in scores)])
    title = f"{corpus.name}, {len(corpus.utterances)} utterances, {options.precision}; {describe_machine()}"
    columns = ["window", "seconds", "CPU seconds", "UA mean of layers", "UA middle layer", "UA last layer"]
    show_table(title, columns, rows)


def score(store: Store, layer: int | str) -> float:
    """Return the mean recall of logistic regression (C=0.01, standardised), one speaker held out at a time."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=5000))
    guessed = cross_val_predict(model, store.mean(layer), store.labels, groups=store.speakers, cv=LeaveOneGroupOut())
    return float(np.mean(recall_score(store.labels, guessed, average=None)))


if __name__ == "__main__":
    main()
