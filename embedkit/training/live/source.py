"""A corpus and an encoder that stand where a store stands: what heads read is encoded whenever they read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.audio import read_audio
from embedkit.corpora import open_corpus
from embedkit.corpora.base import STANDARD_COLUMNS, Corpus
from embedkit.encoders import encoder_label, load_encoder
from embedkit.encoders.base import Encoder
from embedkit.encoders.identity import determining
from embedkit.errors import FitError
from embedkit.extraction.segments import AudioSegment, Failures, stamp_files, survey
from embedkit.extraction.windows import Windows
from embedkit.registry import unknown_name
from embedkit.store.layout import canonical_json, digest_bytes
from embedkit.training.data.source import Source
from embedkit.training.data.task import TaskData, fits_in_memory
from embedkit.training.live.features import LiveFeatures
from embedkit.training.live.fine_tuner import FineTuner, Tuning
from embedkit.training.processes import ALONE, DistributedProcesses, Processes, find_processes


def open_live_sources(
    corpora: Sequence[str | Path | Corpus],
    encoders: Sequence[str],
    *,
    layers: str,
    device: str,
    precision: str,
    window: str | float,
    sources: Mapping[str, str],
    trainable: bool,
    threads: int,
    memory_gb: float | None,
) -> list[Source]:
    """Open every corpus with every encoder.

    Raises:
        FitError: no encoder, a store in the place of a corpus, or a precision that nothing can be trained in.
        CorpusError, EncoderError, UnknownNameError, ExtractionError: a corpus or an encoder that cannot be used.
    """
    if not encoders:
        raise FitError("No encoder was named; give one with --encoder, as for embedkit extract.")
    processes = find_processes(device)
    placed = str(processes.device) if isinstance(processes, DistributedProcesses) else device
    if trainable and precision == "fp16":
        raise FitError("Found --precision fp16, in which gradients vanish; train in bf16, fp32 or auto.")
    opened: list[Source] = []
    for name in dict.fromkeys(encoders):
        encoder = load_encoder(
            name,
            layers=layers,
            device=placed,
            precision=precision,
            window=window,
            sources=sources,
            trainable=trainable,
        )
        tuner = share_tuner(encoder, processes)
        # A corpus that is named twice is one.
        for corpus in {id(one) if isinstance(one, Corpus) else os.path.abspath(one): one for one in corpora}.values():
            if str(corpus).endswith(".h5"):
                raise FitError(f"{corpus} is a store; name its corpus to run an encoder, or choose --mode cached.")
            found = corpus if isinstance(corpus, Corpus) else open_corpus(corpus)
            opened.append(
                LiveSource(found, encoder, name, threads=threads, processes=processes, memory_gb=memory_gb, tuner=tuner)
            )
    return opened


def share_tuner(encoder: Encoder, processes: Processes) -> Callable[[Tuning], FineTuner]:
    """Return what makes the one tuner of an encoder: it must know the encoder as it was loaded, whatever came since."""
    made: list[FineTuner] = []

    def tuner(tuning: Tuning) -> FineTuner:
        if not made:
            made.append(FineTuner(encoder, tuning, processes))
        return made[0]

    return tuner


class LiveSource:
    """The utterances of a corpus, with the part of a store's interface that fitting needs.

    Args:
        corpus: The utterances.
        encoder: The encoder.
        name: What the user called it.
        threads: Threads of the encoder on a CPU.
        processes: Each encodes its share of every mini-batch.
        memory_gb: Waveforms larger than this are decoded anew in every epoch; None for a quarter of the memory.
        tuner: Makes, or finds again, what trains the encoder; all corpora of an encoder share it.
    """

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        name: str,
        *,
        threads: int,
        processes: Processes = ALONE,
        memory_gb: float | None = None,
        tuner: Callable[[Tuning], FineTuner] | None = None,
    ) -> None:
        self.tuner = tuner or share_tuner(encoder, processes)
        self.source, self.live_encoder, self.name = corpus, encoder, name
        self.threads, self.processes = threads, processes
        self.failures = Failures("skip")
        stamps = stamp_files(corpus, self.failures)
        usable = [one for one in corpus.utterances if one.id in stamps]
        found = survey(
            corpus,
            usable,
            stamps,
            sampling_rate=encoder.sampling_rate,
            workers=min(4, os.cpu_count() or 1),
            failures=self.failures,
        )
        self.items: dict[str, AudioSegment] = {item.id: item for item in found}
        self._waves: dict[int, Tensor] = {}
        self._fits = fits_in_memory(4 * sum(item.samples for item in found), memory_gb)

    def __len__(self) -> int:
        return len(self.source.utterances)

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        return self.source.name

    @property
    def path(self) -> Path:
        """The corpus's folder, and the name that a store of the same would have."""
        return self.source.root / f"{encoder_label(self.name)}.h5"

    @property
    def task(self) -> dict[str, Any]:
        """The corpus's standard task."""
        return {"classes": list(self.source.task.classes), "merge": dict(self.source.task.merge)}

    @cached_property
    def encoder(self) -> dict[str, Any]:
        """Everything that determines the numbers."""
        return {name: value for name, value in self.live_encoder.identity().items() if name != "trained_on"}

    @property
    def extraction(self) -> dict[str, Any]:
        """How the numbers are made."""
        windows = Windows.for_encoder(self.live_encoder, None)
        options = {"statistics": "mean over own frames", "max_seconds": windows.describe() if windows else None}
        return {"options": options}

    @property
    def trained_on(self) -> dict[str, Any]:
        """Speakers and utterances that the encoder was fine-tuned on before; empty where it was not."""
        return dict(self.live_encoder.identity().get("trained_on") or {})

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the encoder, wherever it was found."""
        return digest_bytes(canonical_json([determining(self.encoder), self.extraction]).encode())

    @cached_property
    def digest(self) -> str:
        """Digest of the utterances and of their audio files' sizes and times."""
        columns = [[str(value) for value in self.column(name).tolist()] for name in self.columns]
        return digest_bytes(
            canonical_json([self.fingerprint, columns, [list(item) for item in self.items.values()]]).encode()
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """Numbers of the layers that are encoded."""
        return self.live_encoder.layers

    @property
    def has_frames(self) -> bool:
        """Frames are never kept, and always to be had."""
        return True

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns: the standard ones, then the corpus's own."""
        return (*STANDARD_COLUMNS, *(self.source.utterances[0].columns if len(self) else ()))

    @property
    def ids(self) -> NDArray[Any]:
        """Utterance ids, `[utterances]`."""
        return self.column("id")

    @property
    def labels(self) -> NDArray[Any]:
        """Labels, `[utterances]`."""
        return self.column("label")

    @property
    def speakers(self) -> NDArray[Any]:
        """Speakers, `[utterances]`; empty text where unknown."""
        return self.column("speaker")

    @property
    def sessions(self) -> NDArray[Any]:
        """Sessions, `[utterances]`; empty text where the corpus has none."""
        return self.column("session")

    @property
    def splits(self) -> NDArray[Any]:
        """Given splits, `[utterances]`; empty text where the corpus has none."""
        return self.column("split")

    def column(self, name: str) -> NDArray[Any]:
        """Return a column `[utterances]`.

        Raises:
            FitError: there is no such column.
        """
        if name not in self.columns:
            raise FitError(unknown_name("column", name, self.columns))
        values = [utterance.value(name) for utterance in self.source.utterances]
        if name in ("start", "end"):
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        return np.array(values)

    @property
    def examples(self) -> list[dict[str, Any]]:
        """Say where the shortest, the middle and the longest clip lie."""
        ordered = sorted(self.items.values(), key=lambda item: item.samples)
        chosen = dict.fromkeys(ordered[place] for place in ((0, len(ordered) // 2, -1) if ordered else ()))
        return [
            {"path": os.path.abspath(self.source.root / item.path), "start": item.start, "end": item.end}
            for item in chosen
        ]

    def live_features(self, data: TaskData, level: str) -> LiveFeatures:
        """Return the embeddings of the utterances of a task, encoded whenever they are gathered.

        Raises:
            FitError: audio that cannot be used, or a clip that is too long for one pass.
        """
        rows = data.rows.tolist()
        self._require_usable(data.ids.tolist())
        samples = np.array([self.items[name].samples for name in data.ids.tolist()], dtype=np.int64)
        return LiveFeatures(
            self.live_encoder,
            lambda place: self.read(rows[place]),
            samples,
            level,
            threads=self.threads,
            processes=self.processes,
        )

    def read(self, row: int) -> Tensor:
        """Return the waveform of an utterance, `[samples]`; decoded once where all of them fit into memory."""
        if row not in self._waves:
            item, rate = self.items[self.source.utterances[row].id], self.live_encoder.sampling_rate
            wave = read_audio(self.source.root / item.path, sampling_rate=rate, start=item.start, end=item.end)
            padded = torch.from_numpy(np.pad(wave, (0, max(0, self.live_encoder.smallest_input - len(wave)))))
            if not self._fits:
                return padded
            self._waves[row] = padded
        return self._waves[row]

    def _require_usable(self, ids: Sequence[str]) -> None:
        for name in ids:
            if name in self.failures:
                raise FitError(
                    f"Utterance {name!r} cannot be used: {self.failures[name]} Repair it, or leave it out with --where."
                )
        windows = Windows.for_encoder(self.live_encoder, None)
        too_long = [name for name in ids if windows is not None and self.items[name].samples > windows.samples]
        if too_long and windows is not None:
            limit = windows.samples / self.live_encoder.sampling_rate
            raise FitError(
                f"{len(too_long)} of {len(ids)} utterances are longer than the {limit:g} s that {self.name} takes at "
                f"once (the first is {too_long[0]!r}); leave them out with --where, or fit on a store, for which they "
                "are cut into windows."
            )
