"""What spoiling at random has found: each is refused in one sentence."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.errors import RunError
from embedkit.training.runs import read_run
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.workflows.tones import write_tones

GOLDEN = Path(__file__).parents[1] / "training" / "golden" / "runs" / "synthetic" / "tiny" / "linear" / "ce-01f35920"

FOUND: dict[str, tuple[str, Callable[[Any], object], str]] = {
    "folds that are a number": ("config", lambda data: data.update(folds=3), "folds is no object"),
    "names of folds that are text": (
        "config",
        lambda data: data["folds"].update(names="abc"),
        "folds.names is",
    ),
    "one number for seeds": ("config", lambda data: data.update(seeds=0.5), "seeds is no list"),
    "choices of numbers": ("config", lambda data: data.update(choices=[1.5]), "choices is no object"),
    "a seed that is an object": (
        "config",
        lambda data: data["choices"][0].update(seed={}),
        "choices.seed is of another",
    ),
    "an encoder that is true": (
        "config",
        lambda data: data["store"].update(encoder=True),
        "store.encoder is of another",
    ),
    "windows of text": (
        "config",
        lambda data: data["store"]["options"].update(max_seconds="x"),
        "max_seconds is",
    ),
    "a row of no corpus": ("metrics", lambda data: data.pop("corpus"), "corpus is missing"),
    "an interval of one end": ("metrics", lambda data: data.update(ua_ci=[0.1]), "ua_ci is no list of 2"),
    "an interval of text": ("metrics", lambda data: data.update(ua_ci=["a", "b"]), "ua_ci is of"),
    "curves of text": ("curves", lambda data: data.update(loss=[["=cmd()"]]), "loss is of"),
    "curves of two lengths": ("curves", lambda data: data.update(dev=[[0.1], [0.1, 0.2]]), "different lengths"),
}


@pytest.mark.parametrize("name", FOUND)
def test_a_spoiled_run_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    file, spoil, words = FOUND[name]
    folder = tmp_path / "run"
    shutil.copytree(GOLDEN, folder)
    path = folder / f"{file}.json"
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    with pytest.raises(RunError, match=words) as caught:
        read_run(folder).load_curves()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", ["dtype", "name"])
def test_an_escape_in_the_header_of_weights_reaches_neither_the_terminal_nor_the_log(
    tmp_path: Path, place: str
) -> None:
    corpus = write_tones(tmp_path / "corpus") / "corpus.csv"
    weights = write_conv_checkpoint(tmp_path / "c", "wav2vec2", num_hidden_layers=1) / "model.safetensors"
    data = weights.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    name = next(name for name in header if name != "__metadata__")
    if place == "dtype":
        header[name]["dtype"] = "\x1b[31mred"
    else:
        header["\x1b[31mred"] = header.pop(name)
    text = json.dumps(header).encode()
    weights.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
    log, out = tmp_path / "log", tmp_path / "new.h5"
    words = ["extract", str(corpus), "--encoder", str(weights.parent), "--out", str(out)]
    result = CliRunner().invoke(app, ["--log-file", str(log), *words])
    assert result.exit_code == 1, result.output
    # A name that is none of the encoder's is left out as a head's, and what it stood for is missing.
    assert ("\\x1b[31mred" if place == "dtype" else name) in result.stderr
    assert result.stderr.count("\n") == 1
    assert "\x1b" not in result.output + log.read_text()
