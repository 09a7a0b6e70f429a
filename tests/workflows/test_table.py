"""The table from a folder of runs, from what fit returned, and from rows."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import embedkit
from embedkit.errors import RunError


def metrics(**changes: Any) -> dict[str, Any]:
    numbers = {f"{name}{end}": 0.5 for name in ("wa", "ua", "f1") for end in ("", "_std")}
    row = {"corpus": "emodb", "encoder": "mfcc", "head": "lstm", "loss": "ce", "mode": "cached", "folds": "speaker"}
    return {**row, "classes": ["a", "b"], "seeds": 3, "utterances": 20, "speakers": 4, **numbers, **changes}


def test_a_folder_records_and_rows_give_the_same_table(tmp_path: Path) -> None:
    rows = [metrics(), metrics(loss="ccc", ua=0.75)]
    for number, row in enumerate(rows):
        folder = tmp_path / "emodb" / str(number)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"format_version": 1}))
        (folder / "metrics.json").write_text(json.dumps(row))
    from_folder = str(embedkit.table(tmp_path))
    from_records = str(embedkit.table([SimpleNamespace(metrics=row) for row in rows]))  # type: ignore[list-item]
    assert "75.0 ±50.0*" in from_folder
    assert from_folder == from_records == str(embedkit.table(rows))


def test_metric_and_format_are_passed_on() -> None:
    table = embedkit.table([metrics()], metric="all", format="latex")
    assert str(table).count("\\toprule") == 3
    assert json.loads(table.render("json"))[0]["wa"] == 0.5


def test_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="embedkit fit"):
        embedkit.table(tmp_path)
