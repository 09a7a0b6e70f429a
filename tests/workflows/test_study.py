"""A study does what is missing and nothing else, says so first, and goes on where a part fails."""

from __future__ import annotations

import re
import shutil
import types
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.config import read_config
from embedkit.errors import ConfigError, ExtractionError, FitError, UnknownNameError
from embedkit.study import timing
from embedkit.training.data.features import Standardiser
from embedkit.training.runs import find_runs
from embedkit.workflows import study as study_workflow
from embedkit.workflows.fit import fit_heads
from tests.documents import write_tiny_emodb
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.pages import blocks
from tests.workflows.tones import write_tones

ROOT = Path(__file__).parents[2]
QUICK: dict[str, Any] = {"seeds": 1, "epochs": 2, "lr": (1e-2,), "batch_size": 8, "threads": 1}


@pytest.fixture(autouse=True)
def _corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tones(tmp_path / "tones")
    monkeypatch.chdir(tmp_path)


def study(encoder: Any = ("mfcc",), told: list[str] | None = None, **options: Any) -> Any:
    told = [] if told is None else told
    return embedkit.run_study(
        options.pop("corpora", "tones/corpus.csv"),
        encoder,
        **{"head": ["linear"], **QUICK, "tell": told.append, **options},
    )


def test_every_combination_is_made_once() -> None:
    told: list[str] = []
    found = study(("mfcc", "logmel"), told, head=["linear", "mlp:hidden=8"], loss=["ce", "focal"])
    cells = {(row["encoder"], row["head"], row["loss"]) for row in found.table.rows}
    assert cells == {(e, h, o) for e in ("mfcc", "logmel") for h in ("linear", "mlp") for o in ("ce", "focal")}
    assert "Stores: 0 of 2 are there." in told
    assert any(
        re.fullmatch(r"  to extract: corpus with mfcc: 24 utterances, about \d+ seconds?", line) for line in told
    )
    assert any("0 of 8 are there" in line for line in told)
    assert any(re.match(r"  to train: 8 configurations, [\d,]+ heads, about ", line) for line in told)
    first = told.index("Stores: 0 of 2 are there.")
    assert all(not line.startswith("Wrote") for line in told[:first])
    assert not found.missing

    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
    again: list[str] = []
    assert str(study(("mfcc", "logmel"), again, head=["linear", "mlp:hidden=8"], loss=["ce", "focal"]).table) == str(
        found.table
    )
    assert "Nothing to do but the table." in again
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()} == before

    more: list[str] = []
    study(("mfcc", "logmel"), more, head=["linear", "mlp:hidden=8"], loss=["ce", "focal", "ccc"])
    assert any("8 of 12 are there" in line for line in more)
    assert any(line.startswith("  to train: 4 configurations") for line in more)


def test_the_numbers_are_those_of_extract_and_fit() -> None:
    found = study(loss="ce")
    store = embedkit.extract("tones/corpus.csv", encoder="mfcc", out="own.h5", progress=False)
    shutil.copy("own.h5", "mfcc.h5")
    (own,) = embedkit.fit("mfcc.h5", head="linear", runs="own", **QUICK)
    assert store.has_frames
    assert own.metrics["ua"] == found.records[0].metrics["ua"]
    assert own.predictions_path.read_bytes() == found.records[0].predictions_path.read_bytes()


def test_a_plan_is_told_and_nothing_is_written() -> None:
    told: list[str] = []
    before = sorted(Path().rglob("*"))
    found = study(("mfcc",), told, loss=["ce", "focal"], dry_run=True)
    assert found.plan == tuple(f"corpus mfcc, linear:pool=mean+std, {loss}: to train" for loss in ("ce", "focal"))
    assert "Stores: 0 of 1 are there." in told
    assert sorted(Path().rglob("*")) == before
    study(loss="ce", foresee=False)
    again = study(("mfcc",), loss=["ce", "focal"], dry_run=True)
    assert [line.rpartition(": ")[2] for line in again.plan] == ["is there", "to train"]


def test_only_what_is_used_is_extracted() -> None:
    part = study(where=["speaker=s0,s1,s2"], loss="ce", foresee=False)
    assert set(embedkit.open_store("embeddings/corpus/mfcc.h5").column("speaker")) == {"s0", "s1", "s2"}
    both = study(where=["speaker=s1,s2,s3"], loss="ce", foresee=False)
    assert set(embedkit.open_store("embeddings/corpus/mfcc.h5").column("speaker")) == {f"s{n}" for n in range(4)}
    assert part.records[0].metrics["speakers"] == both.records[0].metrics["speakers"] == 3


