"""Fit heads on stores under every loss, on one protocol."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from embedkit.errors import FitError, RunError
from embedkit.heads import resolve_head
from embedkit.losses import LOSSES, build_loss
from embedkit.registry import parse_spec
from embedkit.store.reader import Store, open_store
from embedkit.training.cached import count_heads, default_threads, train_cell
from embedkit.training.features import Features
from embedkit.training.folds import FoldPlan, default_folds, describe_folds, plan_folds
from embedkit.training.results import describe_choices, head_tensors, prediction_rows, summarise
from embedkit.training.runs import RUN_FORMAT_VERSION, RunRecord, digest_of, read_run, write_run
from embedkit.training.stack import Recipe
from embedkit.training.task import TaskData, define_task, fold_column, load_features, require_frames
from embedkit.workflows.progress import Progress, show_progress

ALGORITHM = 1
"""Raised when training changes in a way that changes results, so that old runs are not taken for new ones."""

DEFAULT_LEARNING_RATES = (3e-4, 1e-3, 3e-3)

DEFAULT_HEADS = {"mfcc": "lstm", "logmel": "cnn", "vggish": "mlp"}

Tell = Callable[[str], None]


def fit_heads(
    stores: Store | str | Path | Sequence[Store | str | Path],
    losses: Sequence[str] | str = ("ce",),
    *,
    heads: Sequence[str] | str | None = None,
    folds: str | None = None,
    seeds: int = 3,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    learning_rates: Sequence[float] = DEFAULT_LEARNING_RATES,
    epochs: int = 30,
    batch_size: int = 32,
    weight_decay: float = 0.0,
    device: str = "auto",
    threads: int | None = None,
    runs: str | Path = "runs",
    overwrite: bool = False,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
) -> list[RunRecord]:
    """Train every head under every loss on every store and keep one run folder each.

    A run that is there already, on the same data and with the same settings, is not trained again.

    Args:
        stores: Stores, or their paths.
        losses: Names with settings ("ce", "focal:gamma=1.5"); "all" stands for every loss.
        heads: Names with settings; None for the encoder's own (mfcc lstm, logmel cnn, vggish mlp, others linear).
        folds: "session", "speaker", "split", "random" or a column; None for sessions where there are some.
        seeds: How many; they are 0, 1, 2, ...
        classes, merge, where: The task; None for the corpus's standard one (see `define_task`).
        learning_rates: Searched for every head, loss and fold alike.
        epochs, batch_size, weight_decay: The budget of every head.
        device: "auto", "cpu", "cuda".
        threads: Stacks trained side by side on a CPU; the results do not depend on it.
        runs: Folder of the run folders.
        overwrite: Train again what is there.
        progress: Called with heads done and in all; True shows a bar, None one on a terminal.
        tell: Receives one line per cell.

    Returns:
        One record per store, head and loss.

    Raises:
        FitError: too few groups, speakers or classes; frames that a head needs and a store lacks.
        StoreError, ConfigError, UnknownNameError: an input or a name that cannot be used.
    """
    opened = [store if isinstance(store, Store) else open_store(store) for store in _as_list(stores)]
    if not opened:
        raise FitError("There is no store to fit; run embedkit extract first or name a store.")
    settings = _Settings(
        seeds=seeds,
        folds=folds,
        classes=None if classes is None else tuple(classes),
        merge=merge,
        where=tuple(where),
        learning_rates=tuple(float(rate) for rate in learning_rates),
        epochs=epochs,
        batch_size=batch_size,
        weight_decay=weight_decay,
    )
    cells = [
        _Cell(store, head, loss, settings, Path(runs), choose_device(device))
        for store in opened
        for head in (_as_list(heads) if heads is not None else [default_head(store)])
        for loss in expand_losses(_as_list(losses))
    ]
    for cell in cells:
        cell.check()
    return [
        _fit_cell(cell, threads or default_threads(), overwrite=overwrite, progress=progress, tell=tell)
        for cell in cells
    ]


def expand_losses(losses: Sequence[str]) -> list[str]:
    """Replace "all" by every loss, keep settings, drop repetitions."""
    expanded = [name for loss in losses for name in (list(LOSSES) if loss == "all" else [loss])]
    return list(dict.fromkeys(expanded))


def default_head(store: Store) -> str:
    """Return the head a store's encoder is fitted with by default."""
    encoder = store.encoder
    return DEFAULT_HEADS.get(str(encoder.get("name")), DEFAULT_HEADS.get(str(encoder.get("family")), "linear"))


