"""The library's calls with all of their options; written by `.ci/stub` from their declarations."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from embedkit.api.classifier import HeadClassifier as HeadClassifier
from embedkit.api.dataset import EmbeddingDataset as EmbeddingDataset
from embedkit.corpora import Corpus
from embedkit.corpora import open_corpus as open_corpus
from embedkit.errors import EmbedkitError as EmbedkitError
from embedkit.progress import Progress, Tell
from embedkit.store import Store
from embedkit.store.reader import open_store as open_store
from embedkit.training.runs import RunRecord
from embedkit.workflows.check import check_corpus as check_corpus
from embedkit.workflows.export import export_run as export_run
from embedkit.workflows.figure import write_figures as write_figures
from embedkit.workflows.fit import Input
from embedkit.workflows.predict import predict_audio as predict
from embedkit.workflows.predict import stream_predictions as stream_predictions
from embedkit.workflows.report import write_report as write_report
from embedkit.workflows.study import StudyResult
from embedkit.workflows.table import tabulate_runs as table

__version__: str
__all__ = [
    "EmbeddingDataset",
    "EmbedkitError",
    "HeadClassifier",
    "__version__",
    "check_corpus",
    "export_run",
    "extract",
    "fit",
    "open_corpus",
    "open_store",
    "predict",
    "run_study",
    "stream_predictions",
    "table",
    "write_figures",
    "write_report",
]

def extract(
    corpus: str | os.PathLike[str] | Corpus,
    *,
    layers: str = ...,
    level: Literal["utterance", "frame", "both"] | None = ...,
    frame_dtype: Literal["float16", "float32"] | None = ...,
    out: str | os.PathLike[str] | None = ...,
    corpus_name: str | None = ...,
    where: Sequence[str] = ...,
    device: str = ...,
    precision: str = ...,
    window: str | float = ...,
    batch_seconds: float | None = ...,
    shard_seconds: float | None = ...,
    max_seconds: float | None = ...,
    workers: int | None = ...,
    threads: int | None = ...,
    engine: Literal["local", "ray"] = ...,
    max_file_gb: float | None = ...,
    on_error: Literal["fail", "skip"] = ...,
    max_hours: float = ...,
    rescale: bool = ...,
    limit: int | None = ...,
    overwrite: bool = ...,
    encoder: str,
    sources: Mapping[str, str] | None = ...,
    progress: Progress | bool | None = ...,
    tell: Tell = ...,
) -> Store: ...
def fit(
    stores: Input | Sequence[Input],
    loss: Sequence[str] | str | None = ...,
    *,
    head: Sequence[str] | str | None = ...,
    layers: str = ...,
    normalise: Literal["none", "speaker"] = ...,
    folds: str | None = ...,
    test_on: str | os.PathLike[str] | Store | None = ...,
    test_merge: Mapping[str, str] | None = ...,
    corpus_name: str | None = ...,
    duplicates: Literal["keep", "drop"] = ...,
    seeds: int = ...,
    classes: Sequence[str] | None = ...,
    merge: Mapping[str, str] | None = ...,
    where: Sequence[str] = ...,
    targets: Sequence[str] | str = ...,
    lr: Sequence[float] | float | None = ...,
    weight_decay: Sequence[float] | float = ...,
    epochs: int | None = ...,
    batch_size: int = ...,
    patience: int | None = ...,
    clip: float | None = ...,
    encoder_lr: float | None = ...,
    warmup: float = ...,
    tune_layers: str = ...,
    tune_convolutions: bool = ...,
    recompute: bool = ...,
    accumulate: int = ...,
    augment: Sequence[str] = ...,
    lora_rank: int = ...,
    lora_alpha: int = ...,
    lora_targets: Sequence[str] = ...,
    save_encoder: bool = ...,
    precision: Literal["fp32", "bf16", "auto"] | None = ...,
    window: str | float | None = ...,
    device: str = ...,
    threads: int | None = ...,
    memory_gb: float | None = ...,
    runs: str | os.PathLike[str] = ...,
    track: Sequence[str] | str = ...,
    allow_leak: bool = ...,
    overwrite: bool = ...,
    mode: Literal["cached", "frozen", "finetune", "lora"] = ...,
    encoder: Sequence[str] | str = ...,
    sources: Mapping[str, str] | None = ...,
    progress: Progress | bool | None = ...,
    tell: Tell = ...,
    train: Callable[..., list[RunRecord]] = ...,
) -> list[RunRecord]: ...
def run_study(
    corpora: str | os.PathLike[str] | Corpus | Sequence[str | os.PathLike[str] | Corpus],
    encoder: Sequence[str] | str = ...,
    *,
    loss: Sequence[str] | str | None = ...,
    head: Sequence[str] | str | None = ...,
    layers: str = ...,
    normalise: Literal["none", "speaker"] = ...,
    folds: str | None = ...,
    test_on: str | os.PathLike[str] | Store | None = ...,
    test_merge: Mapping[str, str] | None = ...,
    corpus_name: str | None = ...,
    duplicates: Literal["keep", "drop"] = ...,
    seeds: int = ...,
    classes: Sequence[str] | None = ...,
    merge: Mapping[str, str] | None = ...,
    where: Sequence[str] = ...,
    targets: Sequence[str] | str = ...,
    lr: Sequence[float] | float | None = ...,
    weight_decay: Sequence[float] | float = ...,
    epochs: int | None = ...,
    batch_size: int = ...,
    patience: int | None = ...,
    clip: float | None = ...,
    encoder_lr: float | None = ...,
    warmup: float = ...,
    tune_layers: str = ...,
    tune_convolutions: bool = ...,
    recompute: bool = ...,
    accumulate: int = ...,
    augment: Sequence[str] = ...,
    lora_rank: int = ...,
    lora_alpha: int = ...,
    lora_targets: Sequence[str] = ...,
    save_encoder: bool = ...,
    precision: Literal["fp32", "bf16", "auto"] | None = ...,
    window: str | float | None = ...,
    device: str = ...,
    threads: int | None = ...,
    memory_gb: float | None = ...,
    runs: str | os.PathLike[str] = ...,
    track: Sequence[str] | str = ...,
    allow_leak: bool = ...,
    overwrite: bool = ...,
    mode: Sequence[str] | str = ...,
    stores: str | os.PathLike[str] = ...,
    extract: Mapping[str, Any] | None = ...,
    sources: Mapping[str, str] | None = ...,
    foresee: bool = ...,
    dry_run: bool = ...,
    progress: Progress | bool | None = ...,
    tell: Tell = ...,
) -> StudyResult: ...
