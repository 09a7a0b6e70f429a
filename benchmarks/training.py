"""Small heads on stored embeddings: embedkit's stacks beside what people write, each timed in the same run.

    python benchmarks/training.py embeddings/emodb/whisper-base.h5
    python benchmarks/training.py embeddings/emodb/whisper-base.h5 --search
    python benchmarks/training.py embeddings/emodb/mfcc.h5 --frames
    python benchmarks/training.py --synthetic

With a store: linear heads on learned weights over all layers, folds by speaker, 100 epochs, nothing stopped early.
Every alternative runs in a process of its own, so that its peak memory is its own. `--search` instead lets the plain
loop search as embedkit does (rates on pooled inner folds, then refit) and compares the UA. `--frames` trains LSTMs on a
store that keeps frames, beside a loop over padded and over packed batches of torch's own LSTM. `--synthetic` trains one
row of a table of IEMOCAP's size: 5 losses, 5 folds, 5 seeds and 4 rates on 5,531 utterances of 13 layers of 768.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from common import Outcome, describe_machine, median, run_apart, show_table
from numpy.typing import NDArray
from torch import nn

from embedkit.evaluation.metrics import unweighted_average_recall
from embedkit.heads import resolve_head, resolve_heads
from embedkit.losses import LOSSES, build_loss
from embedkit.store import open_store
from embedkit.system import count_cores
from embedkit.training.cross_validation import train_losses
from embedkit.training.data.features import UtteranceFeatures
from embedkit.training.data.folds import FoldPlan, plan_folds
from embedkit.training.data.store_source import StoreSource
from embedkit.training.data.targets import ClassTargets
from embedkit.training.search import build_grid
from embedkit.training.selection import choose, pooled_scores
from embedkit.training.stacks.schedule import run_groups
from embedkit.training.stacks.scoring import score_states
from embedkit.training.stacks.stack import Group, Member, TrainingConfig

RATES = (3e-4, 1e-3, 3e-3)
BATCH = 32
RATE_COMPARED = 1e-3


@dataclass(frozen=True)
class Data:
    """Utterance means `[utterances, layers, dimensions]`, classes, speakers and the folds."""

    values: NDArray[np.float32]
    targets: NDArray[np.int64]
    plan: FoldPlan


def main() -> None:
    """Run what was asked for and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", nargs="?", help="a store of Whisper-base (or another encoder) on EmoDB")
    parser.add_argument("--synthetic", action="store_true")
    parser.add_argument("--search", action="store_true")
    parser.add_argument("--frames", action="store_true")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    print(describe_machine())
    if options.synthetic:
        report_synthetic(options)
    elif options.store is None:
        parser.error("name a store, or --synthetic")
    elif options.search:
        report_search(options)
    elif options.frames:
        report_frames(options)
    else:
        report_alternatives(options)


