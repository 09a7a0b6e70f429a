"""The demo on a small copy of its corpus: it keeps to its folder, can be run again, and tells what to do next."""

import sys
from pathlib import Path

import pytest
import torch

from embedkit.corpora.demo import VERSION, write_demo_corpus
from embedkit.encoders import load_encoder
from embedkit.encoders.tiny import write_tiny_random
from embedkit.errors import ConfigError, EncoderError
from embedkit.registry import Registry
from embedkit.workflows import demo
from embedkit.workflows.demo import run_demo


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    write_demo_corpus(folder / f"demo-{VERSION}", turns=5)
    return folder


@pytest.fixture(autouse=True)
def _small(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDKIT_CACHE", str(cache))
    monkeypatch.setattr(demo, "ENCODERS", ("mfcc",))
    monkeypatch.setattr(demo, "HEADS", ("linear",))
    monkeypatch.setattr(Registry, "names_in_all", ["ccc", "ce"])
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_the_demo_runs_and_runs_again_at_once() -> None:
    told: list[str] = []
    first = run_demo(tell=told.append)
    assert [path.name for path in Path().iterdir()] == ["embedkit-demo"]
    rows = [(row["encoder"], row["loss"]) for row in first.table.rows]
    assert sorted(rows) == [("mfcc", "ccc"), ("mfcc", "ce"), ("tiny-random", "ce")]
    assert "synthetic demo corpus" in str(first.table)
    assert set(first.seconds) == {"extract", "fit", "table", "report"}
    assert str(first.run) in first.closing_words
    assert f"--out {first.report} --open" in first.closing_words
    page = first.report.read_text(encoding="utf-8")
    assert all(words in page for words in ("Confusion matrices", "Maps of the embeddings", "tiny-random"))
    assert "mfcc" in first.run.parts
    assert "weights of tiny-random are random" in first.closing_words
    assert (first.run / "config.json").is_file()
    assert [sentence for sentence in told if "synthetic" in sentence] == told[:1]
    second = run_demo()
    assert str(second.table) == str(first.table)
    assert second.seconds["fit"] < first.seconds["fit"]


def test_its_transformer_is_the_same_everywhere_and_kept(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    write_tiny_random(one)
    torch.rand(1)
    write_tiny_random(other)
    encoder = load_encoder(str(one))
    assert encoder.identity()["family"] == "hubert"
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "model.safetensors").stat().st_size < 500_000
    written = (one / "model.safetensors").stat().st_mtime_ns
    write_tiny_random(one)
    assert (one / "model.safetensors").stat().st_mtime_ns == written


def test_libraries_that_do_not_work_together_end_it_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(
        EncoderError, match=r"transformers [\d.]+ cannot be used .*pip install 'transformers>=5\.16,<6'"
    ):
        run_demo()
    assert not Path("embedkit-demo", "runs").exists()


def test_other_peoples_folders_are_left_alone() -> None:
    Path("mine").mkdir()
    Path("mine", "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"thesis\.tex.*--out"):
        run_demo("mine")
    with pytest.raises(ConfigError, match="is a file"):
        run_demo("mine/thesis.tex")
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.tex"]
