"""Names with control characters, of terminals and of writing from right to left: shown escaped everywhere."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.reporting.predictions import read_columns
from embedkit.wording import escape_controls

ODD = "\x1b[31m\u202e\x07\x9b\ufffe"
SHOWN = r"\x1b[31m\u202e\x07\x9b\ufffe"
STEERING = set(ODD) - set("[31m")
FIT = "--head linear --loss ce,aam --seeds 1 --epochs 2 --lr 1e-2 --folds speaker --runs runs"
COMMANDS = {
    "check m.csv": True,
    "extract m.csv --encoder mfcc --out s.h5": False,
    "inspect s.h5": True,
    f"fit s.h5 {FIT}": False,
    "table runs": False,
    "table runs --format markdown": False,
    "table runs --format latex": False,
    "table runs --format html": False,
    "report runs --out report.html": False,
    "figure confusion runs --out figures": False,
    "figure speakers runs --out figures": False,
    "figure map runs --out figures": False,
    "predict RUN . --out found.csv": False,
    "predict RUN .": True,
    "verify s.h5": False,
}
"""Commands in their order, and whether they are sure to show the names."""


def test_no_name_steers_what_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    rows = [["id", "path", "label", "speaker"]]
    for number in range(24):
        name = f"{number:02d}{ODD}.wav"
        soundfile.write(name, generator.uniform(-0.3, 0.3, 8000), 16000)
        rows.append([f"{number}{ODD}", name, ("a" + ODD, "b")[number % 2], f"s{number // 6}{ODD}"])
    with open("m.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    for command, shows in COMMANDS.items():
        run = next((str(path.parent) for path in Path("runs").rglob("metrics.json")), "")
        result = CliRunner().invoke(app, command.replace("RUN", run).split(), prog_name="embedkit")
        assert result.exit_code == 0, (command, result.output)
        assert not STEERING & set(result.output), command
        assert (SHOWN in result.output) >= shows, command
    drawn = [Path("report.html"), *Path("figures").iterdir()]
    assert len(drawn) > 5
    for path in drawn:
        text = path.read_text(encoding="utf-8")
        # What libraries of the page hold is written escaped already.
        assert not STEERING & set(text), path
    assert SHOWN in Path("report.html").read_text(encoding="utf-8")
    # Data stay what they are.
    folder = Path(run)
    columns, _ = read_columns(folder / "predictions.csv", ("id", "speaker", "label"))
    assert {text for column in columns for text in column.texts} >= {"a" + ODD, f"0{ODD}", f"s0{ODD}"}
    assert json.loads((folder / "config.json").read_text(encoding="utf-8"))["classes"] == ["a" + ODD, "b"]


@pytest.mark.parametrize(
    "text", ["Ünïcode 情感 🙂", "👩\u200d🔬", "नमस्\u200dते", "tab in no way", "a'b\"c\\d"], ids=lambda text: text[:3]
)
def test_what_can_be_read_stays(text: str) -> None:
    assert escape_controls(text) == text
