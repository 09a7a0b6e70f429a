"""A git-lfs pointer is named as one, whatever it stands for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedkit.audio import probe_audio
from embedkit.encoders import load_encoder
from embedkit.encoders.layout import read_settings_file
from embedkit.errors import EmbedkitError
from embedkit.export.predictor import open_predictor
from embedkit.received import describe_pointer
from embedkit.store import open_store
from embedkit.training.runs import RunRecord

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345678\n"

READERS: dict[str, Callable[[Path], Any]] = {
    "clip.wav": probe_audio,
    "clip.flac": probe_audio,
    "store.h5": open_store,
    "config.json": read_settings_file,
    "weights.pth": lambda path: load_encoder("vggish", sources={"vggish": str(path)}),
    "weights.safetensors": lambda path: load_encoder("vggish", sources={"vggish": str(path)}),
    "heads.safetensors": lambda path: RunRecord(folder=path.parent, config={}, metrics={}).load_heads(),
    "head.safetensors": lambda path: open_predictor(path.parent),
}


@pytest.mark.parametrize("name", READERS)
def test_it_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(POINTER)
    (tmp_path / "predictor.json").write_text('{"format": "embedkit-predictor", "format_version": 1}')
    with pytest.raises(EmbedkitError) as caught:
        READERS[name](path)
    told = (
        f"{name} is a git-lfs pointer, not the 12,345,678 bytes it stands for; run `git lfs pull` in {str(tmp_path)!r}"
    )
    assert told in str(caught.value)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "version https://git-lfs.github.com/spec/v1\n", "size 1\n", "RIFF" + POINTER])
def test_other_files_are_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text(text)
    assert describe_pointer(path) is None


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "none"):
        assert describe_pointer(tmp_path / name) is None
