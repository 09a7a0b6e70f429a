"""Stores as arrays, CSV and Parquet."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from embedkit.cli import app
from embedkit.reporting.results import Results
from embedkit.store import Store, UtteranceEmbedding, open_store, write_store
from embedkit.store.writer import StoreContent
from embedkit.training.runs import RunRecord

SPEAKERS = ["03", "007", "1e5", "=1+1"]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    generator = np.random.default_rng(3)
    values = generator.normal(size=(4, 2, 3)).astype("float32")
    columns = {"id": list("abcd"), "label": ["joy", "fear", "joy", "Ärger"], "speaker": SPEAKERS}
    columns |= {name: [""] * 4 for name in ("session", "split")}
    content = StoreContent(
        corpus="small",
        corpus_info={"kind": "manifest", "root": "", "task": {}, "notes": []},
        encoder={"name": "tiny", "layers": [1, 4], "dimensions": 3, "frame_rate": 50.0, "sampling_rate": 16000},
        fingerprint="f" * 64,
        columns={**columns, "valence": np.array([1.5, np.nan, 2.0, 3.0])},
    )
    write_store(tmp_path / "small.h5", content, [UtteranceEmbedding(one, one**2, None) for one in values])
    return open_store(tmp_path / "small.h5")


@pytest.fixture
def run(store: Store) -> Callable[..., Any]:
    return lambda *arguments: CliRunner().invoke(app, ["convert", str(store.path), *arguments], prog_name="embedkit")


def test_parquet_is_the_data_frame(store: Store, run: Callable[..., Any]) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    found = run("--to", "parquet")
    assert (found.exit_code, found.stdout.strip()) == (0, str(store.path.with_suffix(".parquet")))
    frame = pandas.read_parquet(store.path.with_suffix(".parquet"))
    pandas.testing.assert_frame_equal(frame, store.to_frame("mean"), check_dtype=False)
    assert frame["speaker"].tolist() == SPEAKERS
    assert frame["mean_0"].dtype == np.float32


def test_csv_is_read_back_as_text(store: Store, run: Callable[..., Any], tmp_path: Path) -> None:
    assert run("--to", "csv", "--layer", "4", "--out", str(tmp_path / "x.csv")).exit_code == 0
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["speaker"] for row in rows] == ["03", "007", "1e5", "'=1+1"]
    assert [row["valence"] for row in rows] == ["1.5", "", "2.0", "3.0"]
    read = np.array([[row[f"mean_{place}"] for place in range(3)] for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(read, store.mean(4))


def test_an_array_has_its_columns_beside_it(store: Store, run: Callable[..., Any], tmp_path: Path) -> None:
    found = run("--to", "npy", "--layer", "all", "--statistic", "std", "--out", str(tmp_path / "x.npy"))
    assert found.stdout.splitlines() == [str(tmp_path / "x.npy"), str(tmp_path / "x.columns.csv")]
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), store.std("all"))
    assert (tmp_path / "x.columns.csv").read_text(encoding="utf-8").splitlines()[1].startswith("a,joy,03,")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--to", "csv", "--layer", "3"], "has no layer 3; expected one of 1, 4, average, all."),
        (["--to", "csv", "--layer", "x"], "expected a layer's number, average or all."),
        (["--to", "csv", "--out", "."], "is there already"),
    ],
)
def test_what_cannot_be_written(run: Callable[..., Any], arguments: list[str], sentence: str) -> None:
    found = run(*arguments)
    assert (found.exit_code, found.stderr.count("\n")) == (1, 1)
    assert sentence in found.stderr


def test_no_table_replaces_a_store(store: Store, run: Callable[..., Any]) -> None:
    before = store.path.read_bytes()
    found = run("--to", "csv", "--out", str(store.path), "--overwrite")
    assert (found.exit_code, store.path.read_bytes()) == (1, before)
    assert "is a store, or a part of one" in found.stderr


def test_what_is_there_is_kept(store: Store, run: Callable[..., Any]) -> None:
    store.path.with_suffix(".columns.csv").write_text("own")
    assert "small.columns.csv' is there already" in run("--to", "npy").stderr
    assert not store.path.with_suffix(".npy").exists()
    assert run("--to", "npy", "--overwrite").exit_code == 0


def test_parquet_without_pyarrow(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = run("--to", "parquet")
    assert found.exit_code == 1
    assert "--to parquet needs pyarrow" in found.stderr
    assert "or take --to csv." in found.stderr


def test_runs_are_a_table() -> None:
    pytest.importorskip("pandas")
    rows = [
        {"corpus": "emodb", "loss": loss, "ua": 0.5, "classes": ["a", "b"], "own": loss} for loss in ("ce", "focal")
    ]
    found = Results(RunRecord(folder=Path(row["loss"]), config={}, metrics=row) for row in rows)
    frame = found.to_frame()
    assert frame["loss"].tolist() == ["ce", "focal"]
    assert frame["classes"][0] == ["a", "b"]
    assert {"encoder", "wa_ci", "own"} <= set(frame.columns)
    assert list(found) == found[:]
