"""fit on synthetic stores: numbers that can be recomputed, nothing trained twice, problems told."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss, recall_score

import embedkit
from embedkit.errors import ConfigError, EmbedkitError, FitError, RunError, StoreError, UnknownNameError
from embedkit.training.runs import RunRecord, find_runs
from tests.cases import mark_cases
from tests.training.stores import calibrated_shares, write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 8, "batch_size": 8, "lr": (1e-2, 3e-2), "threads": 2}


def fit(tmp_path: Path, store: Any, loss: Any = ("ce",), **options: Any) -> list[RunRecord]:
    return embedkit.fit(store, loss=loss, runs=tmp_path / "runs", **{**QUICK, **options})


def read_predictions(record: RunRecord) -> list[dict[str, str]]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_metrics_are_those_of_the_predictions_kept(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=6.0)
    (record,) = fit(tmp_path, store)
    rows = read_predictions(record)
    assert len(rows) == 60 * 2
    found: dict[str, list[float]] = {name: [] for name in ("wa", "ua", "f1", "nll", "nll_calibrated", "brier")}
    names = ("anger", "happiness", "sadness")
    for seed in ("0", "1"):
        own = [row for row in rows if row["seed"] == seed]
        assert sorted(row["id"] for row in own) == sorted(store.ids.tolist())
        labels, predicted = [row["label"] for row in own], [row["predicted"] for row in own]
        found["wa"].append(accuracy_score(labels, predicted))
        found["ua"].append(recall_score(labels, predicted, average="macro"))
        found["f1"].append(f1_score(labels, predicted, average="macro"))
        shares = np.array([[float(row[f"p_{name}"]) for name in names] for row in own])
        found["nll"].append(log_loss(labels, shares / shares.sum(1, keepdims=True), labels=names))
        calibrated = np.array([calibrated_shares(record, row) for row in own])
        found["nll_calibrated"].append(log_loss(labels, calibrated, labels=names))
        truth = np.array([[float(name == label) for name in names] for label in labels])
        found["brier"].append(float(((shares - truth) ** 2).sum(1).mean()))
    for name, values in found.items():
        assert record.metrics[name] == pytest.approx(np.mean(values), rel=1e-4)
        assert record.metrics[f"{name}_std"] == pytest.approx(np.std(values, ddof=1), rel=1e-3, abs=1e-6)
        low, high = record.metrics[f"{name}_ci"]
        assert low <= record.metrics[name] <= high
    for row in rows:
        own_shares = {label: float(row[f"p_{label}"]) for label in names}
        assert sum(own_shares.values()) == pytest.approx(1, abs=1e-4)
        assert max(own_shares, key=own_shares.__getitem__) == row["predicted"]
    for name in ("ece", "adaptive_ece", "adaptive_ece_calibrated"):
        assert 0 < record.metrics[name] < 1
    assert len({choice["temperature"] for choice in record.config["choices"]}) > 2


def test_every_loss_learns_what_is_there(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, noise=0.5)
    records = fit(tmp_path, store, "all", epochs=15)
    assert [record.metrics["loss"] for record in records] == ["ce", "label-smoothing", "focal", "aam", "ccc"]
    for record in records:
        assert record.metrics["ua"] > 0.9, record.metrics["loss"]


def test_further_losses_are_named(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, noise=0.5)
    (record,) = fit(tmp_path, store, ["class-balanced:beta=0.99"], epochs=15)
    assert record.metrics["loss_options"] == {"beta": 0.99}
    assert record.metrics["ua"] > 0.9


@pytest.mark.parametrize("head", ["linear", "mlp:hidden=16"])
def test_a_contrastive_loss_is_probed(tmp_path: Path, head: str) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, noise=0.5)
    contrast, usual = fit(tmp_path, store, ["supcon:temperature=0.2", "ce"], head=[head], epochs=15)
    assert contrast.metrics["loss"] == "supcon"
    assert contrast.metrics["loss_options"] == {"temperature": 0.2, "weights": "none"}
    assert contrast.metrics["ua"] > 0.9
    assert usual.metrics["ua"] > 0.9


def test_labels_that_say_nothing_give_chance(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", shuffled=True, speakers=8, each=30)
    (record,) = fit(tmp_path, store)
    assert record.metrics["ua"] == pytest.approx(1 / 3, abs=0.12)


@pytest.mark.parametrize("head", ["linear", "superb", "mlp", "attentive", "lstm"])
def test_every_head_learns_what_is_there(tmp_path: Path, head: str) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, framed=True, noise=0.5)
    (record,) = fit(tmp_path, store, head=[head], seeds=1, epochs=15)
    assert record.metrics["ua"] > 0.9
    held_out = "one development group" in record.metrics["selection"]
    assert held_out == (head in ("attentive", "lstm"))


def test_the_result_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=4.0)
    (one,) = fit(tmp_path / "one", store, threads=1)
    (two,) = fit(tmp_path / "two", store, threads=2)
    assert one.metrics == two.metrics
    assert one.predictions_path.read_bytes() == two.predictions_path.read_bytes()
    assert (one.folder / "heads.safetensors").read_bytes() == (two.folder / "heads.safetensors").read_bytes()


def test_nothing_is_trained_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiny.h5"
    store = write_synthetic_store(path)
    (first,) = fit(tmp_path, store)
    told: list[str] = []
    monkeypatch.setattr("embedkit.training.train.train_losses", None)
    (second,) = fit(tmp_path, store, tell=told.append)
    assert second.metrics == first.metrics
    assert "fitted before" in told[0]


def test_changed_data_or_settings_are_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "tiny.h5"
    (first,) = fit(tmp_path, write_synthetic_store(path, noise=6.0))
    (changed,) = fit(tmp_path, write_synthetic_store(path, noise=6.0, seed=1))
    assert changed.folder == first.folder
    assert changed.config["store"]["digest"] != first.config["store"]["digest"]
    (longer,) = fit(tmp_path, path, epochs=9)
    assert longer.folder != first.folder
    assert len(find_runs(tmp_path / "runs")) == 2


def test_a_damaged_run_is_trained_again(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    (first,) = fit(tmp_path, store)
    (first.folder / "metrics.json").write_text("{")
    (second,) = fit(tmp_path, store)
    assert json.loads((second.folder / "metrics.json").read_text()) == first.metrics


def test_random_folds_are_marked(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    (record,) = fit(tmp_path, store, folds="random")
    assert record.metrics["speaker_dependent"]
    (record,) = fit(tmp_path, store, folds="speaker")
    assert not record.metrics["speaker_dependent"]


@pytest.mark.parametrize(
    ("folds", "count"), [("session", 3), ("speaker", 6), ("split", 1), ("text", 5), ("speaker+text", 20)]
)
def test_folds(tmp_path: Path, folds: str, count: int) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6)
    (record,) = fit(tmp_path, store, folds=folds, seeds=1, epochs=2)
    assert len(record.config["folds"]["names"]) == count
    assert record.metrics["folds"] == folds


@pytest.mark.parametrize("word", ["speaker", "session"])
def test_the_fields_names_of_folds_are_the_same_run(tmp_path: Path, word: str) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6)
    (first,) = fit(tmp_path, store, folds=word, seeds=1, epochs=2)
    (second,) = fit(tmp_path, store, folds=f"leave-one-{word}-out", seeds=1, epochs=2)
    assert (first.folder, first.config) == (second.folder, second.config)
    assert len(list((tmp_path / "runs").rglob("metrics.json"))) == 1


def test_the_task_can_be_chosen(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", labels=("anger", "excitement", "happiness", "sadness"))
    (record,) = fit(
        tmp_path, store, merge={"excitement": "happiness"}, classes=["happiness", "anger"], where=["text!=t0"], epochs=2
    )
    assert record.metrics["classes"] == ["happiness", "anger"]
    labels = {row["label"] for row in read_predictions(record)}
    assert labels == {"happiness", "anger"}
    merged = np.isin(store.labels, ["anger", "excitement", "happiness"]) & (store.column("text") != "t0")
    assert record.metrics["utterances"] == merged.sum()
    assert "excitement counted as happiness" in record.metrics["task"]


def test_search_is_recorded_and_predicted_with(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", noise=4.0)
    (record,) = fit(tmp_path, store, head=["mlp:hidden=2/16,dropout=0.1"], weight_decay=(0.0, 0.1))
    search = record.metrics["search"]
    assert search["grid"] == {"learning_rate": [1e-2, 3e-2], "weight_decay": [0.0, 0.1], "hidden": [2, 16]}
    for counts in search["chosen"].values():
        assert sum(counts.values()) == len(record.config["choices"]) == 2 * 2
    assert search["chosen_on"] == record.metrics["selection"] == record.config["folds"]["selection"]
    assert record.config["search"] == search
    assert record.metrics["head_options"]["hidden"] == [2, 16]
    heads = record.load_heads()
    for choice in record.config["choices"]:
        fold = record.config["folds"]["names"].index(choice["fold"])
        hidden = int(choice["head"].split("hidden=")[1].split(",")[0])
        assert heads[f"{fold}/{choice['seed']}/classifier.weight"].shape == (3, hidden)
    found = [choice["head"].split("hidden=")[1].split(",")[0] for choice in record.config["choices"]]
    assert {size: found.count(size) for size in ("2", "16")} == search["chosen"]["hidden"]
    text = str(embedkit.table([record]))
    assert "Settings of the head searched as well: hidden 2 or 16." in " ".join(text.split())
    assert "weight decays 0, 0.1" in " ".join(text.split())


@pytest.mark.parametrize("head", mark_cases(["linear", "attentive"], {"linear"}.__contains__))
def test_each_layer_is_a_study_of_its_own(tmp_path: Path, head: str) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, framed=True, noise=0.5)
    records = fit(tmp_path, store, ["ce", "focal"], head=[head], layers="each", epochs=15, seeds=1)
    assert [(record.metrics["layer"], record.metrics["loss"]) for record in records] == [
        (layer, loss) for layer in (0, 1) for loss in ("ce", "focal")
    ]
    assert len({record.folder for record in records}) == 4
    for record in records:
        informative = record.metrics["layer"] == 1
        assert (record.metrics["ua"] > 0.9) == informative
        assert "mix.layer_weights" not in str(sorted(record.load_heads()))
    text = str(embedkit.table([*records, *fit(tmp_path, store, head=[head], epochs=2, seeds=1)]))
    lines = [line.split()[:3] for line in text.splitlines() if line.startswith("tiny")]
    assert lines == [["tiny", head, lines[0][2]], ["tiny", "layer", "0"], ["tiny", "layer", "1"]]
    assert "chosen on test data" in " ".join(text.split())


def test_normalising_by_speaker_is_marked_wherever_it_is_shown(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speakers=6, noise=0.5)
    told: list[str] = []
    (record,) = fit(tmp_path, store, normalise="speaker", epochs=15, tell=told.append)
    (usual,) = fit(tmp_path, store, epochs=15)
    assert record.folder != usual.folder
    assert record.metrics["ua"] > 0.9
    assert record.metrics["transductive"] is record.config["transductive"] is True
    assert "transductive" not in usual.metrics
    assert "TRANSDUCTIVE" in told[0]
    for format in ("text", "markdown", "latex"):
        assert "TRANSDUCTIVE" in embedkit.table([record], format=format).render()
        assert "TRANSDUCTIVE" not in embedkit.table([usual], format=format).render()
    assert json.loads(embedkit.table([record]).render("json"))[0]["transductive"] is True
    both = str(embedkit.table([record, usual]))
    assert both.count("Protocol:") == 2
    with pytest.raises(RunError, match="without --normalise"):
        embedkit.predict(record, [tmp_path / "tiny.h5"])


def test_normalising_needs_every_speaker(tmp_path: Path) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5", speaker=["", *(f"s{n % 4}" for n in range(59))])
    with pytest.raises(FitError, match="found 1 of 60 without"):
        fit(tmp_path, store, normalise="speaker", folds="random")


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"loss": ["fokal"]}, UnknownNameError, "Did you mean 'focal'"),
        ({"loss": ["focal:gama=1"]}, ConfigError, "Did you mean 'gamma'"),
        ({"head": ["liner"]}, UnknownNameError, "Did you mean 'linear'"),
        ({"head": ["attentive"]}, FitError, "--level both"),
        ({"folds": "sesion"}, FitError, "Did you mean 'session'"),
        ({"classes": ["angr"]}, FitError, "Did you mean 'anger'"),
        ({"classes": ["anger"]}, FitError, "hold 1 class"),
        ({"classes": ["anger", "anger", "sadness"]}, FitError, "twice"),
        ({"where": ["speaker=s00"]}, FitError, "at least two groups"),
        ({"where": ["colour=red"]}, EmbedkitError, "colour"),
        ({"lr": ()}, ConfigError, "expected numbers above zero"),
        ({"lr": (1e-3, 1e-3)}, ConfigError, "twice"),
        ({"weight_decay": (-0.1,)}, ConfigError, "of at least zero"),
        ({"weight_decay": (0.1, 0.1)}, ConfigError, "twice"),
        ({"head": ["mlp:hidden=64/64"]}, ConfigError, "between the slashes"),
        ({"head": ["mlp:hidden=64/0"]}, ConfigError, "at least 1"),
        ({"folds": "speaker+txt"}, FitError, "Did you mean 'text'"),
        ({"layers": "both"}, FitError, "expected all or each"),
        ({"normalise": "session"}, ConfigError, "expected one of none, speaker"),
        ({"seeds": 0}, ConfigError, "of at least 1"),
        ({"threads": -1}, ConfigError, "of at least 1"),
        ({"loss": []}, FitError, "no loss"),
        ({"device": "gpu"}, ConfigError, "expected auto, cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:77"}, ConfigError, r"no device 'cuda:77' here: \d+ CUDA devices?; take one of cpu"),
    ],
)
def test_what_cannot_be_done_is_told_before_anything_is_trained(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    store = write_synthetic_store(tmp_path / "tiny.h5")
    with pytest.raises(error, match=sentence):
        fit(tmp_path, store, **{"loss": ["ce"], **options})
    assert not (tmp_path / "runs").exists()


def test_stores_of_one_name_and_other_content_keep_runs_of_their_own(tmp_path: Path) -> None:
    stores = []
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        stores.append(write_synthetic_store(tmp_path / folder / "tiny.h5", seed=number, fingerprint=f"{number}" * 64))
    first, second = fit(tmp_path, stores, epochs=1)
    assert first.folder != second.folder


def test_a_damaged_store_is_not_trained_on(tmp_path: Path) -> None:
    path = tmp_path / "tiny.h5"
    store = write_synthetic_store(path)
    value = store.mean(layer="all")[7, 1, 3].tobytes()
    content = path.read_bytes()
    assert content.count(value) == 1
    path.write_bytes(content.replace(value, bytes([value[0] ^ 1, *value[1:]])))
    with pytest.raises(StoreError, match="u0007"):
        fit(tmp_path, path)
    assert not (tmp_path / "runs").exists()


def test_runs_that_cannot_be_kept_are_told_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.training.train.train_losses", None)
    (tmp_path / "runs").write_text("")
    with pytest.raises(RunError, match="--runs"):
        fit(tmp_path, write_synthetic_store(tmp_path / "tiny.h5"))


def test_no_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(FitError, match="run embedkit extract first"):
        fit(tmp_path, [])


@pytest.mark.parametrize("name", ["heads.safetensors", "predictions.csv", "metrics.json", "config.json"])
def test_a_run_that_lost_a_file_is_trained_again(tmp_path: Path, name: str) -> None:
    write_synthetic_store(tmp_path / "s.h5")
    (record,) = fit(tmp_path, tmp_path / "s.h5", seeds=1)
    whole = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    (record.folder / name).unlink()
    fit(tmp_path, tmp_path / "s.h5", seeds=1)
    assert {path.name: path.read_bytes() for path in record.folder.iterdir()} == whole


def test_what_a_fit_that_was_stopped_after_its_last_run_kept_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic_store(tmp_path / "s.h5")

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("embedkit.training.stacks.cache.ResultCache.clear", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, tmp_path / "s.h5", seeds=1)
    assert list((tmp_path / "runs").glob(".unfinished/*"))
    fit(tmp_path, tmp_path / "s.h5", seeds=1)
    assert not (tmp_path / "runs" / ".unfinished").exists()


@pytest.mark.parametrize(
    ("owners", "told"),
    [
        ([4, 4, 4, 4], None),
        ([4, 4, 4, 1], "A single speaker has 'sadness': folds by speaker test what no head has learned"),
        ([4, 4, 1, 1], "A single speaker has 'neutral' and 'sadness': folds by speaker"),
    ],
)
def test_classes_of_a_single_speaker_are_told_once(tmp_path: Path, owners: list[int], told: str | None) -> None:
    names = ("anger", "happiness", "neutral", "sadness")
    labels = [names[place % 4] if place // 15 < owners[place % 4] else "anger" for place in range(60)]
    store, said = write_synthetic_store(tmp_path / "tiny.h5", label=labels), []
    options: Any = {"runs": tmp_path / "runs", "tell": said.append, "train": lambda *_, **__: []}
    embedkit.fit(store, loss=["ce", "aam"], head=["linear", "mlp"], **options)
    assert [line for line in said if "single speaker" in line] == [line for line in said if told and told in line]
    assert sum("single speaker" in line for line in said) == (told is not None)
