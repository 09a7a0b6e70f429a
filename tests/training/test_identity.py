"""A run's identity is every option but those named here; an option that is changed makes another run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.options.fit import FitOptions
from embedkit.options.option import declared
from embedkit.reporting.report.commands import list_commands
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import data_config, run_config, run_folder, run_variant
from embedkit.training.identity import read_options_of
from embedkit.training.runs import RunRecord
from tests.encoders.checkpoints import write_conv_checkpoint
from tests.training.stores import write_synthetic_store
from tests.workflows.tones import write_tones

EXEMPT: dict[str, Any] = {
    "threads": 2,
    "memory_gb": 0.0,
    "runs": "elsewhere",
    "overwrite": True,
    "device": "cpu",
    "track": [],
}
"""What leaves predictions equal to the bit, each with another value."""

KEPT = {"save_encoder"}
"""What adds to a run and changes nothing else of it."""

STORED: dict[str, Any] = {
    "loss": ["focal"],
    "head": ["mlp:hidden=4"],
    "layers": "each",
    "normalise": "speaker",
    "standardise_by": "corpus",
    "duplicates": "drop",
    "folds": "session",
    "test_on": "other.h5",
    "test_merge": {"sadness": "anger"},
    "train_share": [0.5],
    "seeds": 2,
    "classes": ["anger", "happiness"],
    "merge": {"sadness": "anger"},
    "where": ["speaker!=s03"],
    "targets": ["valence"],
    "lr": [0.5],
    "weight_decay": [0.25],
    "epochs": 7,
    "batch_size": 5,
    "patience": 1,
    "halving": True,
    "clip": 0.5,
}
"""Another value of every option that heads on stores have."""

RUNNING: dict[str, Any] = {
    "mode": "lora",
    "corpus_name": "another",
    "encoder": ["other"],
    "precision": "bf16",
    "window": 7.5,
    "encoder_lr": 0.5,
    "warmup": 0.3,
    "tune_layers": "2",
    "tune_convolutions": True,
    "recompute": True,
    "accumulate": 2,
    "augment": ["noise"],
    "lora_rank": 3,
    "lora_alpha": 5,
    "lora_targets": ["q_proj"],
}
"""Another value of every option of an encoder that runs."""

SHOWN_ELSEWHERE = {"allow_leak", "noise_snr", "noise", "init_head", "map", "pool"}
"""Written where it matters: to runs whose encoder knows the test speakers (tests of fine-tuned encoders' stores), those
of heads on noisy recordings, of encoders with a published head, or on several corpora (tests of each)."""

QUICK: dict[str, Any] = {"seeds": 1, "epochs": 2, "lr": (1e-2,), "head": ["linear"], "folds": "speaker"}


def collect(source: Any, **options: Any) -> list[Experiment]:
    """Return what a fit would train."""
    found: list[Experiment] = []
    keywords = {**QUICK, **options}
    if "test_on" in options:
        keywords.pop("folds")
    embedkit.fit(source, train=lambda experiments, *_, **__: found.extend(experiments) or [], **keywords)
    return found


def record_of(experiment: Experiment) -> RunRecord:
    """Return a run as it would be written, without training it."""
    told = {"loss_spec": experiment.loss.spec, "head_spec": experiment.head}
    return RunRecord(
        folder=run_folder(experiment),
        config={**run_config(experiment), **data_config(experiment), **told},
        metrics={"mode": experiment.options.mode},
    )


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_synthetic_store(tmp_path / "tiny.h5")
    write_synthetic_store(tmp_path / "other.h5", corpus="other", seed=5)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speech")
    write_tones(folder / "tones")
    write_conv_checkpoint(folder / "hubert", "hubert")
    write_conv_checkpoint(folder / "other", "wav2vec2")
    return folder


def test_every_option_is_tried_here() -> None:
    assert {*EXEMPT, *KEPT, *STORED, *RUNNING, *SHOWN_ELSEWHERE} == set(declared(FitOptions))
    assert {name for name, one in declared(FitOptions).items() if one.told.record is None} == {*EXEMPT, *KEPT}


def relevant(name: str, value: Any) -> dict[str, Any]:
    """Return an option, with another one where it means something only beside that."""
    beside = {
        "test_merge": {"test_on": "other.h5", "merge": {"sadness": "anger"}},
        "standardise_by": {"test_on": "other.h5"},
    }
    return {name: value, **beside.get(name, {})}


@pytest.mark.parametrize("name", STORED)
def test_another_value_makes_another_run(name: str, stores: None) -> None:
    options = relevant(name, STORED[name])
    base = collect("tiny.h5", **{key: value for key, value in options.items() if key != name})
    changed = collect("tiny.h5", **options)
    assert not {run_folder(one).name for one in base} & {run_folder(one).name for one in changed}


@pytest.mark.parametrize("name", STORED)
def test_the_reports_command_makes_the_same_run(name: str, stores: None, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = collect("tiny.h5", **relevant(name, STORED[name]))
    assert_repeated(wanted, monkeypatch)


def assert_repeated(wanted: list[Experiment], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command that a report shows of some runs, and compare what it would train."""
    commands = list_commands([record_of(one) for one in wanted], "runs")
    (line,) = [command for command in commands if command.startswith("embedkit fit")]
    found: list[Experiment] = []
    fit = embedkit.fit
    monkeypatch.setattr(
        "embedkit.workflows.fit.fit_heads",
        lambda *a, **k: fit(*a, train=lambda experiments, *_, **__: found.extend(experiments) or [], **k),
    )
    result = CliRunner().invoke(app, shlex.split(line)[1:], prog_name="embedkit")
    assert result.exit_code == 0, (line, result.output)
    assert [run_folder(one) for one in found] == [run_folder(one) for one in wanted], line


@pytest.mark.parametrize("name", RUNNING)
def test_another_value_of_a_running_encoder_makes_another_run(
    name: str, speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(speech)
    modes = declared(FitOptions)[name].told.modes
    base: dict[str, Any] = {"mode": "lora" if modes == ("lora",) else "finetune", "encoder": ["./hubert"]}
    changed = {**base, name: ["./other"] if name == "encoder" else RUNNING[name]}
    if name == "window":
        pytest.skip("only Whisper has a window; its encoders are told apart by it in tests/encoders")
    before, after = (collect("tones/corpus.csv", **options) for options in (base, changed))
    assert not {run_folder(one) for one in before} & {run_folder(one) for one in after}
    assert_repeated(after, monkeypatch)


@pytest.mark.parametrize("name", EXEMPT)
def test_what_is_exempt_leaves_predictions_equal_to_the_bit(name: str, stores: None) -> None:
    told = {**QUICK, "loss": ["ce", "aam"], "threads": 1, "runs": "runs"}
    before = embedkit.fit("tiny.h5", **told)
    after = embedkit.fit("tiny.h5", **{**told, "runs": "again", name: EXEMPT[name]})
    for old, new in zip(before, after, strict=True):
        assert old.folder.name == new.folder.name
        assert old.predictions_path.read_bytes() == new.predictions_path.read_bytes()


def test_a_run_without_an_option_counts_as_the_behaviour_of_then(stores: None) -> None:
    (experiment,) = collect("tiny.h5")
    assert "patience" not in run_config(experiment)["budget"]
    assert "clip" not in run_config(experiment)["budget"]
    assert "patience" not in read_options_of(run_config(experiment))


def test_only_large_corpora_have_larger_mini_batches_and_fewer_epochs() -> None:
    def budget(utterances: int, **given: Any) -> tuple[int | None, int | None]:
        options = FitOptions(**given).resolve().sized(utterances)
        return options.batch_size, options.epochs

    assert {budget(count) for count in (2, 535, 20_000)} == {(32, 30)}
    assert [budget(count) for count in (20_001, 25_000, 100_000, 250_000)] == [(64, 30), (64, 24), (256, 10), (512, 10)]
    assert budget(100_000, batch_size=32, epochs=30) == (32, 30)
    assert budget(100_000, mode="finetune") == (32, 10)


def test_runs_that_were_dealt_otherwise_are_not_taken_for_runs_of_now(tmp_path: Path) -> None:
    few = write_synthetic_store(tmp_path / "few.h5", speakers=5)
    many = write_synthetic_store(tmp_path / "many.h5", speakers=8, each=6)
    more = write_synthetic_store(tmp_path / "more.h5", speakers=26, each=3)
    algorithms = {one.path.stem: run_config(collect(one)[0])["algorithm"] for one in (few, many, more)}
    assert algorithms == {"few": 1, "many": 2, "more": 2}
    assert [run_variant(collect(one)[0]).get("dealt") for one in (few, many, more)] == [None, None, "dealt by weight"]


def test_every_encoder_gets_the_same_folds_and_genders_are_dealt(tmp_path: Path) -> None:
    count = 26 * 3
    audio = [f"{number * 7919 % 1009:032x}" for number in range(count)]
    genders = ["female" if number < count / 2 else "male" for number in range(count)]
    told = {"speakers": 26, "each": 3, "audio_digest": audio, "gender": genders}
    stores = [
        write_synthetic_store(tmp_path / f"{name}.h5", encoder=name, seed=place, **told)
        for place, name in enumerate(("one", "two"))
    ]
    plans = [collect(one)[0].data.plan for one in stores]
    for first, second in zip(plans[0].folds, plans[1].folds, strict=True):
        assert first.name == second.name
        assert first.test.tolist() == second.test.tolist()
        pairs = zip(first.validations, second.validations, strict=True)
        assert all(one[1].tolist() == other[1].tolist() for one, other in pairs)
        women = sum(genders[place] == "female" for place in first.test)
        assert abs(2 * women - len(first.test)) <= 3


def test_a_trained_encoder_learns_from_the_same_share(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(speech)
    told = {"mode": "finetune", "encoder": ["./hubert"], "train_share": [0.7, 1]}
    part, whole = collect("tones/corpus.csv", **told)
    assert (part.data.train_speakers, whole.data.train_speakers) == ([2] * 4, [3] * 4)
    for fold, before in zip(part.data.plan.folds, whole.data.plan.folds, strict=True):
        ((train, validate),) = fold.validations
        assert not fold.refit
        assert set(train) | set(validate) == set(fold.train) < set(before.train)
        assert fold.test.tolist() == before.test.tolist()