def choose_device(device: str) -> torch.device:
    """Turn "auto", "cpu" or "cuda" into a device.

    Raises:
        FitError: CUDA was asked for and there is none, or another word.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise FitError(f"The device is {device!r}, expected auto, cpu or cuda.")
    if device == "cuda" and not torch.cuda.is_available():
        raise FitError("CUDA was asked for, but this machine has no CUDA device that torch can use; take --device cpu.")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What is the same for every cell."""

    seeds: int
    folds: str | None
    classes: tuple[str, ...] | None
    merge: Mapping[str, str] | None
    where: tuple[str, ...]
    learning_rates: tuple[float, ...]
    epochs: int
    batch_size: int
    weight_decay: float

    def __post_init__(self) -> None:
        for name, value in {"seeds": self.seeds, "epochs": self.epochs, "batch size": self.batch_size}.items():
            if value < 1:
                raise FitError(f"The number of {name} is {value}, expected at least 1.")
        if not self.learning_rates or not all(rate > 0 and np.isfinite(rate) for rate in self.learning_rates):
            raise FitError(f"The learning rates are {list(self.learning_rates)}, expected numbers above zero.")
        if len(set(self.learning_rates)) < len(self.learning_rates):
            raise FitError(f"The learning rates {list(self.learning_rates)} hold one twice; name each once.")

    @property
    def seed_numbers(self) -> tuple[int, ...]:
        return tuple(range(self.seeds))

    @property
    def budget(self) -> dict[str, Any]:
        return {
            "learning_rates": list(self.learning_rates),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "weight_decay": self.weight_decay,
        }


