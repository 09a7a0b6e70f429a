"""Concatenated encoders against their parts, aligned by naive loops."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from embedkit.encoders.acoustic import LogMelEncoder, MfccEncoder
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.encoders.concatenation import ConcatenatedEncoder
from embedkit.errors import EncoderError


class FakeEncoder(Encoder):
    """Frame t of layer l is l + 1 times the clip's samples at hop t; padding frames are NaN."""

    def __init__(
        self,
        name: str = "fake",
        layers: tuple[int, ...] = (0, 1, 2),
        hop: int = 320,
        smallest: int = 400,
        sampling_rate: int = 16_000,
    ) -> None:
        self.name = name
        self.layers = layers
        self.hop = hop
        self.sampling_rate = sampling_rate
        self.frame_rate = sampling_rate / hop
        self.dimensions = 3
        self.smallest_input = smallest

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "precision": "fp32", "versions": {self.name: "1"}}

    def frame_count(self, samples: int) -> int:
        return (max(samples, self.smallest_input) - self.smallest_input) // self.hop + 1

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        assert all(len(waveform) >= self.smallest_input for waveform in waveforms)
        lengths = torch.tensor([self.frame_count(len(waveform)) for waveform in waveforms])
        for position, layer in enumerate(self.layers):
            values = torch.full((len(waveforms), int(lengths.max()) + 2, 3), torch.nan)
            for row, waveform in enumerate(waveforms):
                for frame in range(int(lengths[row])):
                    values[row, frame] = waveform[frame * self.hop : frame * self.hop + 3] * (layer + 1)
            sink(position, values, lengths)


def encode(encoder: Encoder, clips: list[Tensor]) -> list[list[np.ndarray]]:
    """Return the layers of each clip, `[frames, dimensions]` each."""
    layers: list[list[np.ndarray]] = [[] for _ in clips]
    seen = []

    def sink(position: int, values: Tensor, lengths: Tensor) -> None:
        seen.append(position)
        for row, length in enumerate(lengths.tolist()):
            layers[row].append(values[row, :length].clone().numpy())

    encoder.encode(clips, sink)
    assert seen == list(range(len(encoder.layers)))
    return layers


def naive_alignment(frames: int, rate: float, others: np.ndarray, other_rate: float) -> np.ndarray:
    rows = []
    for frame in range(frames):
        centre = (frame + 0.5) / rate
        distances = [abs((other + 0.5) / other_rate - centre) for other in range(len(others))]
        nearest = np.flatnonzero(np.isclose(distances, min(distances), rtol=0, atol=1e-9))
        rows.append(others[nearest[-1]])
    return np.array(rows)


def noise(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


PAIRS = {
    "many layers, then one": (FakeEncoder(), MfccEncoder("mfcc")),
    "one layer, then many": (MfccEncoder("mfcc"), FakeEncoder()),
    "coarse grid": (FakeEncoder(hop=15_360, smallest=15_600, layers=(0,)), MfccEncoder("mfcc")),
    "fine grid": (FakeEncoder(hop=160), FakeEncoder("other", layers=(4, 5, 6)), LogMelEncoder("logmel")),
    "odd rates": (FakeEncoder(hop=275), FakeEncoder("other", hop=441, smallest=900)),
}


@pytest.mark.parametrize("parts", PAIRS.values(), ids=PAIRS)
@pytest.mark.parametrize("samples", [1, 700, 5000, 33_333])
def test_every_layer_is_its_parts_side_by_side(parts: tuple[Encoder, ...], samples: int) -> None:
    encoder = ConcatenatedEncoder(parts)
    clip = noise(samples)
    padded = torch.cat([clip, torch.zeros(max(0, encoder.smallest_input - samples))])
    frames = parts[0].frame_count(len(padded))
    alone = [encode(part, [padded])[0] for part in parts]
    (layers,) = encode(encoder, [clip])
    assert encoder.frame_count(samples) == frames
    for position, values in enumerate(layers):
        expected = [
            naive_alignment(frames, encoder.frame_rate, own[min(position, len(own) - 1)], part.frame_rate)
            for part, own in zip(parts, alone, strict=True)
        ]
        np.testing.assert_array_equal(values, np.concatenate(expected, axis=1))
        assert values.shape == (frames, encoder.dimensions)


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=4))
@pytest.mark.parametrize("parts", PAIRS.values(), ids=PAIRS)
def test_a_clip_never_depends_on_its_batch(parts: tuple[Encoder, ...], lengths: list[int]) -> None:
    encoder = ConcatenatedEncoder(parts)
    clips = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    for clip, layers in zip(clips, encode(encoder, clips), strict=True):
        for values, alone in zip(layers, encode(encoder, [clip])[0], strict=True):
            assert len(values) == encoder.frame_count(len(clip))
            np.testing.assert_array_equal(values, alone)


def test_layers_are_handed_over_while_the_many_layer_part_still_runs() -> None:
    events: list[str] = []

    class Telling(FakeEncoder):
        def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
            super().encode(waveforms, lambda *layer: (events.append(f"computed {layer[0]}"), sink(*layer))[1])

    encoder = ConcatenatedEncoder([Telling(), MfccEncoder("mfcc")])
    encoder.encode([noise(3000)], lambda position, *_: events.append(f"handed {position}"))
    assert events == ["computed 0", "handed 0", "computed 1", "handed 1", "computed 2", "handed 2"]


def test_properties_follow_from_the_parts() -> None:
    fake, mfcc, logmel = FakeEncoder(layers=(4, 5)), MfccEncoder("mfcc"), LogMelEncoder("logmel")
    encoder = ConcatenatedEncoder([mfcc, fake])
    assert encoder.name == "mfcc+fake"
    assert encoder.layers == (4, 5)
    assert encoder.dimensions == 42
    assert encoder.smallest_input == 512
    assert encoder.default_levels == ("utterance",)
    assert encoder.default_head == "linear"
    assert encoder.default_frame_dtype == "float32"
    assert not encoder.equal_lengths
    fake.equal_lengths = True
    assert ConcatenatedEncoder([mfcc, fake]).equal_lengths
    acoustic = ConcatenatedEncoder([mfcc, logmel], name="both")
    assert (acoustic.name, acoustic.default_head) == ("both", "lstm")
    assert acoustic.default_levels == ("utterance", "frame")
    assert ConcatenatedEncoder([logmel, mfcc]).default_head == "lstm"


def test_identity_nests_the_parts() -> None:
    parts = [MfccEncoder("mfcc"), FakeEncoder()]
    identity = json.loads(json.dumps(ConcatenatedEncoder(parts).identity()))
    assert [part["name"] for part in identity["parts"]] == ["mfcc", "fake"]
    assert identity["precision"] == "fp32"
    assert identity["versions"].keys() == {"librosa", "fake"}


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([MfccEncoder("mfcc")], "two encoders"),
        ([FakeEncoder("a"), FakeEncoder("b", layers=(0, 1))], "a 3, b 2.*--layers"),
        ([MfccEncoder("mfcc"), FakeEncoder("b", sampling_rate=8000)], "mfcc 16000 Hz, b 8000 Hz"),
    ],
)
def test_parts_that_do_not_fit_get_one_sentence(parts: list[Encoder], told: str) -> None:
    with pytest.raises(EncoderError, match=told) as caught:
        ConcatenatedEncoder(parts)
    assert "\n" not in str(caught.value)
