"""TorchCodec as tests need it: absent, without FFmpeg, or a stand-in that decodes what `write_container` wrote."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

_HEAD = b"\0\0\0\x20ftypM4A "


def load_encoders() -> Any:
    """Return TorchCodec's own encoders; the test is skipped where they cannot be used."""
    library = pytest.importorskip("torchcodec", reason="needs torchcodec, of the extra `video`")
    if library.ffmpeg_major_version is None:
        pytest.skip("needs FFmpeg, for torchcodec")
    return import_module("torchcodec.encoders")


def hide_torchcodec(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have it not installed, whatever is."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)


def stand_in(monkeypatch: pytest.MonkeyPatch, *, ffmpeg: int | None = 7) -> None:
    """Have it installed, with FFmpeg of this version (None: without FFmpeg)."""
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    package.__spec__ = ModuleSpec("torchcodec", None)
    package.__dict__["ffmpeg_major_version"] = ffmpeg
    decoders.__dict__.update(Demuxer=_Demuxer, AudioConverter=_Converter)
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)


def write_container(path: Path, lengths: list[int], *, rates: tuple[int, ...] = (16_000,), **more: Any) -> np.ndarray:
    """Write packets of so many samples for the stand-in; return all samples, float32 `[samples, channels]`."""
    settings = {"lengths": lengths, "rates": rates, "channels": 1, "told": None, "breaks": False, **more}
    path.write_bytes(_HEAD + json.dumps(settings).encode())
    return np.concatenate(_packets(settings))


def _packets(settings: dict[str, Any]) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    shapes = [(length, settings["channels"]) for length in settings["lengths"]]
    return [random.uniform(-0.5, 0.5, shape).astype(np.float32) for shape in shapes] or [np.empty((0, 1), np.float32)]


class _Demuxer:
    """One packet behind, as codecs are: the last one comes when it is drained."""

    def __init__(self, file: Any, *, streams: str) -> None:
        head, content = file.read(len(_HEAD)), file.read()
        if not content.startswith(b"{"):
            raise RuntimeError("Demuxer, /src/Demuxer.cpp:12, Could not open input buffer: Invalid data\nmore")
        self._settings = json.loads(content)
        if head != _HEAD or streams != "audio" or self._settings["channels"] == 0:
            raise ValueError("add_stream, /src/Demuxer.cpp:195, No valid audio stream found in input file.")
        self._held: list[Any] = []
        metadata = SimpleNamespace(duration_seconds_from_header=self._settings["told"])
        self.streams = (SimpleNamespace(metadata=metadata, make_decoder=lambda: self),)

    def __iter__(self) -> Any:
        place, settings = 0.0, self._settings
        for number, packet in enumerate(_packets(settings) if settings["lengths"] else []):
            rate = settings["rates"][number % len(settings["rates"])]
            yield SimpleNamespace(data=packet, sample_rate=rate, pts_seconds=place, duration_seconds=len(packet) / rate)
            place += len(packet) / rate
        if settings["breaks"]:
            raise RuntimeError("Failed to send packet to decoder (status -1094995529)")

    def decode(self, packet: Any) -> list[Any]:
        ready, self._held = self._held, [packet]
        return ready

    def drain(self) -> list[Any]:
        return self._held


class _Converter:
    def convert(self, raw: Any) -> Any:
        return SimpleNamespace(data=torch.from_numpy(raw.data.T.copy()))