def report_alternatives(options: argparse.Namespace) -> None:
    """Time every way of training the same linear heads."""
    ways: dict[str, tuple[Callable[..., Outcome], dict[str, Any]]] = {
        "embedkit, five losses": (train_stacked, {"losses": list(LOSSES.names_in_all), "device": options.device}),
        "embedkit, cross-entropy": (train_stacked, {"losses": ["ce"], "device": options.device}),
        "plain loop, 1 thread": (train_plain, {"threads": 1}),
        "plain loop, all threads": (train_plain, {"threads": count_cores()}),
    }
    if find_spec("skorch") is not None:
        ways["skorch"] = (train_skorch, {})
    ways["scikit-learn, logistic regression"] = (fit_logistic, {})
    found: dict[str, list[Outcome]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, (way, settings) in ways.items():
            found[name].append(run_apart(way, options.store, options.epochs, **settings))
    rates = {name: median(60 * one.heads / one.seconds for one in outcomes) for name, outcomes in found.items()}
    plain = max(rate for name, rate in rates.items() if name.startswith("plain loop"))
    rows = [
        (
            name,
            outcomes[0].heads,
            f"{rates[name]:.0f}",
            f"{rates[name] / plain:.1f}",
            f"{100 * outcomes[0].ua:.1f}",
            f"{median(one.peak for one in outcomes):.0f}",
        )
        for name, outcomes in found.items()
    ]
    title = (
        f"Linear heads, {options.epochs} epochs, batches of {BATCH}; UA of cross-entropy at a rate of {RATE_COMPARED}"
    )
    show_table(title, ["", "heads", "heads a minute", "to plain", "UA %", "peak MB"], rows)


def report_search(options: argparse.Namespace) -> None:
    """Compare embedkit's search with the same search by the plain loop: 30 epochs, one seed, cross-entropy."""
    ways = {"embedkit": search_stacked, "plain loop": search_plain}
    rows = []
    for name, way in ways.items():
        one = run_apart(way, options.store, 30)
        rows.append((name, one.heads, f"{one.seconds:.0f}", f"{100 * one.ua:.1f}"))
    show_table("The same search, cross-entropy, three seeds", ["", "heads", "seconds", "UA %"], rows)


def report_frames(options: argparse.Namespace) -> None:
    """Time LSTMs on frames: one head per fold, five epochs."""
    ways: dict[str, tuple[Callable[..., Outcome], dict[str, Any]]] = {
        "embedkit, lstm": (train_frames, {"head": "lstm"}),
        "embedkit, lstm on every frame": (train_frames, {"head": "lstm:subsampling=1"}),
        "embedkit, cnn": (train_frames, {"head": "cnn"}),
        "plain loop, padded": (train_plain_frames, {"packed": False}),
        "plain loop, packed": (train_plain_frames, {"packed": True}),
    }
    found: dict[str, list[Outcome]] = {name: [] for name in ways}
    for _ in range(options.runs):
        for name, (way, settings) in ways.items():
            found[name].append(run_apart(way, options.store, 5, **settings))
    seconds = {name: median(one.seconds / one.heads / 5 for one in outcomes) for name, outcomes in found.items()}
    rows = [
        (name, f"{1000 * seconds[name]:.0f}", f"{seconds['plain loop, padded'] / seconds[name]:.1f}") for name in found
    ]
    show_table("Heads on frames, batches of 32", ["", "ms an epoch and head", "to plain, padded"], rows)


def report_synthetic(options: argparse.Namespace) -> None:
    """Time one row of a table of IEMOCAP's size."""
    one = run_apart(train_synthetic, None, 30, device=options.device)
    rows = [(one.heads, f"{one.seconds:.0f}", f"{60 * one.heads / one.seconds:.0f}", f"{one.peak:.0f}")]
    show_table("5,531 x 13 x 768, 30 epochs", ["heads", "seconds", "heads a minute", "peak MB"], rows)


def load(path: str) -> Data:
    """Read a store's means, with one fold per speaker."""
    store = open_store(path)
    classes, targets = np.unique(store.labels, return_inverse=True)
    assert len(classes) > 1
    plan = plan_folds(
        "speaker", labels=store.labels, speakers=store.speakers, groups=None, splits=store.splits, hold_out=False
    )
    return Data(store.mean(layer="all"), targets.astype(np.int64), plan)


def synthetic(utterances: int, classes: int, groups: int, *, layers: int = 13, dimensions: int = 768) -> Data:
    """Draw embeddings of a corpus's size, with a direction for each class, and one fold per group of speakers."""
    generator = np.random.default_rng(0)
    targets = generator.integers(0, classes, utterances)
    values = generator.standard_normal((utterances, layers, dimensions), dtype=np.float32)
    values += 0.05 * generator.standard_normal((classes, layers, dimensions), dtype=np.float32)[targets]
    owners = generator.integers(0, groups, utterances).astype(str)
    return Data(values, targets, plan_folds("speaker", labels=targets.astype(str), speakers=owners, hold_out=False))


def train_stacked(path: str, epochs: int, *, losses: list[str], device: str) -> Outcome:
    """Train one head per fold, loss, rate and seed in embedkit's stacks."""
    return train_data(load(path), epochs, losses=losses, device=device, rates=RATES, seeds=3)


def train_data(
    data: Data, epochs: int, *, losses: list[str], device: str, rates: tuple[float, ...], seeds: int
) -> Outcome:
    """Train one head per fold, loss, rate and seed; UA is that of cross-entropy at `RATE_COMPARED`."""
    classes = int(data.targets.max()) + 1
    config = TrainingConfig(head=resolve_head("linear"), classes=classes, epochs=epochs, batch_size=BATCH)
    nothing = np.zeros(0, dtype=np.int64)
    start = time.perf_counter()
    features = UtteranceFeatures(data.values, device)
    recalls = []
    groups = [
        Group(train=fold.train, validate=nothing, seed=seed, members=members_of(losses, seed, epochs, rates))
        for fold in data.plan.folds
        for seed in range(seeds)
    ]
    results = run_groups(features, data.targets, groups, config, keep_best=False, threads=count_cores())
    for place, (group, result) in enumerate(zip(groups, results, strict=True)):
        fold = data.plan.folds[place // seeds]
        for member, state in zip(group.members, result.states, strict=True):
            if member.loss.spec == "ce" and member.learning_rate == RATE_COMPARED:
                shares = score_states(features, [state], build_loss("ce"), result.standardiser, fold.test, config)
                recalls.append((fold.test, shares[0].argmax(-1)))
    heads = sum(len(group.members) for group in groups)
    return Outcome(heads, time.perf_counter() - start, pooled_recall(data, recalls, seeds=seeds))


def members_of(losses: list[str], seed: int, epochs: int, rates: tuple[float, ...]) -> tuple[Member, ...]:
    """List the heads of one group."""
    return tuple(
        Member(loss=build_loss(loss), seed=seed, learning_rate=rate, epochs=epochs) for loss in losses for rate in rates
    )


def pooled_recall(data: Data, predictions: list[tuple[NDArray[np.int64], NDArray[np.int64]]], *, seeds: int) -> float:
    """Pool the test predictions of all folds seed by seed (folds outermost) and average the UA over seeds."""
    scores = []
    for seed in range(seeds):
        own = predictions[seed::seeds]
        index, predicted = np.concatenate([part[0] for part in own]), np.concatenate([part[1] for part in own])
        scores.append(float(unweighted_average_recall(data.targets[index], predicted, int(data.targets.max()) + 1)))
    return float(np.mean(scores))


class LayerMixClassifier(nn.Module):
    """The head as people write it: softmax weights over layers, then one linear layer."""

    def __init__(self, layers: int, dimensions: int, classes: int) -> None:
        super().__init__()
        self.layer_weights = nn.Parameter(torch.zeros(layers))
        self.linear = nn.Linear(dimensions, classes)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Score `[batch, layers, dimensions]`."""
        mixed = (values * self.layer_weights.softmax(0)[None, :, None]).sum(1)
        scores: torch.Tensor = self.linear(mixed)
        return scores


def standardise(values: NDArray[np.float32], train: NDArray[np.int64]) -> NDArray[np.float32]:
    """Standardise by the training side."""
    scaled: NDArray[np.float32] = (values - values[train].mean(0)) / (values[train].std(0) + 1e-8)
    return scaled


def plain_epochs(
    values: torch.Tensor, targets: torch.Tensor, *, rate: float, seed: int, epochs: int, classes: int
) -> Iterator[LayerMixClassifier]:
    """Train one head with a DataLoader over a TensorDataset and Adam; yield it after every epoch."""
    torch.manual_seed(seed)
    model = LayerMixClassifier(values.shape[1], values.shape[2], classes)
    dataset = torch.utils.data.TensorDataset(values, targets)
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(epochs):
        model.train()
        for batch, labels in loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), labels).backward()
            optimizer.step()
        yield model.eval()


@torch.no_grad()
def predict(model: nn.Module, values: torch.Tensor) -> NDArray[np.int64]:
    """Return predicted classes."""
    found: NDArray[np.int64] = model(values).argmax(-1).numpy()
    return found


def train_plain(path: str, epochs: int, *, threads: int) -> Outcome:
    """Train one head per fold with the loop that people write, one after another."""
    torch.set_num_threads(threads)
    data = load(path)
    classes = int(data.targets.max()) + 1
    start = time.perf_counter()
    predictions = []
    for fold in data.plan.folds:
        values = torch.from_numpy(standardise(data.values, fold.train))
        targets = torch.from_numpy(data.targets)
        settings = {"rate": RATE_COMPARED, "seed": 0, "epochs": epochs, "classes": classes}
        *_, model = plain_epochs(values[fold.train], targets[fold.train], **settings)
        predictions.append((fold.test, predict(model, values[fold.test])))
    seconds = time.perf_counter() - start
    return Outcome(len(data.plan.folds), seconds, pooled_recall(data, predictions, seeds=1))


def train_skorch(path: str, epochs: int) -> Outcome:
    """Train one head per fold with skorch."""
    from skorch import NeuralNetClassifier

    data = load(path)
    classes = int(data.targets.max()) + 1
    start = time.perf_counter()
    predictions = []
    for fold in data.plan.folds:
        values = standardise(data.values, fold.train)
        torch.manual_seed(0)
        net = NeuralNetClassifier(
            LayerMixClassifier,
            module__layers=values.shape[1],
            module__dimensions=values.shape[2],
            module__classes=classes,
            criterion=nn.CrossEntropyLoss,
            optimizer=torch.optim.Adam,
            lr=RATE_COMPARED,
            max_epochs=epochs,
            batch_size=BATCH,
            iterator_train__shuffle=True,
            train_split=None,
            verbose=0,
        )
        net.fit(values[fold.train], data.targets[fold.train])
        predictions.append((fold.test, net.predict(values[fold.test]).astype(np.int64)))
    seconds = time.perf_counter() - start
    return Outcome(len(data.plan.folds), seconds, pooled_recall(data, predictions, seeds=1))


def fit_logistic(path: str, epochs: int) -> Outcome:
    """Fit scikit-learn's logistic regression on all layers side by side (C = 0.01)."""
    from sklearn.linear_model import LogisticRegression

    data = load(path)
    start = time.perf_counter()
    predictions = []
    for fold in data.plan.folds:
        values = standardise(data.values, fold.train).reshape(len(data.values), -1)
        model = LogisticRegression(C=0.01, max_iter=1000).fit(values[fold.train], data.targets[fold.train])
        predictions.append((fold.test, model.predict(values[fold.test])))
    seconds = time.perf_counter() - start
    return Outcome(len(data.plan.folds), seconds, pooled_recall(data, predictions, seeds=1))


def train_frames(path: str, epochs: int, *, head: str) -> Outcome:
    """Train one head on frames per fold."""
    store = open_store(path)
    data = load(path)
    features = StoreSource(store).features(np.arange(len(store)), "frame")
    nothing = np.zeros(0, dtype=np.int64)
    config = TrainingConfig(
        head=resolve_head(head), classes=int(data.targets.max()) + 1, epochs=epochs, batch_size=BATCH
    )
    members = members_of(["ce"], 0, epochs, (RATE_COMPARED,))
    groups = [Group(train=fold.train, validate=nothing, seed=0, members=members) for fold in data.plan.folds]
    start = time.perf_counter()
    run_groups(features, data.targets, groups, config, keep_best=False, threads=count_cores())
    return Outcome(len(groups), time.perf_counter() - start, float("nan"))


class PlainLstm(nn.Module):
    """The study's LSTM as people write it: bidirectional, mean over own frames, one linear layer."""

    def __init__(self, dimensions: int, classes: int, *, packed: bool) -> None:
        super().__init__()
        self.packed = packed
        self.lstm = nn.LSTM(dimensions, 64, batch_first=True, bidirectional=True)
        self.linear = nn.Linear(128, classes)

    def forward(self, frames: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Score padded frames `[batch, frames, dimensions]`."""
        if self.packed:
            inputs = nn.utils.rnn.pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
            states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(inputs)[0], batch_first=True)
        else:
            states, _ = self.lstm(frames)
        own = torch.arange(states.shape[1])[None] < lengths[:, None]
        scores: torch.Tensor = self.linear((states * own[..., None]).sum(1) / lengths[:, None])
        return scores


def train_plain_frames(path: str, epochs: int, *, packed: bool) -> Outcome:
    """Train one LSTM on every frame per fold with a DataLoader that pads its batches."""
    store = open_store(path)
    data = load(path)
    folds = data.plan.folds[:2]
    utterances = [torch.from_numpy(np.array(store.frames(row)[:, 0], dtype=np.float32)) for row in range(len(store))]

    def collate(rows: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        frames = nn.utils.rnn.pad_sequence([utterances[row] for row in rows], batch_first=True)
        lengths = torch.tensor([len(utterances[row]) for row in rows])
        return frames, lengths, torch.from_numpy(data.targets[rows])

    start = time.perf_counter()
    for fold in folds:
        torch.manual_seed(0)
        model = PlainLstm(utterances[0].shape[1], int(data.targets.max()) + 1, packed=packed)
        optimizer = torch.optim.Adam(model.parameters(), lr=RATE_COMPARED)
        rows = fold.train.tolist()
        loader = torch.utils.data.DataLoader(rows, batch_size=BATCH, shuffle=True, collate_fn=collate)
        for _ in range(epochs):
            for frames, lengths, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(frames, lengths), labels).backward()
                optimizer.step()
    return Outcome(len(folds), time.perf_counter() - start, float("nan"))


def search_stacked(path: str, epochs: int) -> Outcome:
    """Search rates and epochs on inner folds and refit, as `embedkit fit --loss ce` does."""
    data = load(path)
    classes = int(data.targets.max()) + 1
    heads = 0

    def count(groups: Any, results: Any) -> None:
        nonlocal heads
        heads += sum(len(group.members) for group in groups)

    start = time.perf_counter()
    found = train_losses(
        UtteranceFeatures(data.values),
        data.targets,
        data.plan,
        TrainingConfig(head=resolve_head("linear"), classes=classes, epochs=epochs, batch_size=BATCH),
        [build_loss("ce")],
        grid=build_grid(resolve_heads("linear"), RATES),
        seeds=(0, 1, 2),
        threads=count_cores(),
        on_stack=count,
    )["ce"]
    seconds = time.perf_counter() - start
    predictions = [(one.fold.test, shares.argmax(-1)) for one in found for shares in one.outputs]
    return Outcome(heads, seconds, pooled_recall(data, predictions, seeds=3))


def search_plain(path: str, epochs: int) -> Outcome:
    """Search and refit with the plain loop: the same rates, inner folds, smoothing and seeds."""
    torch.set_num_threads(1)
    data = load(path)
    classes = int(data.targets.max()) + 1
    targets, truth = torch.from_numpy(data.targets), ClassTargets(data.targets, classes)
    heads, predictions = 0, []
    start = time.perf_counter()
    for fold in data.plan.folds:
        for seed in range(3):
            found = [np.empty((len(RATES), epochs, len(inner[1])), dtype=np.int16) for inner in fold.validations]
            for place, (train, validate) in enumerate(fold.validations):
                values = torch.from_numpy(standardise(data.values, train))
                for number, rate in enumerate(RATES):
                    models = plain_epochs(
                        values[train], targets[train], rate=rate, seed=seed, epochs=epochs, classes=classes
                    )
                    for epoch, model in enumerate(models):
                        found[place][number, epoch] = predict(model, values[validate])
                    heads += 1
            choice = choose(pooled_scores(truth, [inner[1] for inner in fold.validations], found))
            values = torch.from_numpy(standardise(data.values, fold.train))
            settings = {"rate": RATES[choice.candidate], "seed": seed, "epochs": choice.epochs, "classes": classes}
            *_, model = plain_epochs(values[fold.train], targets[fold.train], **settings)
            heads += 1
            predictions.append((fold.test, predict(model, values[fold.test])))
    return Outcome(heads, time.perf_counter() - start, pooled_recall(data, predictions, seeds=3))


def train_synthetic(path: None, epochs: int, *, device: str) -> Outcome:
    """Train 500 heads on synthetic embeddings of IEMOCAP's size."""
    losses, rates = list(LOSSES.names_in_all), (1e-4, 3e-4, 1e-3, 3e-3)
    return train_data(synthetic(5531, 4, 5), epochs, losses=losses, device=device, rates=rates, seeds=5)


if __name__ == "__main__":
    main()
