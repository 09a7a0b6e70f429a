"""The options of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedkit.errors import ConfigError
from embedkit.options.extract import ExtractOptions
from embedkit.options.fit import TrainingOptions
from embedkit.options.option import declared, option, shared


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """How a published classifier is tested on a corpus."""

    model: str = option(
        "",
        panel="Encoder",
        metavar="MODEL",
        help="A published classifier: a Hugging Face id such as superb/hubert-base-superb-er, a local folder, or "
        "audeering-dim, emotion2vec-plus-seed, -base or -large.",
        usual="none",
        record="model",
    )
    map: Mapping[str, str] | None = option(
        panel="Data",
        metavar="LABEL=CLASS",
        help="Which labels of the model count, and as which class of the corpus (or as which column of ratings); "
        "repeatable. Of several that count as one the probabilities are added.",
        usual="labels of the classes' names, or usual abbreviations of them",
        record="map",
    )
    trained_on: str | None = option(
        panel="Data",
        metavar="CORPORA",
        help="What the model was trained on, for tables; a corpus that it names is marked as a leak.",
        usual="known of some, else not said",
        record="trained_on",
    )
    scale: tuple[float, ...] | None = option(
        panel="Data",
        metavar="LOW,HIGH",
        help="What 0 and 1 of published ratings are in the corpus's unit.",
        usual="1,5 for IEMOCAP, 1,7 for MSP-Podcast; ratings of other models are taken as they are",
        example=" such as 1,5",
        record="scale",
    )
    classes: tuple[str, ...] | None = shared(
        TrainingOptions, "classes", usual="those of the corpus's task that the model has a label for"
    )
    merge: Mapping[str, str] | None = shared(TrainingOptions, "merge")
    where: tuple[str, ...] = shared(TrainingOptions, "where")
    limit: int | None = shared(ExtractOptions, "limit", record="limit")
    corpus_name: str | None = shared(TrainingOptions, "corpus_name")
    precision: str = shared(
        ExtractOptions, "precision", help="Of the passes: fp32, bf16, fp16 or auto.", record="precision"
    )
    device: str = shared(ExtractOptions, "device")
    threads: int | None = shared(ExtractOptions, "threads")
    on_error: Literal["fail", "skip"] = shared(ExtractOptions, "on_error")
    max_hours: float = shared(ExtractOptions, "max_hours")
    rescale: bool = shared(ExtractOptions, "rescale", record="rescale")
    runs: Path = shared(TrainingOptions, "runs")
    overwrite: bool = shared(TrainingOptions, "overwrite", help="Ask again what has been asked already.")

    def __post_init__(self) -> None:
        for name, one in declared(type(self)).items():
            one.check(getattr(self, name), one.flag)
        if self.scale is not None and (len(self.scale) != 2 or self.scale[0] == self.scale[1]):
            raise ConfigError(
                f"--scale is {', '.join(f'{one:g}' for one in self.scale)}, expected two different numbers such as 1,5."
            )
        if not self.model:
            raise ConfigError("No model was named; give a published classifier with --model.")
