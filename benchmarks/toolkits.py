"""One emotion head on frozen embeddings: s3prl's and SpeechBrain's training loops beside embedkit's stack.

    pip install --no-deps --target PEERS s3prl speechbrain hyperpyyaml
    PYTHONPATH=PEERS python benchmarks/toolkits.py --folder /tmp/toolkits

The same synthetic embeddings for all: 1,000 utterances of 100 frames of 768. s3prl's head of its emotion task projects
frames to 256, averages them, and classifies; SpeechBrain's recipe for IEMOCAP averages them and classifies. Both get
frames that lie in memory, as those loops read them, and, in rows of their own, the utterance means that embedkit
reads. What is not installed, or cannot be imported, is left out, with the reason. Each row is a process of its own.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import Outcome, describe_machine, median, run_apart, show_table
from numpy.typing import NDArray
from scaling import write_store
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from training import BATCH, RATE_COMPARED, Data, load, pooled_recall, train_data

from embedkit.losses import LOSSES
from embedkit.store import open_store

UTTERANCES, FRAMES, DIMENSIONS = 1_000, 100, 768
PROJECTED = 256
"""As wide is the head that s3prl's emotion task configures."""

Batch = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    """Train with every toolkit that is there, in turn, and show seconds of one head's epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="what is written lies here")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / "frames.h5"
    write_store(path, UTTERANCES, 1, DIMENSIONS, frames=FRAMES, separation=0.1)
    ways: dict[str, tuple[Callable[..., Outcome], dict[str, Any]]] = {
        "embedkit, cross-entropy": (train_ours, {"losses": ["ce"]}),
        "embedkit, five losses": (train_ours, {"losses": list(LOSSES.names_in_all)}),
    }
    for name, way, needed in (
        ("s3prl", train_s3prl, "s3prl.downstream.model"),
        ("SpeechBrain", train_speechbrain, "speechbrain"),
    ):
        try:
            import_module(needed)
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        ways |= {f"{name}, {of}": (way, {"frames": of == "frames"}) for of in ("frames", "means")}
    found: dict[str, list[Outcome]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, (way, settings) in ways.items():
            found[name].append(run_apart(way, str(path), options.epochs, **settings))
    rows = []
    for name, outcomes in found.items():
        each = [1000 * one.seconds / one.heads / options.epochs for one in outcomes]
        spread = f"{min(each):.1f} to {max(each):.1f}"
        peak = f"{median(one.peak for one in outcomes):.0f}"
        rows.append([name, outcomes[0].heads, f"{median(each):.1f}", spread, f"{100 * outcomes[0].ua:.1f}", peak])
    title = (
        f"Folds by speaker, {options.epochs} epochs, batches of {BATCH}, Adam at {RATE_COMPARED}; {describe_machine()}"
    )
    show_table(title, ["", "heads", "ms a head and epoch", "of all runs", "UAR %", "peak MB"], rows)


def train_ours(path: str, epochs: int, *, losses: list[str]) -> Outcome:
    """Train one head per fold and loss on utterance means in stacks."""
    return train_data(load(path), epochs, losses=losses, device="cpu", rates=(RATE_COMPARED,), seeds=1)


def read_sequences(path: str, data: Data, *, frames: bool) -> list[Tensor]:
    """Return every utterance's frames `[frames, dimensions]`, or its mean as the only one."""
    if not frames:
        return list(torch.from_numpy(data.values))
    store = open_store(path)
    return [torch.from_numpy(store.frames(row)[:, 0].astype(np.float32)) for row in range(len(data.values))]


def batches(sequences: Sequence[Tensor], targets: NDArray[np.int64], index: NDArray[np.int64], *, train: bool) -> Any:
    """Return a DataLoader of padded utterances, their lengths and classes."""

    def collate(rows: Sequence[int]) -> Batch:
        chosen = [sequences[row] for row in rows]
        lengths = torch.tensor([len(one) for one in chosen])
        return pad_sequence(chosen, batch_first=True), lengths, torch.from_numpy(targets[list(rows)])

    return torch.utils.data.DataLoader(index.tolist(), batch_size=BATCH, shuffle=train, collate_fn=collate)  # type: ignore[arg-type]


