"""Encoders of the user's own, by `package.module:MyEncoder`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from embedkit.encoders import encoder_label, load_encoder
from embedkit.encoders.base import Encoder, LayerSink
from embedkit.errors import EmbedkitError, EncoderError, UnknownNameError
from embedkit.extraction.report import gains_from_bf16
from embedkit.extraction.windows import Windows
from embedkit.imports import take_word


class Energy(Encoder):
    sampling_rate, frame_rate, layers, dimensions, smallest_input = 16_000, 50.0, (0,), 1, 320

    def identity(self) -> dict[str, Any]:
        return {"name": self.name}

    def frame_count(self, samples: int) -> int:
        return samples // 320

    def encode(self, waveforms: Sequence[Tensor], sink: LayerSink) -> None:
        sink(0, torch.zeros(len(waveforms), 1, 1), torch.ones(len(waveforms), dtype=torch.int64))


class Choosy(Energy):
    def __init__(self, layers: str, device: str, precision: str = "fp32") -> None:
        self.given = (layers, device, precision)


class Placed(Energy):
    def __init__(self, device: str) -> None:
        self.device = f"{device}:1"


class Unfinished(Encoder):
    def frame_count(self, samples: int) -> int:
        return samples


class Sizeless(Energy):
    def __getattribute__(self, name: str) -> Any:
        if name == "dimensions":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.fixture(autouse=True)
def _own_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    module = ModuleType("own.encoders")
    for cls in (Energy, Choosy, Placed, Unfinished, Sizeless):
        setattr(module, cls.__name__, cls)
    sys.modules["own.encoders"] = module
    monkeypatch.setattr("embedkit.imports._WORD", {})
    take_word([f"own.encoders:{name}" for name in vars(module)])
    yield
    del sys.modules["own.encoders"]


def test_a_class_is_made_under_its_name() -> None:
    encoder = load_encoder("own.encoders:Energy")
    assert isinstance(encoder, Energy)
    assert encoder.name == "own.encoders:Energy"
    assert encoder_label(encoder.name) == "own.encoders-Energy"
    assert load_encoder("own.encoders:Energy", layers="0").layers == (0,)


def test_it_gets_the_options_that_it_takes() -> None:
    encoder: Any = load_encoder("own.encoders:Choosy", layers="last", device="cpu", precision="bf16")
    assert encoder.given == ("last", "cpu", "bf16")


def test_it_can_be_concatenated() -> None:
    encoder = load_encoder("mfcc+own.encoders:Energy")
    assert encoder.dimensions == 40


def test_what_it_does_not_say_of_itself_is_declared() -> None:
    encoder = load_encoder("own.encoders:Energy")
    assert (encoder.largest_input, encoder.layerdrop, encoder.parts) == (None, 0.0, ())
    assert torch.device(encoder.device).type == "cpu"
    assert not gains_from_bf16(encoder)
    assert Windows.for_encoder(encoder, None) is None
    with pytest.raises(EncoderError, match="loaded as it is"):
        encoder.prepare_training()


@pytest.mark.parametrize(("name", "place"), [("Choosy", "meta"), ("Placed", "meta:1"), ("Energy", "cpu")])
def test_it_is_where_it_says_or_where_it_was_asked_to_be(
    name: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embedkit.encoders.own.resolve_device", lambda _: torch.device("meta"))
    encoder = load_encoder(f"own.encoders:{name}", device="cuda")
    assert torch.device(encoder.device) == torch.device(place)
    joined = load_encoder(f"own.encoders:Energy+own.encoders:{name}", device="cuda")
    assert torch.device(joined.device) == torch.device(place)


@pytest.mark.parametrize(
    ("name", "options", "error", "sentence"),
    [
        ("own.encoders:Energi", {}, UnknownNameError, "Cannot import 'own.encoders:Energi'"),
        ("no.such.package:Energy", {}, UnknownNameError, "Cannot import"),
        ("own.encoders:Unfinished", {}, EncoderError, "lacks the methods encode, identity"),
        ("own.encoders:Sizeless", {}, EncoderError, "lacks the attribute 'dimensions'"),
        ("pathlib.posix:Path", {}, EmbedkitError, "Cannot import"),
        ("collections.abc:Sized", {}, EncoderError, "expected a subclass of"),
        ("own.encoders:Energy", {"precision": "bf16"}, EncoderError, "has no precision option"),
        ("own.encoders:Energy", {"window": "30"}, EncoderError, "has no window option"),
        ("own.encoders:Energy", {"layers": "3"}, EncoderError, "are not there"),
    ],
)
def test_what_cannot_be_an_encoder_is_told(
    name: str, options: dict[str, Any], error: type[EmbedkitError], sentence: str
) -> None:
    take_word(name)
    with pytest.raises(error, match=sentence):
        load_encoder(name, **options)
