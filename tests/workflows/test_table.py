"""The table from a folder of runs, from what fit returned, and from rows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import RunError


def metrics(**changes: Any) -> dict[str, Any]:
    numbers = {f"{name}{end}": 0.5 for name in ("wa", "ua", "f1") for end in ("", "_std")}
    row = {"corpus": "emodb", "encoder": "mfcc", "head": "lstm", "loss": "ce", "mode": "cached", "folds": "speaker"}
    return {**row, "classes": ["a", "b"], "seeds": 3, "utterances": 20, "speakers": 4, **numbers, **changes}


def write_runs(folder: Path, rows: list[dict[str, Any]], wrong: list[int]) -> list[SimpleNamespace]:
    """Write runs whose predictions are right but for the first so many utterances of every speaker."""
    for number, row in enumerate(rows):
        run = folder / "emodb" / str(number)
        run.mkdir(parents=True)
        (run / "config.json").write_text(json.dumps({"format_version": 1}))
        (run / "metrics.json").write_text(json.dumps(row))
        lines = ["id,speaker,session,label,fold,seed,predicted,p_a,p_b"]
        for seed in range(row["seeds"]):
            for speaker in range(row["speakers"]):
                for place in range(10):
                    truth = "ab"[place % 2]
                    found = "ba"[place % 2] if place < wrong[number] else truth
                    lines.append(f"u{speaker}-{place},s{speaker},,{truth},f,{seed},{found},0.5,0.5")
        (run / "predictions.csv").write_text("\n".join(lines) + "\n")
    return [
        SimpleNamespace(metrics=row, predictions_path=folder / "emodb" / str(n) / "predictions.csv")
        for n, row in enumerate(rows)
    ]


def test_a_folder_and_records_give_the_same_table_with_marks_and_rows_without(tmp_path: Path) -> None:
    rows = [metrics(speakers=10, ua=0.4), metrics(speakers=10, loss="ccc", ua=0.8)]
    records: Any = write_runs(tmp_path, rows, wrong=[6, 2])
    from_folder = str(embedkit.table(tmp_path))
    assert "80.0 ±50.0*" in from_folder
    assert from_folder == str(embedkit.table(records))
    assert "[75.0, 85.0]" not in from_folder
    assert "Marks: > above, against ce in its row." in from_folder
    bare = str(embedkit.table(rows))
    assert bare == str(embedkit.table(tmp_path, compare=False))
    assert "Marks" not in bare
    (first, second) = json.loads(embedkit.table(tmp_path, format="json").render())
    assert first["tests"] == []
    (test, _) = second["tests"]
    assert test["against"] == {"encoder": "mfcc", "head": "lstm", "loss": "ce"}
    assert test["difference"] == pytest.approx(0.4)
    assert (test["method"], test["systems"], test["seeds"], test["smallest_p"]) == ("t", 1, 3, 0.0)
    assert test["p"] == test["p_adjusted"] < 1e-6
    assert json.loads(embedkit.table(rows, format="json").render())[0]["tests"] is None


def test_comparing_is_an_option_of_the_command_and_a_key_of_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_runs(
        tmp_path / "runs", [metrics(speakers=10, ua=0.4), metrics(speakers=10, loss="ccc", ua=0.8)], wrong=[6, 2]
    )

    def run(*options: str) -> str:
        return CliRunner().invoke(app, ["table", *options], catch_exceptions=False).stdout

    assert "Marks" in run()
    assert "Marks" not in run("--no-compare")
    assert "Marks" in run("--format", "html")
    Path("embedkit.toml").write_text("[table]\ncompare = false\n")
    assert "Marks" not in run()
    assert "Marks" in run("--compare")


def test_metric_and_format_are_passed_on() -> None:
    table = embedkit.table([metrics()], metric="all", format="latex")
    assert str(table).count("\\toprule") == 3
    assert json.loads(table.render("json"))[0]["wa"] == 0.5


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="embedkit fit"):
        embedkit.table(tmp_path)