def test_heads_on_frames_make_the_stores_keep_them(tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "tiny", "hubert")
    sources = {"hubert": str(weights)}
    study("hubert", sources=sources)
    assert not embedkit.open_store("embeddings/corpus/hubert.h5").has_frames
    told: list[str] = []
    found = study("hubert", told, sources=sources, head=["linear", "attentive"])
    assert list(found.missing) == ["corpus with hubert, attentive"]
    assert "--level both" in found.missing["corpus with hubert, attentive"]
    assert [record.metrics["head"] for record in found.records] == ["linear"]
    Path("embeddings/corpus/hubert.h5").unlink()
    found = study("hubert", sources=sources, head=["linear", "attentive"])
    assert [record.metrics["head"] for record in found.records] == ["linear", "attentive"]
    assert embedkit.open_store("embeddings/corpus/hubert.h5").has_frames


def test_every_mode_has_its_place(tmp_path: Path) -> None:
    weights = write_conv_checkpoint(tmp_path / "tiny", "hubert")
    told: list[str] = []
    options: dict[str, Any] = {"mode": ["cached", "frozen", "finetune"], "sources": {"hubert": str(weights)}}
    found = study("hubert", told, **options, epochs=1)
    assert [record.metrics["mode"] for record in found.records] == ["cached", "frozen", "finetune"]
    assert any(
        line.startswith("In all about") and "without the mode frozen of corpus with hubert" in line for line in told
    )
    again: list[str] = []
    study("hubert", again, **options, epochs=1)
    assert "Nothing to do but the table." in again


def test_an_encoder_that_cannot_be_had_leaves_the_others() -> None:
    told: list[str] = []
    found = study(("mfcc", "nobody/nothing"), told)
    assert list(found.missing) == ["corpus with nobody/nothing"]
    assert [record.metrics["encoder"] for record in found.records] == ["mfcc"]
    assert sum("nobody/nothing" in line for line in told) == 1
    found = study(corpora=["tones/corpus.csv", "nowhere"])
    assert list(found.missing) == ["nowhere"]


def test_what_concerns_everything_ends_the_study_at_once() -> None:
    for wrong in ({"encoder": "mfc"}, {"loss": "focl"}, {"head": "liner"}, {"mode": "cachd"}):
        with pytest.raises((UnknownNameError, ConfigError), match="Did you mean"):
            study(**{"encoder": "mfcc", **wrong})
    with pytest.raises(UnknownNameError, match="Unknown column 'gendre' of corpus"):
        study(("mfcc", "logmel"), where=["gendre=female"])
    with pytest.raises(FitError, match=r"spaeker.*Did you mean"):
        study(folds="spaeker")
    shutil.copytree("tones", "other")
    with pytest.raises(ConfigError, match=r"Two corpora are called 'corpus'.*rename"):
        study(corpora=["tones/corpus.csv", "other/corpus.csv"])
    assert not Path("embeddings").exists()
    assert not Path("runs").exists()


