"""What the parts share: the speech, the checkpoints, the floating-point work in them, the card's rate, a report."""

from __future__ import annotations

import json
import math
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from common import median, show_table, write_encoder
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from embedkit.corpora import Corpus, open_corpus
from embedkit.encoders.layout import EMOTION2VEC_FILE
from embedkit.encoders.precision import DTYPES, true_fp32

SAMPLING_RATE = 16_000
CLASSES = 7
SPEAKERS = 10
TINY: Mapping[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
TINY_BERT: Mapping[str, Any] = {key: TINY[key] for key in list(TINY)[:4]}
EMOTION2VEC: Mapping[str, Any] = {
    "model_type": "emotion2vec",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "conv_dim": (512,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "num_conv_pos_embeddings": 5 * 19,
    "num_conv_pos_embedding_groups": 16,
}
TINY_WHISPER: Mapping[str, Any] = {
    "d_model": 32,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 64,
}


@dataclass(kw_only=True)
class Bench:
    """One run of the benchmark.

    Attributes:
        device: "cuda" or "cpu".
        small: Everything tiny, to try the script out.
        runs: Repetitions of what is short; medians are shown.
        work: Folder of checkpoints and stores.
        corpus: Some five hundred short utterances.
        hours: Audio of the corpus that extraction is timed on.
        report: Receives the tables.
    """

    device: str
    small: bool
    runs: int
    work: Path
    corpus: Corpus
    hours: float
    report: Report

    def encoder(self, name: str) -> str:
        """Write a checkpoint once and return its folder."""
        folder = self.work / name
        if not folder.exists():
            if name == "emotion2vec":
                write_emotion2vec(folder, self.small)
            else:
                tiny = {"whisper-base": TINY_WHISPER, "w2v-bert": TINY_BERT}.get(name, TINY)
                write_encoder(self.work, name, **(tiny if self.small else {}))
        return str(folder)

    def of_seconds(self, seconds: float) -> Corpus:
        """Repeat the corpus, or take its beginning, until it has so much audio."""
        chosen, total = [], 0.0
        lengths = [soundfile.info(self.corpus.audio_path(one)).duration for one in self.corpus.utterances]
        for number in range(10_000):
            for utterance, length in zip(self.corpus.utterances, lengths, strict=True):
                chosen.append(replace(utterance, id=f"{utterance.id}-{number:04d}"))
                total += length
                if total >= seconds:
                    return replace(self.corpus, utterances=tuple(chosen))
        raise ValueError("The corpus holds next to no audio.")

    def rate(self, precision: str) -> float:
        """Return the matrix products a second, in floating-point operations, at a precision."""
        return matrix_rate(self.device, precision, 512 if self.small else 8192)

    def share(self, operations: float, seconds: float, precision: str) -> float:
        """Return what share of the measured rate some work reached."""
        return operations / seconds / self.rate(precision)


def write_emotion2vec(folder: Path, small: bool) -> None:
    """Write emotion2vec's weights, random, of the published size or narrow."""
    from embedkit.encoders.emotion2vec_weights import _outline, write_network

    sizes = {"dimensions": 64, "wide": 256, "channels": 16, "heads": 4} if small else {}
    told = {
        "modality_encoders.AUDIO.extra_tokens": torch.empty(1, 10, sizes.get("dimensions", 768)),
        "modality_encoders.AUDIO.alibi_scale": torch.empty(1, 1, sizes.get("heads", 12), 1, 1),
        "modality_encoders.AUDIO.project_features.2.weight": torch.empty(
            sizes.get("dimensions", 768), sizes.get("channels", 512)
        ),
        "blocks.0.mlp.fc1.weight": torch.empty(sizes.get("wide", 3072), sizes.get("dimensions", 768)),
    }
    outline: Any = _outline
    network = outline(told, None).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for value in network.state_dict().values():
        value.copy_(torch.randn(value.shape, generator=generator) * (0.02 if value.ndim > 1 else 1.0))
    folder.mkdir()
    write_network(network, folder)


def write_speech(folder: Path, count: int, longest: float) -> Corpus:
    """Write noise in clips of the lengths that EmoDB's have: 1.2 to 9 s, 2.8 s on average."""
    generator = np.random.default_rng(0)
    seconds = np.clip(generator.lognormal(math.log(2.63), 0.33, count), 1.2, 9.0) * (longest / 9.0)
    steps = np.arange(60 * SAMPLING_RATE)
    noise = 0.1 * generator.standard_normal(len(steps)) * (0.2 + np.abs(np.sin(steps / 3000)))
    folder.mkdir(parents=True)
    rows = ["path,label,speaker"]
    for number, length in enumerate((seconds * SAMPLING_RATE).astype(int)):
        start = int(generator.integers(0, len(noise) - length))
        soundfile.write(folder / f"{number:04d}.wav", noise[start : start + length], SAMPLING_RATE)
        rows.append(f"{number:04d}.wav,c{number % CLASSES},s{number // CLASSES % SPEAKERS:02d}")
    (folder / "corpus.csv").write_text("\n".join(rows) + "\n")
    return open_corpus(folder / "corpus.csv")


def lengths_of(corpus: Corpus) -> list[int]:
    """Return the samples of every utterance at 16 kHz."""
    found: dict[str, float] = {}
    for utterance in corpus.utterances:
        if utterance.path not in found:
            found[utterance.path] = soundfile.info(corpus.audio_path(utterance)).duration
    return [round(found[utterance.path] * SAMPLING_RATE) for utterance in corpus.utterances]


class Operations(NamedTuple):
    """Floating-point operations of a clip's forward pass: a multiplication and an addition are two."""

    front: float
    middle: float
    layers: float

    @property
    def forward(self) -> float:
        """Those of a forward pass."""
        return self.front + self.middle + self.layers

    @property
    def training(self) -> float:
        """Those of a step: thrice the forward pass where there are gradients; the convolutional front keeps still."""
        return self.front + 3 * (self.middle + self.layers)


def count_operations(encoder: str, samples: int, depth: int | None = None) -> Operations:
    """Count convolutions, linear layers and attention for one clip, from the configuration.

    Args:
        encoder: The checkpoint's folder.
        samples: At 16 kHz, padding left out.
        depth: Transformer layers that run; None for all.
    """
    config = _read_config(encoder)
    if config["model_type"] == "whisper":
        width, inner, layers = config["d_model"], config["encoder_ffn_dim"], config["encoder_layers"]
        frames = math.ceil(samples / 320)
        front, middle = 2.0 * frames * 3 * width * (2 * config["num_mel_bins"] + width), 0.0
    elif config["model_type"] == "wav2vec2-bert":
        width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        frames = math.ceil(samples / 320)
        front, middle = 0.0, 2.0 * frames * 160 * width
        # A second feed-forward part, and a convolution of which two thirds are as wide again.
        extra = 2.0 * frames * (2 * width * inner + 3 * width**2 + width * config["conv_depthwise_kernel_size"])
        middle += extra * (layers if depth is None else depth)
    else:
        width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
        front, frames, channels = 0.0, samples, 1
        for outputs, kernel, stride in zip(
            config["conv_dim"], config["conv_kernel"], config["conv_stride"], strict=True
        ):
            frames = (frames - kernel) // stride + 1
            front += 2.0 * frames * channels * outputs * kernel
            channels = outputs
        by_group = width // config["num_conv_pos_embedding_groups"] * config["num_conv_pos_embeddings"]
        middle = 2.0 * frames * width * (channels + by_group)
    one = 2.0 * frames * (4 * width**2 + 2 * width * inner) + 4.0 * frames**2 * width
    return Operations(front, middle, one * (layers if depth is None else depth))


@cache
def _read_config(encoder: str) -> dict[str, Any]:
    import transformers

    if (Path(encoder) / EMOTION2VEC_FILE).is_file():
        return dict(EMOTION2VEC)
    found: dict[str, Any] = transformers.AutoConfig.from_pretrained(encoder).to_dict()
    return found


def depth_of(encoder: str) -> int:
    """Return the number of transformer layers."""
    config = _read_config(encoder)
    return int(config.get("encoder_layers") or config["num_hidden_layers"])


def width_of(encoder: str) -> int:
    """Return the dimensions of a layer."""
    config = _read_config(encoder)
    return int(config.get("d_model") or config["hidden_size"])


@cache
def matrix_rate(device: str, precision: str, size: int) -> float:
    """Measure square matrix products, operations a second (median of 20)."""
    left, right = (torch.randn(size, size, device=device, dtype=DTYPES[precision]) for _ in range(2))
    seconds = []
    with true_fp32():
        for _ in range(25):
            finish(device)
            start = time.perf_counter()
            torch.matmul(left, right)
            finish(device)
            seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / median(seconds[5:])


def finish(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def timed(device: str, run: Callable[[], Any]) -> float:
    """Return the seconds of a call, the device's work included."""
    finish(device)
    start = time.perf_counter()
    run()
    finish(device)
    return time.perf_counter() - start


@contextmanager
def peak_memory(device: str) -> Iterator[dict[str, float]]:
    """Put the most memory that tensors took on the card, in GB, under "peak GB"; nothing on a CPU."""
    found: dict[str, float] = {}
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    yield found
    found["peak GB"] = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else math.nan


class Watched(NamedTuple):
    """Share of the time in which no kernel ran, and the kernels by their share of the kernels' time."""

    idle: float
    top: list[tuple[str, float]]


def watch(device: str, run: Callable[[], Any]) -> Watched:
    """Run under the profiler; on a CPU operators stand where kernels do."""
    cuda = device == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as found:
        seconds = timed(device, run)
    kind = DeviceType.CUDA if cuda else DeviceType.CPU
    recorder: Any = found.profiler
    spans, shares = [], Counter[str]()
    for event in recorder.kineto_results.events():
        if event.device_type() == kind and not event.name().startswith(("Memcpy", "Memset", "ProfilerStep")):
            spans.append((event.start_ns(), event.start_ns() + event.duration_ns()))
            shares[event.name()] += event.duration_ns()
    if not spans:
        return Watched(math.nan, [])
    total = sum(shares.values())
    return Watched(
        1 - _covered(spans) / (seconds * 1e9), [(name, part / total) for name, part in shares.most_common(6)]
    )


def _covered(spans: list[tuple[int, int]]) -> int:
    covered, until = 0, 0
    for start, end in sorted(spans):
        covered += max(0, end - max(start, until))
        until = max(until, end)
    return covered


@dataclass
class Report:
    """Prints tables as they come and keeps them, in a JSON file as well.

    Attributes:
        out: The file; written anew after every table, so that a run that was stopped leaves what it had.
        found: What stands in it.
    """

    out: Path | None
    found: dict[str, Any] = field(default_factory=lambda: {"tables": [], "problems": [], "measured": {}})

    def table(self, title: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take one table; rows have the same columns."""
        self.found["tables"].append({"title": title, "rows": [dict(row) for row in rows]})
        if rows:
            show_table(title, list(rows[0]), [[_shown(value) for value in row.values()] for row in rows])
        self.save()

    @contextmanager
    def trying(self, what: str) -> Iterator[None]:
        """Tell in a line what fails inside, and go on."""
        try:
            yield
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            reason = str(error).partition("\n")[0][:300]
            line = f"{what}: {type(error).__name__}: {reason} ({Path(place.filename).name}:{place.lineno})"
            print(f"FAILED {line}", flush=True)
            self.found["problems"].append(line)
            self.save()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def save(self) -> None:
        """Write the file."""
        if self.out is not None:
            self.out.write_text(json.dumps(self.found, indent=1, default=str) + "\n")


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)
