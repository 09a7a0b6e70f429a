"""What spoiling at random has found: each is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedkit.errors import RunError
from embedkit.training.runs import read_run

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