def test_an_interruption_is_passed_on_and_the_same_study_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: Any, **__: Any) -> Any:
        error = ExtractionError("Stopped; run the same command again to continue.")
        error.__context__ = KeyboardInterrupt()
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(study_workflow, "extract_embeddings", stop)
        with pytest.raises(ExtractionError, match="Stopped"):
            study(("mfcc", "logmel"))
    calls: list[str] = []

    def interrupt(*arguments: Any, **options: Any) -> Any:
        if "train" not in options:
            calls.append(options["head"][0])
            if len(calls) == 2:
                raise KeyboardInterrupt
        return fit_heads(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(study_workflow, "fit_heads", interrupt)
        with pytest.raises(KeyboardInterrupt):
            study(head=["linear", "mlp:hidden=8"])
    told: list[str] = []
    assert len(study(told=told, head=["linear", "mlp:hidden=8"]).records) == 2
    assert "Stores: 1 of 1 are there." in told
    assert any("1 of 2 are there" in line for line in told)


def test_the_estimate_grows_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are timed by a clock that counts their steps, so that the estimate can be recomputed."""
    clock = types.SimpleNamespace(now=0.0)

    def train(
        features: Any, targets: Any, plan: Any, config: Any, losses: Any, *, grid: Any, seeds: Any, **_: Any
    ) -> None:
        clock.now += 5 + 2 * config.epochs
        assert (len(losses), len(seeds)) == (1, 1)
        features.gather(plan.folds[0].train[None, :4], features_standard(features, plan))

    def features_standard(features: Any, plan: Any) -> Any:
        return Standardiser.stack([features.moments(plan.folds[0].train)], features.device)

    store = embedkit.extract("tones/corpus.csv", encoder="mfcc", progress=False)
    monkeypatch.setattr(timing, "train_losses", train)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)
    found: list[Any] = []
    for head in ("linear", "lstm"):
        fit_heads(store, ["ce", "focal"], head=head, train=lambda cells, *_, **__: found.append(cells) or [], **QUICK)
    fixed, epoch, epochs, losses = 5, 2, 2, 2
    assert timing.training_seconds(found[0], store, 1) == losses * (fixed + epoch * epochs)
    folds = len(found[1][0].data.plan.folds)
    assert timing.training_seconds(found[1], store, 1) == folds * losses * (fixed + epoch * epochs)


@pytest.mark.parametrize("batches", [1, 2, 8])
def test_an_encoder_is_timed_without_what_it_loads_once(
    batches: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first batch ever waits 40 s for libraries, every utterance takes a quarter of a second."""
    clock, waits = types.SimpleNamespace(now=0.0), [40.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock.now)

    def extract(corpus: Any, *, limit: int, progress: Any, **_: Any) -> Any:
        progress(0.0, 3.0 * limit)
        for batch in range(1, batches + 1):
            clock.now += limit / batches / 4 + (waits.pop() if waits else 0.0)
            progress(3.0 * limit * batch / batches, 3.0 * limit)
        return types.SimpleNamespace(column=lambda _: [3.0] * limit)

    estimator = timing.RuntimeEstimator(tmp_path, extract, {"device": "cpu"})
    assert estimator.sample(types.SimpleNamespace(name="corpus"), "mfcc", None).pace == pytest.approx(0.25)


def test_the_command_shows_the_table_and_names_what_is_missing() -> None:
    Path("embedkit.toml").write_text(
        '[study]\ncorpora = "tones/corpus.csv"\nencoder = ["mfcc", "nobody/nothing"]\nloss = "focal"\nseeds = 1\n'
        'epochs = 1\n[fit]\nlr = 0.01\nhead = "linear"\nloss = "ce"\n'
    )
    result = CliRunner().invoke(app, ["study", "--loss", "ccc,ce"], prog_name="embedkit")
    assert result.exit_code == 1
    assert "corpus: UAR in %" in result.stdout
    assert result.stderr.splitlines()[-1].startswith("Error: The study lacks corpus with nobody/nothing (")
    assert {record.metrics["loss"] for record in find_runs("runs")} == {"ccc", "ce"}
    assert {record.metrics["budget"]["learning_rates"][0] for record in find_runs("runs")} == {0.01}
    result = CliRunner().invoke(app, ["study", "--encoder", "mfcc"], prog_name="embedkit")
    assert result.exit_code == 0, result.output
    assert {record.metrics["loss"] for record in find_runs("runs")} == {"ccc", "ce", "focal"}


def test_an_unknown_key_of_the_section_names_the_nearest() -> None:
    Path("embedkit.toml").write_text('[study]\nencoders = "mfcc"\n')
    result = CliRunner().invoke(app, ["study"], prog_name="embedkit")
    assert result.exit_code == 1
    assert "Did you mean 'encoder'?" in result.stderr


def test_the_guide_is_true(capsys: pytest.CaptureFixture[str]) -> None:
    guide = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    write_tiny_emodb(Path("path", "to", "emodb"))
    (code,) = blocks(guide, "python")
    names: dict[str, Any] = {}
    # A budget that is soon trained.
    code = code.replace("seeds=5", "seeds=1, epochs=1")
    exec(compile(code, "docs/study.md", "exec"), names)  # noqa: S102
    assert "emodb: UAR in %, 2 classes, folds by speaker" in capsys.readouterr().out
    assert names["study"].missing == {}
    (text,) = blocks(guide, "toml")
    Path("embedkit.toml").write_text(text)
    assert read_config().options("study")["encoder"] == ("mfcc", "hubert")
