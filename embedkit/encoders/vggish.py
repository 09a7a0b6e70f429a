"""VGGish (Hershey et al., "CNN architectures for large-scale audio classification", ICASSP 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import pad

from embedkit.devices import resolve_device, takes_clips_alone, to_float64
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.encoders.device_copies import clips_on, to_device
from embedkit.encoders.precision import true_fp32
from embedkit.encoders.sources import VGGISH_FILE, read_card
from embedkit.encoders.vggish_weights import (
    PUBLISHED_URL,
    digest_weights,
    download_weights,
    load_weights,
    read_weights,
)
from embedkit.errors import EncoderError

SAMPLING_RATE = 16_000
HOP_SAMPLES = 160
WINDOW_SAMPLES = 400
FFT_SAMPLES = 512
BANDS = 64
LOWEST_HERTZ = 125.0
HIGHEST_HERTZ = 7500.0
LOG_OFFSET = 0.01
EXAMPLE_FRAMES = 96
EXAMPLES_PER_FORWARD = 128


@dataclass(frozen=True, kw_only=True)
class VggishShape:
    """Sizes of the network; the defaults are the published model's."""

    channels: tuple[int, int, int, int] = (64, 128, 256, 512)
    hidden: int = 4096
    dimensions: int = 128


class VggishNetwork(nn.Module):
    """The published network, with torchvggish's parameter names."""

    def __init__(self, shape: VggishShape) -> None:
        super().__init__()
        first, second, third, fourth = shape.channels
        self.features = nn.Sequential(
            *_convolution(1, first),
            nn.MaxPool2d(2),
            *_convolution(first, second),
            nn.MaxPool2d(2),
            *_convolution(second, third),
            *_convolution(third, third),
            nn.MaxPool2d(2),
            *_convolution(third, fourth),
            *_convolution(fourth, fourth),
            nn.MaxPool2d(2),
        )
        self.embeddings = nn.Sequential(
            nn.Linear(fourth * (EXAMPLE_FRAMES // 16) * (BANDS // 16), shape.hidden),
            nn.ReLU(),
            nn.Linear(shape.hidden, shape.hidden),
            nn.ReLU(),
            nn.Linear(shape.hidden, shape.dimensions),
            nn.ReLU(),
        )

    def forward(self, examples: Tensor) -> Tensor:
        """Embed log-mel examples.

        Shape:
            Input: `[examples, 96, 64]`, output: `[examples, dimensions]`.
        """
        maps: Tensor = self.features(examples.unsqueeze(1))
        # TensorFlow, where the weights come from, flattens as time, band, channel.
        embeddings: Tensor = self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))
        return embeddings


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.ReLU()


