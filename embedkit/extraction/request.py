"""What one extraction is asked to do, and the fingerprint of all that determines its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from embedkit.augmentations.fixed_noise import FixedNoise
from embedkit.corpora.base import Corpus
from embedkit.corpora.manifest import GENERIC
from embedkit.encoders import encoder_label
from embedkit.encoders.base import Encoder, determining
from embedkit.extraction.segments import OnError
from embedkit.extraction.windows import Windows
from embedkit.progress import Progress, Tell
from embedkit.received import MOST_HOURS
from embedkit.store.layout import canonical_json
from embedkit.store.reader import open_store
from embedkit.system import safe_name

FOLDER = Path("embeddings")

BATCH_SECONDS = {"cpu": 12.0, "cuda": 320.0, "mps": 60.0}
"""Audio in a batch, by kind of device; between the others, not measured, on MPS."""


@dataclass(frozen=True, kw_only=True)
class ExtractionRequest:
    """What is wanted of one extraction.

    Attributes:
        corpus: The utterances that are wanted, already selected.
        encoder: The encoder, on its device.
        out: Where the store goes.
        levels: ("utterance",) or ("utterance", "frame").
        frame_dtype: Type of the frames, where they are kept.
        windows: How long clips are cut; None: never.
        selection: How the corpus was selected (`where`, `limit`), as the store keeps it.
        device: "cpu", "cuda" or "mps".
        precision: As asked for; what it came to is the encoder's.
        threads: Threads of the encoder; None: as the store says, else as many as suit the engine.
        batch_seconds, shard_seconds: See `ExtractionPlan`; None: as the store says, else a default.
        workers: Threads that read audio.
        on_error: Whether an utterance that cannot be used ends the extraction.
        max_file_gb: A larger store is kept in shards of this size, in gigabytes; None: as the store is, else one file.
        max_hours: What an utterance may last.
        rescale: Whether files of floats in the scale of 16 bits are divided by 32768.
        added_noise: What is added to every clip; None for nothing.
        overwrite: Whether a store, or an unfinished extraction, of other options is replaced.
        tell, progress: How the user hears of it, of progress in seconds of audio; `tell` may be called from any thread.
    """

    corpus: Corpus
    encoder: Encoder
    out: Path
    levels: tuple[str, ...]
    frame_dtype: str
    windows: Windows | None = None
    selection: dict[str, Any] = field(default_factory=dict)
    device: str = "cpu"
    precision: str = "fp32"
    threads: int | None = None
    batch_seconds: float | None = None
    shard_seconds: float | None = None
    workers: int = 2
    on_error: OnError = "fail"
    max_file_gb: float | None = None
    max_hours: float = MOST_HOURS
    rescale: bool = False
    added_noise: FixedNoise | None = None
    overwrite: bool = False
    tell: Tell = lambda sentence: None
    progress: Progress | None = None

    @property
    def work(self) -> Path:
        """Folder of the unfinished extraction."""
        return work_folder(self.out)

    @property
    def kept_frames(self) -> str | None:
        """Type of the frames; None where they are not kept."""
        return self.frame_dtype if "frame" in self.levels else None

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What the encoder says of itself, without what it was trained on."""
        return {name: value for name, value in self.encoder.identity().items() if name != "trained_on"}

    @cached_property
    def trained_on(self) -> dict[str, Any]:
        """What the encoder was fine-tuned on: its speakers by name, its utterances by number.

        Which utterances these are stands in a column of the store (`SEEN_COLUMN`): of a large corpus their names would
        not fit into an attribute.
        """
        return _count_utterances(self.encoder.identity().get("trained_on") or {})

    @property
    def options(self) -> dict[str, Any]:
        """The options beside the encoder that determine the numbers; noise with the fingerprint of the clean store."""
        if self.added_noise is None:
            return self._clean_options
        noise = {**self.added_noise.describe(), "clean": self._digest(self._clean_options)}
        return {**self._clean_options, "noise": noise}

    @property
    def _clean_options(self) -> dict[str, Any]:
        return {
            "levels": list(self.levels),
            "frame_dtype": self.kept_frames,
            "statistics": "mean and population standard deviation over own frames",
            "max_seconds": self.windows.describe() if self.windows else None,
            # Otherwise such files are refused, as in stores of before there was a choice.
            **({"rescale": True} if self.rescale else {}),
        }

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what determines the numbers: the encoder, wherever it was found, and the options."""
        return self._digest(self.options)

    def _digest(self, options: Mapping[str, Any]) -> str:
        described = {"encoder": determining(self.identity), "options": options}
        return hashlib.sha256(canonical_json(described).encode()).hexdigest()


def work_folder(out: Path) -> Path:
    """Return the folder of a store's unfinished extraction."""
    return out.with_name(out.name + ".work")


def default_path(corpus: str, encoder: str) -> Path:
    """Return `embeddings/<corpus>/<encoder>.h5`, with names that are safe as file names."""
    return FOLDER / safe_name(corpus, default="corpus") / f"{encoder_label(encoder)}.h5"


def keep_former_name(corpus: Corpus, folder: Path = FOLDER) -> Corpus:
    """Return a manifest's corpus under the generic name that its stores below `folder` have from before.

    What a folder's metadata.csv holds was called "metadata"; now it is called like the folder.
    """
    if corpus.kind != "manifest":
        return corpus
    for name in GENERIC:
        for path in sorted((folder / name).glob("*.h5")):
            with open_store(path) as store:
                if store.corpus == name and Path(store.corpus_info["root"]) == corpus.root.absolute():
                    return replace(corpus, name=name)
    return corpus


def _count_utterances(trained_on: Mapping[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: len(value) if name.endswith(("utterances", "digests")) else value for name, value in trained_on.items()
    }
    return {**told, "before": [_count_utterances(one) for one in told["before"]]} if "before" in told else told
