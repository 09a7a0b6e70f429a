"""Predictions as a database in audformat."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.errors import ConfigError
from embedkit.workflows.predict import Prediction
from embedkit.workflows.predict_database import require_place, write_database

audformat = pytest.importorskip("audformat")


def write(folder: Path, *predictions: Prediction) -> object:
    require_place(folder)
    write_database(predictions, folder, Path("runs/ce-1"))
    assert not list(folder.glob("*.pkl"))
    return audformat.Database.load(str(folder))["predictions"].get()


def prediction(path: str, anger: float, **times: float) -> Prediction:
    shares = {"anger": anger, "joy": 1 - anger}
    return Prediction(path=path, label=max(shares, key=lambda name: shares[name]), probabilities=shares, **times)


def test_whole_files(tmp_path: Path) -> None:
    table = write(tmp_path / "found", prediction("a.wav", 0.75), prediction("03.wav", 0.25))
    assert audformat.index_type(table) == "filewise"
    assert table.index.tolist() == ["a.wav", "03.wav"]
    assert table["label"].tolist() == ["anger", "joy"]
    assert table["probability.anger"].tolist() == [0.75, 0.25]
    assert audformat.Database.load(str(tmp_path / "found")).usage == "other"


def test_segments_have_their_times(tmp_path: Path) -> None:
    table = write(
        tmp_path / "found", prediction("a.wav", 0.75, start=1.5, end=2.0), prediction("a.wav", 0.25, start=2.0)
    )
    assert audformat.index_type(table) == "segmented"
    starts, ends = (table.index.get_level_values(name).total_seconds().tolist() for name in ("start", "end"))
    assert (starts, ends[0], ends[1] != ends[1]) == ([1.5, 2.0], 2.0, True)


def test_ratings(tmp_path: Path) -> None:
    table = write(tmp_path / "found", Prediction(path="a.wav", dimensions={"valence": 2.5, "arousal": 4.0}))
    assert table.iloc[0].to_dict() == {"valence": 2.5, "arousal": 4.0}


def test_a_place_that_is_taken_and_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is there already; a database is a new folder"):
        require_place(tmp_path)
    found = CliRunner().invoke(app, ["predict", "run", "a.wav", "--format", "audformat"])
    assert found.exit_code == 1
    assert "--format audformat is a folder; name a new one with --out." in found.stderr
