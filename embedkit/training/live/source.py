"""A corpus and an encoder that stand where a store stands: what heads read is encoded whenever they read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.audio import read_audio
from embedkit.corpora.base import STANDARD_COLUMNS, Corpus
from embedkit.corpora.opening import as_corpus, rename_corpus
from embedkit.corpora.texts import as_text
from embedkit.encoders import encoder_label, load_encoder
from embedkit.encoders.base import Encoder, determining
from embedkit.errors import FitError
from embedkit.extraction.segments import AudioSegment, Failures, corpus_digests, stamp_files, survey
from embedkit.extraction.windows import Windows
from embedkit.heads.base import Pool
from embedkit.options.fit import FitOptions, require_one_named
from embedkit.registry import unknown_name
from embedkit.store.layout import canonical_json, digest_bytes
from embedkit.system import count_cores
from embedkit.training.data.features import fits_in_memory
from embedkit.training.data.folds import FoldPlan, Indices, Names
from embedkit.training.data.source import EmbeddingSource, Source
from embedkit.training.data.task import TaskData
from embedkit.training.live.features import LiveFeatures
from embedkit.training.live.fine_tuner import FineTuner
from embedkit.training.live.published_head import BegunHead, HeadStart, begin_published, read_head_start
from embedkit.training.processes import ALONE, Processes, find_processes
from embedkit.wording import list_words


def open_live_sources(
    corpora: Sequence[str | Path | Corpus], options: FitOptions, sources: Mapping[str, str]
) -> list[Source]:
    """Open every corpus with every encoder.

    Raises:
        FitError: no encoder, or a store in the place of a corpus.
        CorpusError, EncoderError, UnknownNameError, ExtractionError: a corpus or an encoder that cannot be used.
    """
    if not options.encoder:
        raise FitError(
            "No encoder was named, but all modes except --mode cached run one; give it with --encoder, as for embedkit "
            "extract."
        )
    named = [str(one) for one in corpora if str(one).endswith(".h5")]
    if named:
        raise FitError(f"{named[0]} is a store; name its corpus to run an encoder, or choose --mode cached.")
    processes = find_processes(options.device)
    threads = options.threads or count_cores()
    require_one_named(options.corpus_name, len(corpora))
    found = [rename_corpus(as_corpus(one), options.corpus_name) for one in corpora]
    # A corpus that is named twice is one.
    distinct = [one for place, one in enumerate(found) if one not in found[:place]]
    opened: list[Source] = []
    for name in dict.fromkeys(options.encoder):
        start = read_head_start(name, sources) if options.init_head == "published" else None
        encoder = load_encoder(
            name,
            layers=",".join(map(str, start.layers)) if start and options.layers == "all" else options.layers,
            device=str(processes.device or options.device),
            precision=options.precision or "fp32",
            window=options.window or "clip",
            sources=sources,
            trainable=options.tuned,
        )
        if start is not None and encoder.layers != start.layers:
            raise FitError(
                f"Found the layers {options.layers}, but the published head of {name} reads "
                f"{list_words(map(str, start.layers))}; leave out --layers or --init-head."
            )
        tuner = share_tuner(encoder, processes)
        opened += [
            LiveSource(corpus, encoder, name, threads=threads, processes=processes, tuner=tuner, head_start=start)
            for corpus in distinct
        ]
    return opened


def share_tuner(encoder: Encoder, processes: Processes) -> Callable[[FitOptions], FineTuner]:
    """Return what makes the one tuner of an encoder: it must know the encoder as it was loaded, whatever came since."""
    made: list[FineTuner] = []

    def tuner(options: FitOptions) -> FineTuner:
        if not made:
            made.append(FineTuner(encoder, options, processes))
        return made[0]

    return tuner


class LiveSource(EmbeddingSource):
    """The utterances of a corpus, encoded whenever heads read them.

    Args:
        corpus: The utterances.
        encoder: The encoder.
        name: What the user called it.
        threads: Threads of the encoder on a CPU.
        processes: Each encodes its share of every mini-batch.
        tuner: Makes, or finds again, what trains the encoder; all corpora of an encoder share it.
        head_start: The published head that heads begin with.
    """

    has_frames = True

    def __init__(
        self,
        corpus: Corpus,
        encoder: Encoder,
        name: str,
        *,
        threads: int,
        processes: Processes = ALONE,
        tuner: Callable[[FitOptions], FineTuner] | None = None,
        head_start: HeadStart | None = None,
    ) -> None:
        self.speech, self.utterances, self.root = corpus, corpus.utterances, corpus.root
        self.live_encoder, self.name, self.threads, self.processes = encoder, name, threads, processes
        self.tuner, self.head_start = tuner or share_tuner(encoder, processes), head_start
        self.failures = Failures("skip")
        stamps = stamp_files(corpus, self.failures)
        usable = [one for one in corpus.utterances if one.id in stamps]
        found = survey(
            corpus,
            usable,
            stamps,
            sampling_rate=encoder.sampling_rate,
            workers=min(4, count_cores()),
            failures=self.failures,
        )
        self.items: dict[str, AudioSegment] = {item.id: item for item in found}
        self._waves: dict[int, Tensor] = {}
        self._fits = False
        self._describe(corpus)

    def _describe(self, corpus: Corpus) -> None:
        """Say of the corpus and the encoder what a store of them would say."""
        encoder, windows = self.live_encoder, Windows.for_encoder(self.live_encoder, None)
        identity = dict(encoder.identity())
        self.path, self.corpus = corpus.root / f"{encoder_label(self.name)}.h5", corpus.name
        self.task = {"classes": list(corpus.task.classes), "merge": dict(corpus.task.merge)}
        self.columns = (*STANDARD_COLUMNS, *(corpus.utterances[0].columns if len(self) else ()))
        self.trained_on = dict(identity.pop("trained_on", None) or {})
        self.encoder, self.fine_tuned = identity, bool(self.trained_on)
        self.layers = encoder.layers
        self.default_head = encoder.default_head if self.head_start is None else self.head_start.spec
        options = {"statistics": "mean over own frames", "max_seconds": windows.describe() if windows else None}
        self.extraction = {"options": options}
        self.fingerprint = digest_bytes(canonical_json([determining(self.encoder), self.extraction]).encode())
        columns = [[str(value) for value in self.column(name).tolist()] for name in self.columns]
        self.digest = digest_bytes(
            canonical_json([self.fingerprint, columns, [list(item) for item in self.items.values()]]).encode()
        )

    def __len__(self) -> int:
        return len(self.utterances)

    def column(self, name: str) -> NDArray[Any]:
        if name not in self.columns:
            raise FitError(unknown_name("column", name, self.columns))
        values = [utterance.value(name) for utterance in self.utterances]
        if name in ("start", "end"):
            return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        return np.array([as_text(value) for value in values] if any(isinstance(one, str) for one in values) else values)

    def audio_digests(self) -> NDArray[np.str_]:
        """Decode every utterance once, `[utterances]`; those that cannot be used have an empty digest."""
        return np.array(corpus_digests(self.speech), dtype="<U32")

    def audio_files(self) -> Names:
        return np.array([os.path.normpath(self.root / item.path) for item in self.utterances])

    def describe(self, plan: FoldPlan) -> dict[str, Any]:
        """Say beside where the shortest, the middle and the longest clip lie."""
        ordered = sorted(self.items.values(), key=lambda item: item.samples)
        chosen = dict.fromkeys(ordered[place] for place in ((0, len(ordered) // 2, -1) if ordered else ()))
        examples = [
            {"path": os.path.abspath(self.root / item.path), "start": item.start, "end": item.end} for item in chosen
        ]
        return {**super().describe(plan), "examples": examples}

    def require_undamaged(self) -> None:
        """Keep nothing that could be damaged; audio that cannot be used is refused where it is read."""

    def fine_tuner(self, options: FitOptions) -> FineTuner:
        return self.tuner(options)

    def begin_head(self, data: TaskData, given: Mapping[str, str]) -> BegunHead | None:
        return None if self.head_start is None else begin_published(self.head_start, data, given, self.speech)

    def features(
        self,
        rows: Indices,
        level: str,
        device: torch.device | str = "cpu",
        *,
        pool: Pool = "mean",
        layer: int | None = None,
        memory_gb: float | None = None,
    ) -> LiveFeatures:
        """Return the embeddings of utterances `[n]`, encoded whenever they are gathered, where the encoder is.

        Waveforms larger than `memory_gb` are decoded anew in every epoch.

        Raises:
            FitError: audio that cannot be used, a clip that is too long for one pass, deviations, or a layer alone.
        """
        if pool != "mean":
            raise FitError(
                f"A head with pool={pool} reads standard deviations, which only stores keep; leave pool out, or run "
                "embedkit extract and fit on the store."
            )
        if layer is not None:
            raise FitError(f"The layer {layer} of {self.name} cannot be read alone; open the encoder with this layer.")
        ids = [self.utterances[row].id for row in rows]
        self._require_usable(ids)
        self._fits = fits_in_memory(4 * sum(item.samples for item in self.items.values()), memory_gb)
        samples = np.array([self.items[name].samples for name in ids], dtype=np.int64)
        return LiveFeatures(
            self.live_encoder,
            lambda place: self.read(int(rows[place])),
            samples,
            level,
            threads=self.threads,
            processes=self.processes,
        )

    def read(self, row: int) -> Tensor:
        """Return the waveform of an utterance, `[samples]`; decoded once where all of them fit into memory."""
        if row not in self._waves:
            item, rate = self.items[self.utterances[row].id], self.live_encoder.sampling_rate
            wave = read_audio(self.root / item.path, sampling_rate=rate, start=item.start, end=item.end)
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
