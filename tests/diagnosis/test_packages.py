"""What embedkit's own metadata say, from a checkout and from site-packages, and libraries that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from embedkit.diagnosis import packages
from embedkit.diagnosis.packages import extra_rows, library_rows
from embedkit.diagnosis.project import installer, read_project
from embedkit.diagnosis.trial import Outcome

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json
from embedkit.diagnosis.project import read_project
one = read_project()
extras = {extra: sorted(map(str, parts)) for extra, parts in one.extras.items()}
print(json.dumps([one.origin, one.install_command("ray"), sorted(map(str, one.required)), extras]))
"""


@pytest.mark.parametrize(
    ("url", "origin", "source"),
    [
        (None, "the package index", "NAME"),
        ("FOLDER", "the folder FOLDER", "FOLDER"),
        ("git+https://user:password@host/repository", "an address", "NAME"),
    ],
)
def test_installed_metadata_say_the_same_as_the_checkouts(
    url: str | None, origin: str, source: str, tmp_path: Path
) -> None:
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path / "wheel"), versions=["standard"])
    with zipfile.ZipFile(path) as wheel:
        wheel.extractall(tmp_path / "site")
    (metadata,) = (tmp_path / "site").glob("*.dist-info")
    folder = tmp_path / "my folder"
    folder.mkdir()
    if url is not None:
        url = url.replace("FOLDER", folder.as_uri())
        (metadata / "direct_url.json").write_text(json.dumps({"url": url}))
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-P", "-c", SCRIPT]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    project = read_project()
    assert json.loads(done.stdout) == [
        origin.replace("FOLDER", str(folder)),
        f"pip install '{source.replace('NAME', project.name).replace('FOLDER', str(folder))}[ray]'",
        sorted(map(str, project.required)),
        {extra: sorted(map(str, parts)) for extra, parts in project.extras.items()},
    ]


def test_what_is_not_installed_is_broken_where_it_is_needed_and_missing_in_an_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = read_project()
    absent = {"torch", "onnx", "onnxscript", "ray"}
    monkeypatch.setattr(packages, "installed_version", lambda name: None if name in absent else "2.14")
    parts = [part for parts in project.extras.values() for part in parts]
    outcomes = {one.name: Outcome() for one in (*project.required, *parts)}
    outcomes["torch"] = Outcome(reason="ModuleNotFoundError: No module named 'torch'", missing=True)
    rows = {row.name: row for row in library_rows(project, outcomes)}
    assert (rows["torch"].state, rows["torch"].found) == ("broken", "not installed")
    assert rows["torch"].problem == "torch is not installed, and embedkit needs it."
    assert rows["torch"].command == f"{installer()} install 'torch>=2.13,<2.16' 'torchaudio>=2.11.1,<2.12'"
    assert (rows["torchaudio"].state, rows["torchaudio"].found) == ("note", "2.14, expected >=2.11.1,<2.12")
    extras = {row.name: row for row in extra_rows(project, outcomes)}
    assert (extras["onnx"].state, extras["onnx"].found) == ("missing", "onnxruntime 2.14; without onnx, onnxscript")
    assert (extras["ray"].state, extras["ray"].found) == ("missing", "not installed (ray)")
    assert extras["ray"].command == project.install_command("ray")