class VggishEncoder(Encoder):
    """One vector for each full 0.96 s of a clip; a trailing part of an example is dropped, as published.

    A clip shorter than one example (15,600 samples: 96 windows of 25 ms every 10 ms) is padded with zeros to one.
    The network ends in its ReLU; the PCA, whitening and 8-bit quantisation of AudioSet's release are not applied.

    Args:
        name: What the user called it.
        source: A `.pth`, `.pt` or `.safetensors` file in torchvggish's or torchaudio's layout; None downloads
            torchvggish's published file once into PyTorch's cache.
        device: Where the network runs: cpu, cuda, cuda:1, mps or auto.
        shape: Sizes the checkpoint must have.

    Raises:
        EncoderError: no such device, or weights that are unavailable or not exactly those of the network.
    """

    reentrant = True
    sampling_rate = SAMPLING_RATE
    frame_rate = SAMPLING_RATE / (EXAMPLE_FRAMES * HOP_SAMPLES)
    layers = (0,)
    smallest_input = WINDOW_SAMPLES + (EXAMPLE_FRAMES - 1) * HOP_SAMPLES
    default_levels = ("utterance", "frame")
    default_frame_dtype = "float32"
    default_head = "mlp"

    def __init__(
        self,
        name: str,
        source: str | Path | None = None,
        device: torch.device | str = "cpu",
        shape: VggishShape | None = None,
    ) -> None:
        shape = shape or VggishShape()
        self.name = name
        self.dimensions = shape.dimensions
        self.device = resolve_device(device)
        self._source = PUBLISHED_URL if source is None else str(source)
        self._trained_on = {} if source is None else read_card(Path(source).parent).get("trained_on", {})
        network = self._make(shape, source)
        self._weights_digest = digest_weights(network.state_dict())
        self.network: nn.Module = network.requires_grad_(False).eval().to(self.device)

    def _make(self, shape: VggishShape, source: str | Path | None) -> VggishNetwork:
        state = download_weights() if source is None else read_weights(Path(source))
        with torch.device("meta"):
            network = VggishNetwork(shape)
        load_weights(network, state, source=self._source)
        return network

    def save(self, folder: Path, network: nn.Module | None = None) -> None:
        """Write the weights in torchvggish's layout, ready for `load_encoder`."""
        save_file((network or self.network).state_dict(), folder / VGGISH_FILE)

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return {
            "name": self.name,
            "family": "vggish",
            "source": self._source,
            "revision": None,
            "weights_digest": self._weights_digest,
            "layers": list(self.layers),
            "sampling_rate": self.sampling_rate,
            "frame_rate": self.frame_rate,
            "dimensions": self.dimensions,
            "normalisation": "none",
            "window": {"samples": self.smallest_input, "hop_samples": EXAMPLE_FRAMES * HOP_SAMPLES},
            "last_activation": "relu",
            "postprocessing": "none",
            "precision": "fp32",
            "versions": {"torch": torch.__version__},
            **({"trained_on": self._trained_on} if self._trained_on else {}),
        }

    def frame_count(self, samples: int) -> int:
        """Return how many full examples a clip has, after padding to `smallest_input`."""
        windows = 1 + (max(samples, self.smallest_input) - WINDOW_SAMPLES) // HOP_SAMPLES
        return windows // EXAMPLE_FRAMES

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run the examples of all clips `[samples]` as one batch, at most 128 at a time."""
        with torch.inference_mode():
            self.forward(waveforms, sink)

    def forward(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        """Run the examples of all clips `[samples]` with gradients."""
        lengths = torch.tensor([self.frame_count(len(waveform)) for waveform in waveforms])
        # Which examples of a padded batch are a clip's own.
        own = (torch.arange(int(lengths.max())) < lengths[:, None]).flatten().nonzero()[:, 0]
        place = to_device(own, self.device)
        if takes_clips_alone(self.device):
            examples = torch.cat([log_mel_examples(_pad_to(waveform, self.smallest_input)) for waveform in waveforms])
        else:
            batch = _pad_to(clips_on(waveforms, self.device), self.smallest_input)
            examples = log_mel_examples(batch).flatten(0, 1)[place]
        with true_fp32():
            vectors = torch.cat([self.network(part) for part in torch.split(examples, EXAMPLES_PER_FORWARD)])
        padded = vectors.new_zeros(len(lengths) * int(lengths.max()), self.dimensions).index_copy(0, place, vectors)
        sink(0, padded.view(len(lengths), -1, self.dimensions), lengths)


class UntrainedVggish(VggishEncoder):
    """The network of VGGish with random weights (He et al. 2015), as where it is trained from scratch."""

    def _make(self, shape: VggishShape, source: str | Path | None) -> VggishNetwork:
        if source is not None:
            raise EncoderError(f"The encoder {self.name!r} starts from random weights; remove its source {source!r}.")
        self._source = "random weights"
        network = VggishNetwork(shape)
        _draw(network, 0)
        return network

    def draw(self, seed: int) -> bool:
        """Draw new weights."""
        _draw(self.network, seed)
        return True


@torch.no_grad()
def _draw(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(network.named_parameters()):
        fresh = torch.zeros(parameter.shape)
        if name.endswith("weight"):
            nn.init.kaiming_normal_(fresh, nonlinearity="relu", generator=generator)
        parameter.copy_(fresh)


def _pad_to(waveform: Tensor, samples: int) -> Tensor:
    return pad(waveform, (0, max(0, samples - waveform.shape[-1])))


def log_mel_examples(waveform: Tensor) -> Tensor:
    """Compute the published model's input: log(mel + 0.01) of magnitude spectra, cut into examples without overlap.

    The spectra are computed in float64, as the published front end does.

    Shape:
        Input: `[..., samples]`, at least 15,600; output: float32 `[..., examples, 96, 64]`.
    """
    exact = to_float64(waveform)
    window = torch.hann_window(WINDOW_SAMPLES, periodic=True, dtype=torch.float64, device=exact.device)
    frames = exact.unfold(-1, WINDOW_SAMPLES, HOP_SAMPLES) * window
    magnitudes = torch.fft.rfft(frames, n=FFT_SAMPLES).abs()
    log_mel = torch.log(magnitudes @ to_device(_mel_filters(), exact.device) + LOG_OFFSET)
    count = log_mel.shape[-2] // EXAMPLE_FRAMES
    examples = torch.unflatten(log_mel[..., : count * EXAMPLE_FRAMES, :], -2, (count, EXAMPLE_FRAMES))
    return examples.float().to(waveform.device)


@lru_cache
def _mel_filters() -> Tensor:
    """Return float64 `[257, 64]`: triangles that are linear in mel (HTK's formula), not in hertz, with peaks of 1."""
    bins = _mel(torch.linspace(0.0, SAMPLING_RATE / 2, FFT_SAMPLES // 2 + 1, dtype=torch.float64))
    lowest, highest = _mel(torch.tensor([LOWEST_HERTZ, HIGHEST_HERTZ], dtype=torch.float64)).tolist()
    edges = torch.linspace(lowest, highest, BANDS + 2, dtype=torch.float64)
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins[:, None] - lower) / (centre - lower)
    falling = (upper - bins[:, None]) / (upper - centre)
    return torch.minimum(rising, falling).clamp(min=0.0)


def _mel(hertz: Tensor) -> Tensor:
    return 1127.0 * torch.log1p(hertz / 700.0)
