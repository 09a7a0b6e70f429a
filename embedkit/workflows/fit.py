"""Fit heads on stores under every loss, on one protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import torch

from embedkit.arguments import as_list, checked
from embedkit.corpora import Corpus
from embedkit.corpora.manifest import SUFFIXES as MANIFESTS
from embedkit.encoders.run_encoders import find_folders
from embedkit.errors import FitError
from embedkit.losses import LOSSES, expand_losses
from embedkit.progress import Progress, Tell
from embedkit.store.reader import Store, open_store
from embedkit.store.verify import require_undamaged
from embedkit.training.data.attributes import DEFAULT_LOSS
from embedkit.training.data.fold_stores import PerFoldStores, group_stores
from embedkit.training.data.source import Source
from embedkit.training.experiment import Experiment
from embedkit.training.live.fine_tuner import Tuning
from embedkit.training.live.source import LiveSource, open_live_sources
from embedkit.training.options import Mode, Settings
from embedkit.training.plain import describe_plain_parts
from embedkit.training.processes import ALONE, count_processes
from embedkit.training.runs import RunRecord, require_writable
from embedkit.training.stacks.schedule import default_threads
from embedkit.training.train import fit_experiments
from embedkit.wording import count_noun

DEFAULT_LEARNING_RATES = (3e-4, 1e-3, 3e-3)
EPOCHS, TUNED_EPOCHS = 30, 10
LORA_RATE = 1e-4

Input: TypeAlias = Store | Corpus | str | Path

DEFAULT_HEADS = {"mfcc": "lstm", "logmel": "cnn", "vggish": "mlp", "egemaps-lld": "lstm", "compare-lld": "lstm"}


@checked("embedkit.fit")
def fit_heads(
    stores: Input | Sequence[Input],
    losses: Sequence[str] | str | None = None,
    *,
    mode: Mode = "cached",
    encoders: Sequence[str] | str = (),
    tuning: Mapping[str, Any] | None = None,
    save_encoder: bool = False,
    precision: str | None = None,
    window: str | float | None = None,
    sources: Mapping[str, str] | None = None,
    heads: Sequence[str] | str | None = None,
    layers: str = "all",
    normalise: Literal["none", "speaker"] = "none",
    folds: str | None = None,
    test_on: Store | str | Path | None = None,
    test_merge: Mapping[str, str] | None = None,
    seeds: int = 3,
    classes: Sequence[str] | None = None,
    merge: Mapping[str, str] | None = None,
    where: Sequence[str] = (),
    targets: Sequence[str] | str = (),
    learning_rates: Sequence[float] | None = None,
    weight_decays: Sequence[float] = (0.0,),
    epochs: int | None = None,
    batch_size: int = 32,
    patience: int | None = None,
    clip: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory_gb: float | None = None,
    runs: str | Path = "runs",
    allow_leak: bool = False,
    overwrite: bool = False,
    progress: Progress | bool | None = False,
    tell: Tell = lambda _: None,
    train: Callable[..., list[RunRecord]] = fit_experiments,
) -> list[RunRecord]:
    """Train every head under every loss on every store and keep one run folder each.

    A run that is there already, on the same data and with the same settings, is not trained again.

    Args:
        stores: Stores, or their paths; in the modes other than "cached" corpora, or what `extract` takes for them.
        losses: Names with settings ("ce", "focal:gamma=1.5"); "all" stands for the study's five; None for "ce", or
            "ccc-regression" where dimensions are predicted.
        mode: "cached" trains heads on stores; "frozen" runs the encoder in every epoch instead, with the same result;
            "finetune" trains the encoder with the head, "lora" adapters in it.
        encoders: In the modes other than "cached": whatever `extract` takes.
        tuning: How an encoder is trained, see `embedkit.training.live.fine_tuner.Tuning`.
        save_encoder: Keep the trained encoder of every fold and seed in the run.
        precision: Of the encoder's passes: "fp32" (None), "bf16" or "auto"; what is trained is kept in fp32.
        window, sources: Of the encoders, as for `extract`.
        heads: Names with settings; None for the encoder's own (mfcc lstm, logmel cnn, vggish mlp, others linear).
            Values between slashes are searched ("mlp:hidden=64/256").
        layers: "all" for a learned mean over the layers, "each" for a study of every layer alone; in the modes other
            than "cached" the layers that are encoded, as for `extract`.
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
        learning_rates, weight_decays: Searched for every head, loss and fold alike; None for 3e-4, 1e-3 and 3e-3, or
            for 1e-3 alone where the encoder is trained.
        epochs, batch_size: The budget of every head; None for 30 epochs, or 10 where the encoder is trained.
        patience: Stop a head after so many epochs without a better validation score; None for the whole budget.
        clip: Largest norm of a head's gradient; None for no limit.
        device: "auto", "cpu", "cuda".
        threads: Stacks trained side by side on a CPU; the results do not depend on it.
        memory_gb: Embeddings larger than this stay on disk and are read by the mini-batch, with the same results; None
            for a quarter of the machine's memory.
        runs: Folder of the run folders.
        allow_leak: Take folds whose test or development speakers the encoder was trained on, and mark their numbers.
        overwrite: Train again what is there.
        progress: Called with heads done and in all; True shows a bar, None one on a terminal.
        tell: Receives a line per experiment, and one per row of experiments trained together.
        train: Called with the checked experiments in place of their training.

    Returns:
        One record per store, head and loss.

    Raises:
        FitError: too few groups, speakers or classes; frames or ratings that are needed and a store lacks.
        StoreError, ConfigError, UnknownNameError: an input or a name that cannot be used.
    """
    tuned = _read_tuning(mode, tuning, save_encoder=save_encoder)
    if mode == "cached":
        _require_plain(precision, window)
        opened = _open_stores(as_list(stores), as_list(encoders))
    else:
        for name in as_list(encoders):
            if folders := find_folders(name):
                raise FitError(
                    f"{name} is a run with {count_noun(len(folders), 'trained encoder')}; run embedkit extract with it "
                    f"and fit the stores, or name the folder of one encoder, such as {folders[0]}."
                )
        opened = open_live_sources(
            as_list(stores),
            as_list(encoders),
            layers=layers,
            device=device,
            precision=precision or "fp32",
            window=window or "clip",
            sources=sources or {},
            trainable=tuned is not None,
            threads=threads or default_threads(),
            memory_gb=memory_gb,
        )
        if test_on is not None:
            raise FitError(f"Found --test-on beside --mode {mode}; test on another corpus in --mode cached.")
        layers = "all"
    processes = opened[0].processes if opened and isinstance(opened[0], LiveSource) else ALONE
    if processes.rank > 0:
        progress, tell = False, lambda _: None
    elif processes.count > 1:
        tell(f"Training in {processes.count} processes.")
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
        learning_rates=tuple(map(float, default_rates(tuned) if learning_rates is None else learning_rates)),
        weight_decays=tuple(float(decay) for decay in weight_decays),
        epochs=(TUNED_EPOCHS if tuned else EPOCHS) if epochs is None else epochs,
        batch_size=batch_size,
        patience=patience,
        clip=clip,
        memory_gb=memory_gb,
        normalise=normalise,
        test_merge=test_merge or {},
        targets=tuple(as_list(targets)),
        mode=mode,
        tuning=tuned,
        save_encoder=save_encoder,
        allow_leak=allow_leak,
    )
    if losses is None:
        losses = (DEFAULT_LOSS,) if settings.targets else ("ce",)
    if threads is not None and threads < 1:
        raise FitError(f"The number of threads is {threads}, expected at least 1.")
    if layers not in ("all", "each"):
        raise FitError(
            f"The layers are {layers!r}, expected all or each; to keep some of them, extract with --layers and --out."
        )
    experiments = [
        Experiment(store, head, loss, settings, Path(runs), choose_device(device), layer, other)
        for store in opened
        for layer in (store.layers if layers == "each" else (None,))
        for head in (as_list(heads) if heads is not None else [default_head(store)])
        for loss in expand_losses(as_list(losses))
    ]
    if not experiments:
        raise FitError(f"There is no loss to train under; name some of {', '.join(LOSSES)}.")
    for experiment in experiments:
        experiment.check()
    for store in opened if other is None else [*opened, other]:
        for one in store.stores if isinstance(store, PerFoldStores) else [store]:
            if isinstance(one, Store):
                require_undamaged(one)
    said = [
        describe_plain_parts(experiment.head_name, experiment.head_class, experiment.loss) for experiment in experiments
    ]
    said += [[f"{note[0].upper()}{note[1:]}." for note in experiment.unrated] for experiment in experiments]
    for sentence in dict.fromkeys(line for lines in said for line in lines):
        tell(sentence)
    require_writable(Path(runs))
    return train(experiments, threads or default_threads(), overwrite=overwrite, progress=progress, tell=tell)


def _require_plain(precision: str | None, window: str | float | None) -> None:
    """Refuse what concerns an encoder that runs, where none does."""
    for name, value in {"precision": precision, "window": window}.items():
        if value is not None:
            raise FitError(f"The {name} of stored embeddings is that of their extraction; leave out --{name}.")
    if count_processes() > 1:
        raise FitError("Heads on stores train in one process; start embedkit fit without a launcher.")


def _open_stores(stores: Sequence[Input], encoders: Sequence[str]) -> list[Source]:
    for one in stores:
        name = one.name if isinstance(one, Corpus) else str(one)
        looks_like_corpus = isinstance(one, str | Path) and (Path(one).is_dir() or Path(one).suffix in MANIFESTS)
        if isinstance(one, Corpus) or looks_like_corpus:
            raise FitError(
                f"{name} is no store but a corpus, it seems; run embedkit extract {name} --encoder NAME first, or run "
                "the encoder in every epoch with --mode frozen --encoder NAME."
            )
    if encoders:
        raise FitError(
            f"Found the encoder {encoders[0]!r}, but stores hold embeddings already; leave out --encoder, or run the "
            "encoder in every epoch with --mode frozen."
        )
    opened = [one if isinstance(one, Store) else open_store(one) for one in stores if not isinstance(one, Corpus)]
    return group_stores(opened)


def _read_tuning(mode: str, settings: Mapping[str, Any] | None, *, save_encoder: bool) -> Tuning | None:
    """Check the settings of an encoder that is trained; None where none is."""
    if mode not in get_args(Mode):
        raise FitError(f"The mode is {mode!r}, expected one of {', '.join(get_args(Mode))}.")
    if mode == "finetune":
        return Tuning.read("finetune", settings or {})
    if mode == "lora":
        return Tuning.read("lora", {"encoder_rate": LORA_RATE, **(settings or {})})
    unused = sorted(settings or {}) + ["save_encoder"] * save_encoder
    if unused:
        raise FitError(
            f"The option {unused[0].replace('_', '-')} is for encoders that are trained, which --mode {mode} does not; "
            "choose --mode finetune or lora."
        )
    return None


def default_rates(tuning: Tuning | None) -> tuple[float, ...]:
    """Return the learning rates of heads that are searched by default."""
    return DEFAULT_LEARNING_RATES if tuning is None else (1e-3,)


def default_head(store: Source) -> str:
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