def train_folds(path: str, *, frames: bool, fit: Callable[[Any], Callable[[Tensor, Tensor], Tensor]]) -> Outcome:
    """Train one head per fold, one after another, and pool what they predict.

    Args:
        path: The store.
        frames: Whether heads read frames, or means.
        fit: Trains a head on a DataLoader; returns what scores `[batch, frames, dimensions]` of these lengths.
    """
    data = load(path)
    sequences = read_sequences(path, data, frames=frames)
    predictions = []
    seconds = 0.0
    for fold in data.plan.folds:
        torch.manual_seed(0)
        loader = batches(sequences, data.targets, fold.train, train=True)
        start = time.perf_counter()
        score = fit(loader)
        seconds += time.perf_counter() - start
        with torch.no_grad():
            tested = batches(sequences, data.targets, fold.test, train=False)
            found = torch.cat([score(values, lengths).argmax(-1) for values, lengths, _ in tested])
        predictions.append((fold.test, found.numpy().astype(np.int64)))
    return Outcome(len(data.plan.folds), seconds, pooled_recall(data, predictions, seeds=1))


def train_s3prl(path: str, epochs: int, *, frames: bool) -> Outcome:
    """Train the head of s3prl's emotion task, its modules in the order of its expert's `forward`."""
    from s3prl.downstream.model import UtteranceLevel

    def fit(loader: Any) -> Callable[[Tensor, Tensor], Tensor]:
        projector = nn.Linear(DIMENSIONS, PROJECTED)
        model = UtteranceLevel(input_dim=PROJECTED, output_dim=4, pooling="MeanPooling")
        optimizer = torch.optim.Adam([*projector.parameters(), *model.parameters()], lr=RATE_COMPARED)
        objective = nn.CrossEntropyLoss()

        def score(values: Tensor, lengths: Tensor) -> Tensor:
            found: Tensor = model(projector(values), lengths)[0]
            return found

        for _ in range(epochs):
            for values, lengths, labels in loader:
                loss = objective(score(values, lengths), labels)
                loss.backward()
                # Its runner clips gradients to a norm of 1 before each step.
                nn.utils.clip_grad_norm_([*projector.parameters(), *model.parameters()], 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return score

    return train_folds(path, frames=frames, fit=fit)


def train_speechbrain(path: str, epochs: int, *, frames: bool) -> Outcome:
    """Train SpeechBrain's head for IEMOCAP by the loop of its `Brain`."""
    import speechbrain
    from speechbrain.nnet.linear import Linear
    from speechbrain.nnet.losses import nll_loss
    from speechbrain.nnet.pooling import StatisticsPooling

    class Emotion(speechbrain.Brain):  # type: ignore[misc]
        def compute_forward(self, batch: Batch, stage: Any) -> Tensor:
            values, lengths, _ = batch
            pooled = self.modules.pool(values, lengths / values.shape[1])
            return self.modules.output(pooled.view(len(values), -1)).log_softmax(-1)

        def compute_objectives(self, predictions: Tensor, batch: Batch, stage: Any) -> Tensor:
            found: Tensor = nll_loss(predictions, batch[2])
            return found

    def fit(loader: Any) -> Callable[[Tensor, Tensor], Tensor]:
        modules = {
            "pool": StatisticsPooling(return_std=False),
            "output": Linear(input_size=DIMENSIONS, n_neurons=4, bias=False),
        }
        brain = Emotion(modules, lambda parameters: torch.optim.Adam(parameters, lr=RATE_COMPARED))
        brain.fit(range(epochs), loader, progressbar=False)
        brain.modules.eval()
        return lambda values, lengths: brain.compute_forward((values, lengths, lengths), None)

    return train_folds(path, frames=frames, fit=fit)


if __name__ == "__main__":
    main()
