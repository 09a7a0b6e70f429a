"""Fit heads on stores under every loss, on one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from embedkit.errors import FitError
from embedkit.losses import LOSSES
from embedkit.store.reader import Store, open_store
from embedkit.store.verify import require_undamaged
from embedkit.training.dimensions import DEFAULT_LOSS
from embedkit.training.plain import describe_plain_parts
from embedkit.training.runs import RunRecord, require_writable
from embedkit.training.schedule import default_threads
from embedkit.workflows.cell import Cell, Settings
from embedkit.workflows.progress import Progress
from embedkit.workflows.rows import fit_cells

DEFAULT_LEARNING_RATES = (3e-4, 1e-3, 3e-3)

DEFAULT_HEADS = {"mfcc": "lstm", "logmel": "cnn", "vggish": "mlp"}

Tell = Callable[[str], None]


def fit_heads(
    stores: Store | str | Path | Sequence[Store | str | Path],
    losses: Sequence[str] | str | None = None,
    *,
    heads: Sequence[str] | str | None = None,
    layers: Literal["all", "each"] = "all",
    normalise: Literal["none", "speaker"] = "none",
    folds: str | None = None,
    test_on: Store | str | Path | None = None,
    test_merge: Mapping[str, str] | None = None,
    seeds: int = 3,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    targets: Sequence[str] | str = (),
    learning_rates: Sequence[float] = DEFAULT_LEARNING_RATES,
    weight_decays: Sequence[float] = (0.0,),
    epochs: int = 30,
    batch_size: int = 32,
    patience: int | None = None,
    clip: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory_gb: float | None = None,
    runs: str | Path = "runs",
    overwrite: bool = False,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
) -> list[RunRecord]:
    """Train every head under every loss on every store and keep one run folder each.

    A run that is there already, on the same data and with the same settings, is not trained again.

    Args:
        stores: Stores, or their paths.
        losses: Names with settings ("ce", "focal:gamma=1.5"); "all" stands for the study's five; None for "ce", or
            "ccc-regression" where dimensions are predicted.
        heads: Names with settings; None for the encoder's own (mfcc lstm, logmel cnn, vggish mlp, others linear).
            Values between slashes are searched ("mlp:hidden=64/256").
        layers: "all" for a learned mean over the layers, "each" for a study of every layer alone.
        normalise: "speaker" centres and scales every speaker by all of their utterances, test ones included: such runs
            are marked as transductive.
        folds: "session", "speaker", "split", "random", a column, or "speaker+COLUMN" for both at once; None for
            sessions where there are some.
        test_on: A store of another corpus to test on instead of folds, made with the same encoder.
        test_merge: Labels of that corpus that count as another, beside its usual ones.
        seeds: How many; they are 0, 1, 2, ...
        classes, merge, where: The task; None for the corpus's standard one (see `define_task`).
        targets: Columns of numbers ("valence", "arousal", "dominance") to predict in place of classes, all at once by
            one head; utterances that lack one are left out, and counted.
        learning_rates, weight_decays: Searched for every head, loss and fold alike.
        epochs, batch_size: The budget of every head.
        patience: Stop a head after so many epochs without a better validation score; None for the whole budget.
        clip: Largest norm of a head's gradient; None for no limit.
        device: "auto", "cpu", "cuda".
        threads: Stacks trained side by side on a CPU; the results do not depend on it.
        memory_gb: Embeddings larger than this stay on disk and are read by the mini-batch, with the same results; None
            for a quarter of the machine's memory.
        runs: Folder of the run folders.
        overwrite: Train again what is there.
        progress: Called with heads done and in all; True shows a bar, None one on a terminal.
        tell: Receives a line per cell, and one per row of cells trained together.

    Returns:
        One record per store, head and loss.

    Raises:
        FitError: too few groups, speakers or classes; frames or ratings that are needed and a store lacks.
        StoreError, ConfigError, UnknownNameError: an input or a name that cannot be used.
    """
    opened = [store if isinstance(store, Store) else open_store(store) for store in _as_list(stores)]
    if not opened:
        raise FitError("There is no store to fit; run embedkit extract first or name a store.")
    if test_on is not None and folds is not None:
        raise FitError(f"Found both folds by {folds} and another corpus to test on; leave out --folds or --test-on.")
    if test_merge and test_on is None:
        raise FitError("A label map for another corpus was given, but no store to test on; name it with --test-on.")
    other = None if test_on is None else test_on if isinstance(test_on, Store) else open_store(test_on)
    settings = Settings(
        seeds=seeds,
        folds=folds,
        classes=None if classes is None else tuple(classes),
        merge=merge,
        where=tuple(where),
        learning_rates=tuple(float(rate) for rate in learning_rates),
        weight_decays=tuple(float(decay) for decay in weight_decays),
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        clip=clip,
        memory_gb=memory_gb,
        normalise=normalise,
        test_merge=test_merge or {},
        targets=tuple(_as_list(targets)),
    )
    if losses is None:
        losses = (DEFAULT_LOSS,) if settings.targets else ("ce",)
    if threads is not None and threads < 1:
        raise FitError(f"The number of threads is {threads}, expected at least 1.")
    if layers not in ("all", "each"):
        raise FitError(f"The layers are {layers!r}, expected all or each.")
    cells = [
        Cell(store, head, loss, settings, Path(runs), choose_device(device), layer, other)
        for store in opened
        for layer in (store.layers if layers == "each" else (None,))
        for head in (_as_list(heads) if heads is not None else [default_head(store)])
        for loss in expand_losses(_as_list(losses))
    ]
    if not cells:
        raise FitError(f"There is no loss to train under; name some of {', '.join(LOSSES)}.")
    for cell in cells:
        cell.check()
    for store in opened if other is None else [*opened, other]:
        require_undamaged(store)
    said = [describe_plain_parts(cell.head_name, cell.head_class, cell.loss) for cell in cells]
    said += [[f"{note[0].upper()}{note[1:]}." for note in cell.unrated] for cell in cells]
    for sentence in dict.fromkeys(line for lines in said for line in lines):
        tell(sentence)
    require_writable(Path(runs))
    return fit_cells(cells, threads or default_threads(), overwrite=overwrite, progress=progress, tell=tell)


def expand_losses(losses: Sequence[str]) -> list[str]:
    """Replace "all" by the study's five losses, keep settings, drop repetitions."""
    expanded = [name for loss in losses for name in (LOSSES.names_in_all if loss == "all" else [loss])]
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


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str | Path | Store) else list(value)