class _Cell:
    """One store, one head, one loss."""

    def __init__(
        self, store: Store, head: str, loss: str, settings: _Settings, runs: Path, device: torch.device
    ) -> None:
        self.store, self.head, self.loss, self.settings, self.device = store, head, loss, settings, device
        self.head_name, self.head_class, self.head_options = resolve_head(head)
        self.loss_options = build_loss(loss).options
        self.loss_name = parse_spec(loss)[0]
        self.data: TaskData = define_task(store, classes=settings.classes, merge=settings.merge, where=settings.where)
        self.runs = runs

    @property
    def level(self) -> str:
        return self.head_class.level

    @cached_property
    def plan(self) -> FoldPlan:
        kind = self.settings.folds or default_folds(self.data.sessions, self.data.speakers)
        return plan_folds(
            kind,
            labels=self.data.labels,
            speakers=self.data.speakers,
            groups=fold_column(self.store, self.data, kind),
            splits=self.data.splits,
            hold_out=self.level == "frame",
        )

    @cached_property
    def features(self) -> Features:
        return load_features(self.store, self.data, self.level, self.device)

    @property
    def recipe(self) -> Recipe:
        budget = self.settings
        return Recipe(
            head=self.head,
            loss=self.loss,
            classes=len(self.data.classes),
            epochs=budget.epochs,
            batch_size=budget.batch_size,
            weight_decay=budget.weight_decay,
        )

    def check(self) -> None:
        """Find out before anything is trained what cannot be."""
        if self.level == "frame":
            require_frames(self.store, f"the head {self.head_name!r}")
        _ = self.plan

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the run."""
        store = self.store
        return {
            "format": "embedkit-run",
            "format_version": RUN_FORMAT_VERSION,
            "algorithm": ALGORITHM,
            "corpus": store.corpus,
            "encoder": store.path.stem,
            "head": self.head_name,
            "head_options": dataclasses.asdict(self.head_options),
            "loss": self.loss_name,
            "loss_options": dataclasses.asdict(self.loss_options),
            "mode": "cached",
            "folds": describe_folds(self.plan),
            "classes": list(self.data.classes),
            "merge": dict(self.data.merge),
            "where": list(self.data.where),
            "seeds": list(self.settings.seed_numbers),
            "budget": self.settings.budget,
        }

    @property
    def data_config(self) -> dict[str, Any]:
        """Which data the run was trained on."""
        store = self.store
        return {
            "path": os.path.abspath(store.path),
            "fingerprint": store.fingerprint,
            "digest": store.digest,
            "encoder": store.encoder,
            "options": store.extraction["options"],
        }

    @property
    def folder(self) -> Path:
        config = self.config
        name = f"{_safe(self.loss_name)}-{digest_of(config)}"
        return self.runs / _safe(config["corpus"]) / _safe(config["encoder"]) / _safe(self.head_name) / name

    def __str__(self) -> str:
        return f"{self.store.corpus} {self.store.path.stem}, {self.head}, {self.loss}"


def find_stores(folder: str | Path = "embeddings") -> list[Path]:
    """Return every store below a folder, in sorted order.

    Raises:
        FitError: there is none.
    """
    folder = Path(folder)
    found = sorted(
        path
        for path in folder.rglob("*.h5")
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise FitError(f"There are no stores below {folder}/; run embedkit extract --encoder NAME first, or name one.")
    return found


def _fit_cell(cell: _Cell, threads: int, *, overwrite: bool, progress: Progress | bool | None, tell: Tell) -> RunRecord:
    known = None if overwrite else _known_run(cell)
    if known is not None:
        tell(f"{cell}: UA {100 * known.metrics['ua']:.1f} %, fitted before, nothing changed")
        return known
    started = time.perf_counter()
    settings = cell.settings
    total = count_heads(cell.plan, len(settings.learning_rates), settings.seeds)
    with show_progress(progress, str(cell)) as report:
        results = train_cell(
            cell.features,
            cell.data.targets,
            cell.plan,
            cell.recipe,
            learning_rates=settings.learning_rates,
            seeds=settings.seed_numbers,
            threads=threads,
            on_heads=_counting(report, total),
        )
    seconds = time.perf_counter() - started
    metrics = _metrics(cell, summarise(cell.data, results))
    config = {
        **cell.config,
        "store": cell.data_config,
        "choices": describe_choices(results, settings.learning_rates, settings.seed_numbers),
        "loss_spec": cell.loss,
        "head_spec": cell.head,
        "versions": _versions(),
    }
    record = write_run(
        cell.folder,
        config=config,
        metrics=metrics,
        predictions=prediction_rows(cell.data, results, settings.seed_numbers),
        heads=head_tensors(results, settings.seed_numbers),
    )
    tell(f"{cell}: UA {100 * metrics['ua']:.1f} %, {total} heads in {seconds:.0f} s")
    return record


def _counting(report: Progress | None, total: int) -> Callable[[int], None]:
    """Turn numbers of heads just finished, told from any thread, into work done and in all."""
    done: list[int] = []

    def advance(heads: int) -> None:
        done.append(heads)
        if report is not None:
            report(sum(done), total)

    return advance


def _known_run(cell: _Cell) -> RunRecord | None:
    """Return the run that is there if it was trained on exactly this data."""
    try:
        record = read_run(cell.folder)
    except RunError:
        return None
    return record if record.config.get("store", {}).get("digest") == cell.store.digest else None


def _metrics(cell: _Cell, scores: Mapping[str, Any]) -> dict[str, Any]:
    task = [*(f"{old} counted as {new}" for old, new in cell.data.merge.items()), *cell.data.where]
    return {
        "corpus": cell.store.corpus,
        "encoder": cell.store.path.stem,
        "head": cell.head_name,
        "loss": cell.loss_name,
        "mode": "cached",
        "folds": cell.plan.kind,
        **scores,
        "head_options": dataclasses.asdict(cell.head_options),
        "loss_options": dataclasses.asdict(cell.loss_options),
        "selection": cell.plan.selection,
        "precision": cell.store.encoder.get("precision", "fp32"),
        "speaker_dependent": cell.plan.speaker_dependent,
        "budget": cell.settings.budget,
        "standardised": "over frames" if cell.level == "frame" else "over utterance means",
        "loss_spec": cell.loss,
        "head_spec": cell.head,
        "demo": cell.store.corpus == "demo",
        "task": ", ".join(task),
        "store_fingerprint": cell.store.fingerprint,
    }


def _versions() -> dict[str, str]:
    import embedkit

    return {"embedkit": embedkit.__version__, "torch": torch.__version__, "numpy": np.__version__}


def _safe(name: str) -> str:
    """Make one harmless path component of a name."""
    kept = "".join(letter if letter.isalnum() or letter in "-_+.@" else "-" for letter in name)
    return kept.strip(".") or "unnamed"


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path | Store) else list(value)
