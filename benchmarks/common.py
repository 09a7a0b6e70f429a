"""What the benchmarks share: a corpus, a checkpoint of true size, a table, and what they ran on."""

from __future__ import annotations

import multiprocessing
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.console import Console
from rich.table import Table

import embedkit
from embedkit.corpora import Corpus, open_corpus
from embedkit.encoders import load_encoder
from embedkit.extraction.threads import open_ahead
from embedkit.store import Store
from embedkit.workflows import extract as workflow


@dataclass(frozen=True)
class Outcome:
    """Heads trained, seconds, mean test UA over the heads compared, peak memory in MB, and what else was timed."""

    heads: int
    seconds: float
    ua: float
    peak: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)


def spread_corpus(path: str | Corpus, limit: int | None) -> Corpus:
    """Open a corpus, unless it is open; take only so many utterances, evenly spread, in its own order."""
    corpus = path if isinstance(path, Corpus) else open_corpus(path)
    count = len(corpus.utterances)
    if limit is None or limit >= count:
        return corpus
    return replace(corpus, utterances=tuple(corpus.utterances[index * count // limit] for index in range(limit)))


LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
WHISPER_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "encoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_layers": 1,
    "decoder_attention_heads": 8,
    "vocab_size": 100,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "decoder_start_token_id": 1,
}
SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "wav2vec2": ("Wav2Vec2", {}),
    "hubert": ("Hubert", {}),
    "hubert-large": ("Hubert", LARGE),
    "wavlm": ("WavLM", {}),
    "whisper-base": ("Whisper", WHISPER_BASE),
    "w2v-bert": ("Wav2Vec2Bert", {"feature_projection_input_dim": 160}),
}
EXTRACTORS = {"Whisper": "WhisperFeatureExtractor", "Wav2Vec2Bert": "SeamlessM4TFeatureExtractor"}
"""Checkpoints of the published sizes; of Whisper's decoder, which nothing here runs, one layer."""


def write_encoder(folder: Path, name: str, **smaller: Any) -> Path:
    """Write one of `SIZES` with random weights: speed and memory do not depend on the weights.

    Args:
        folder: Where its folder goes, which is called like it.
        name: Which of `SIZES`.
        smaller: Settings of its configuration that are to be others.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    kind, settings = SIZES[name]
    config = getattr(transformers, f"{kind}Config")(**{**settings, **smaller})
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder / name)
    getattr(transformers, EXTRACTORS.get(kind, "Wav2Vec2FeatureExtractor"))().save_pretrained(folder / name)
    return folder / name


class Timing:
    """Seconds on the clock and of the processor, and what was computed."""

    def __init__(self) -> None:
        self.means: np.ndarray | None = None
        self.audio = self.padding = 0.0
        self._started = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """Take the times."""
        self.seconds = time.perf_counter() - self._started[0]
        self.processor = time.process_time() - self._started[1]


class Loop:
    """What people write: transformers over files in their order, hidden states averaged over time."""

    def __init__(self, encoder: str, dtype: torch.dtype, device: str = "cpu") -> None:
        import transformers

        transformers.utils.logging.disable_progress_bar()
        self.extractor = transformers.AutoFeatureExtractor.from_pretrained(encoder)
        model = transformers.AutoModel.from_pretrained(encoder, dtype=dtype).eval().to(device)
        self.model: Any = model.get_encoder() if model.config.is_encoder_decoder else model
        self.dtype, self.device = dtype, device

    @torch.inference_mode()
    def run(self, corpus: Corpus, size: int) -> Timing:
        """Time one pass over the corpus in batches of so many files."""
        means = []
        timing = Timing()
        for batch in grouped([corpus.audio_path(utterance) for utterance in corpus.utterances], size):
            clips = [soundfile.read(path, dtype="float32")[0] for path in batch]
            timing.audio += sum(map(len, clips)) / self.extractor.sampling_rate
            inputs = self.extractor(
                clips, sampling_rate=self.extractor.sampling_rate, return_tensors="pt", padding=self._padding(size)
            )
            values = next(iter(inputs.values())).to(self.device, self.dtype)
            states = self.model(values, output_hidden_states=True).hidden_states
            means.append(torch.stack([state.float().mean(1) for state in states], 1).cpu())
        timing.stop()
        timing.means = torch.cat(means).numpy()
        return timing

    def _padding(self, size: int) -> Any:
        whisper = hasattr(self.extractor, "n_fft")
        return "max_length" if whisper else size > 1


class Extraction:
    """embedkit's `extract`, and its forward passes alone, on the batches that it planned."""

    def __init__(
        self,
        corpus: Corpus,
        encoder: str,
        work: Path,
        precision: str,
        *,
        device: str = "cpu",
        layers: str = "all",
        **options: Any,
    ) -> None:
        self.corpus, self.out = corpus, work / "store.h5"
        self.loaded = load_encoder(encoder, precision=precision, device=device, layers=layers)
        fp32 = precision == "fp32"
        self.reference = self.loaded if fp32 else load_encoder(encoder, device=device, layers=layers)
        self.name, self.precision = encoder, precision
        self.options = {"device": device, "layers": layers, "tell": lambda sentence: None, **options}
        self.batches: list[list[torch.Tensor]] = []

    def extract(self) -> Store:
        """Extract into a fresh store with the encoder that is loaded already."""
        self.out.unlink(missing_ok=True)
        self.batches.clear()
        with self._loaded_already():
            return embedkit.extract(
                self.corpus, encoder=self.name, out=self.out, precision=self.precision, **self.options
            )

    def run(self) -> Timing:
        """Time one extraction into a fresh store."""
        timing = Timing()
        store = self.extract()
        timing.stop()
        rows = {name: row for row, name in enumerate(store.ids.tolist())}
        order = [rows[utterance.id] for utterance in self.corpus.utterances]
        computed = sum(len(batch) * max(map(len, batch)) for batch in self.batches)
        own = sum(len(clip) for batch in self.batches for clip in batch)
        timing.means, timing.audio = store.mean("all")[order], float(store.column("duration").sum())
        timing.padding = 1 - own / computed
        return timing

    def repeat_passes(self, side_by_side: int = 1) -> Timing:
        """Time the forward passes of the last extraction, their results thrown away; so many run at a time."""

        def encode(batch: list[torch.Tensor]) -> None:
            self.loaded.encode(batch, lambda position, values, lengths: None)

        timing = Timing()
        if side_by_side == 1:
            for batch in self.batches:
                encode(batch)
        else:
            with open_ahead(side_by_side, 1) as ahead:
                for _ in ahead.map(encode, self.batches):
                    pass
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        timing.stop()
        return timing

    @contextmanager
    def _loaded_already(self) -> Iterator[None]:
        """Hand out the encoders that are loaded, and note the batches that pass."""
        load, encode = workflow.load_encoder, self.loaded.encode

        def noted(batch: Sequence[torch.Tensor], sink: Any) -> None:
            self.batches.append(list(batch))
            encode(batch, sink)

        def loaded(name: str, *, precision: str, **options: Any) -> Any:
            return self.loaded if precision == self.precision else self.reference

        workflow.load_encoder = loaded
        self.loaded.encode = noted
        try:
            yield
        finally:
            workflow.load_encoder = load
            self.loaded.encode = encode


def grouped(paths: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    """Cut a list into groups."""
    for start in range(0, len(paths), size):
        yield paths[start : start + size]


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print a table; every column but the first holds numbers."""
    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console = Console(width=None if os.isatty(1) else 140)
    console.print(title, highlight=False, markup=False)
    console.print(table)


def describe_machine() -> str:
    """Name the processor, the threads and the versions that the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "h5py", "numpy"))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
        f"{load}; Python {platform.python_version()}, {packages}"
    )


def median(values: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def run_apart(way: Callable[..., Outcome], *arguments: Any, **settings: Any) -> Outcome:
    """Run in a fresh process and add the peak memory of the largest process there was."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, way, arguments, settings).result()


def _measure(way: Callable[..., Outcome], arguments: tuple[Any, ...], settings: dict[str, Any]) -> Outcome:
    one = way(*arguments, **settings)
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in whose) / 1000
    return replace(one, peak=peak)
