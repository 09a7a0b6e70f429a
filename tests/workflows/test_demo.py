"""The demo on a small copy of its corpus: it keeps to its folder, can be run again, and tells what to do next."""

from pathlib import Path

import pytest

from embedkit.corpora.demo import VERSION, write_demo_corpus
from embedkit.errors import ConfigError
from embedkit.workflows import demo
from embedkit.workflows.demo import run_demo


@pytest.fixture(autouse=True)
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_demo_corpus(tmp_path / "cache" / f"demo-{VERSION}", turns=5)
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "ENCODERS", ("mfcc",))
    monkeypatch.setattr(demo, "HEADS", ("linear",))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_the_demo_runs_and_runs_again_at_once() -> None:
    told: list[str] = []
    first = run_demo(tell=told.append)
    assert [path.name for path in Path().iterdir()] == ["embedkit-demo"]
    assert {row["loss"] for row in first.table.rows} == {"ce", "label-smoothing", "focal", "aam", "ccc"}
    assert "synthetic demo corpus" in str(first.table)
    assert set(first.seconds) == {"extract", "fit", "table"}
    assert str(first.run) in first.closing_words
    assert (first.run / "config.json").is_file()
    assert "synthetic" in told[0]
    second = run_demo()
    assert str(second.table) == str(first.table)
    assert second.seconds["fit"] < first.seconds["fit"]


def test_other_peoples_folders_are_left_alone() -> None:
    Path("mine").mkdir()
    Path("mine", "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"thesis\.tex.*--out"):
        run_demo("mine")
    with pytest.raises(ConfigError, match="is a file"):
        run_demo("mine/thesis.tex")
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.tex"]
