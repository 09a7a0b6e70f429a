"""Train on one corpus, test on another: nothing of the other is trained or chosen on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.errors import FitError
from embedkit.store import Store
from embedkit.training.cross_validation import train_losses
from embedkit.training.runs import RunRecord
from tests.training.stores import write_synthetic_store


@pytest.fixture
def train(tmp_path: Path) -> Store:
    return write_synthetic_store(tmp_path / "train.h5", speakers=6, noise=0.5, framed=True)


def write_other(path: Path, **changes: Any) -> Store:
    settings: dict[str, Any] = {"corpus": "other", "speakers": 5, "noise": 0.5, "framed": True, "seed": 1, **changes}
    return write_synthetic_store(path, **settings)


def fit(tmp_path: Path, store: Store, other: Any, **options: Any) -> RunRecord:
    settings: dict[str, Any] = {"seeds": 2, "epochs": 12, "batch_size": 8, "lr": (1e-2, 3e-2), **options}
    (record,) = embedkit.fit(store, runs=tmp_path / "runs", test_on=other, **settings)
    return record


@pytest.mark.parametrize("head", ["linear", "attentive"])
def test_every_utterance_of_the_other_corpus_is_tested_and_no_other(tmp_path: Path, train: Store, head: str) -> None:
    other = write_other(tmp_path / "other.h5")
    record = fit(tmp_path, train, tmp_path / "other.h5", head=[head])
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for seed in ("0", "1"):
        assert [row["id"] for row in rows if row["seed"] == seed] == other.ids.tolist()
    assert {row["speaker"] for row in rows} == {f"other/{name}" for name in other.speakers}
    metrics = record.metrics
    assert (metrics["corpus"], metrics["test_corpus"]) == ("synthetic", "other")
    assert (metrics["utterances"], metrics["speakers"]) == (75, 5)
    assert metrics["ua"] > 0.9
    assert not metrics["speaker_dependent"]
    assert ("held out" in metrics["selection"]) == (head == "attentive")
    hits = [row["label"] == row["predicted"] for row in rows]
    assert metrics["wa"] == pytest.approx(np.mean(hits))


def test_nothing_of_the_other_corpus_reaches_the_heads(tmp_path: Path, train: Store) -> None:
    records = []
    for number, noise in enumerate((0.5, 50.0)):
        other = write_other(tmp_path / f"other{number}.h5", noise=noise, seed=number)
        records.append(fit(tmp_path / str(number), train, other))
    first, second = records
    assert (first.folder / "heads.safetensors").read_bytes() == (second.folder / "heads.safetensors").read_bytes()
    assert first.config["choices"] == second.config["choices"]
    assert first.metrics["ua"] > second.metrics["ua"]


def test_several_corpora_are_tested_by_heads_that_are_trained_once(
    tmp_path: Path, train: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [
        write_other(tmp_path / "other.h5"),
        write_other(tmp_path / "third.h5", corpus="third", speakers=3, seed=2, labels=("anger", "joy", "sadness")),
    ]
    calls: list[int] = []
    once = train_losses

    def count(*given: Any, **keywords: Any) -> Any:
        calls.append(1)
        return once(*given, **keywords)

    monkeypatch.setattr("embedkit.training.train.train_losses", count)
    settings: dict[str, Any] = {"seeds": 1, "epochs": 1, "lr": (1e-2,), "loss": ["ce", "focal"], "threads": 1}
    settings |= {"test_merge": {"joy": "happiness"}, "head": ["linear"]}
    records = embedkit.fit(train, runs=tmp_path / "runs", test_on=[tmp_path / "other.h5", others[1]], **settings)
    assert len(calls) == 1
    assert [(one.metrics["test_corpus"], one.metrics["loss"]) for one in records] == [
        ("other", "ce"),
        ("other", "focal"),
        ("third", "ce"),
        ("third", "focal"),
    ]
    settings["test_merge"] = {}
    for place, own in enumerate(({}, {"test_merge": {"joy": "happiness"}})):
        alone = embedkit.fit(train, runs=tmp_path / "alone", test_on=others[place], **{**settings, **own})
        for one, other in zip(alone, records[2 * place : 2 * place + 2], strict=True):
            assert one.folder.name == other.folder.name
            assert one.predictions_path.read_bytes() == other.predictions_path.read_bytes()
            assert (one.folder / "heads.safetensors").read_bytes() == (other.folder / "heads.safetensors").read_bytes()
    with pytest.raises(FitError, match="Two of the stores to test on hold other"):
        embedkit.fit(train, runs=tmp_path / "runs", test_on=[others[0], others[0]], **settings)
    with pytest.raises(FitError, match=r"None of the corpora to test on \(other, third\) has the label 'rage'"):
        embedkit.fit(train, test_on=others, **{**settings, "test_merge": {"rage": "anger"}})


def test_parts_of_one_corpus_are_called_by_how_they_were_chosen(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"head": ["linear"], "seeds": 1, "epochs": 1, "lr": (1e-2,), "runs": tmp_path / "runs"}
    parts = {}
    for number, (part, names) in enumerate({"Train": "abcd", "Test2": "efg", "Test3": "dhi"}.items()):
        count = 15 * len(names)
        parts[part] = write_other(
            tmp_path / f"{part}.h5",
            speakers=len(names),
            where=["gender=male", f"partition={part}"],
            speaker=[name for name in names for _ in range(15)],
            audio_digest=[f"{100 * number + place:032d}" for place in range(count)],
        )
    records = embedkit.fit(parts["Train"], test_on=[parts["Test2"], parts["Test3"]], **settings)
    told = {one.metrics["test_corpus"]: one.metrics["speaker_dependent"] for one in records}
    # Speaker d of Train is that of Test3; what both were chosen by tells nothing apart.
    assert told == {"other (partition=Test2)": False, "other (partition=Test3)": True}
    assert "SPEAKER-DEPENDENT" in str(embedkit.table(records))
    assert embedkit.cite(records[0]).unknown == ("corpus other", "encoder tiny")
    elsewhere = write_synthetic_store(tmp_path / "train.h5", where=["gender=male"], framed=True)
    (record,) = embedkit.fit(elsewhere, test_on=parts["Test3"], **settings)
    assert record.metrics["test_corpus"] == "other (partition=Test3)"
    assert not record.metrics["speaker_dependent"]


def test_labels_are_mapped_to_those_trained_on(tmp_path: Path, train: Store) -> None:
    other = write_other(tmp_path / "other.h5", labels=("anger", "joy", "sadness"))
    with pytest.raises(FitError, match=r"no utterances of the class 'happiness' \(it has anger, joy, sadness; "):
        fit(tmp_path, train, other)
    record = fit(tmp_path, train, other, test_merge={"joy": "happiness"})
    assert record.metrics["classes"] == ["anger", "happiness", "sadness"]
    assert record.metrics["ua"] > 0.9
    assert record.config["test_merge"] == {"joy": "happiness"}
    text = " ".join(str(embedkit.table([record])).split())
    assert "trained on all of synthetic, tested on other" in text
    assert "joy counted as happiness in other" in text
    shared = fit(tmp_path, train, other, classes=["anger", "sadness"])
    assert (shared.metrics["classes"], shared.metrics["utterances"]) == (["anger", "sadness"], 50)


def test_a_run_is_told_apart_from_folds_and_trained_again_for_other_data(tmp_path: Path, train: Store) -> None:
    record = fit(tmp_path, train, write_other(tmp_path / "other.h5"))
    (usual,) = embedkit.fit(train, runs=tmp_path / "runs", folds="speaker", seeds=2, epochs=2, batch_size=8)
    assert str(embedkit.table([record, usual])).count("Protocol:") == 2
    told: list[str] = []
    fit(tmp_path, train, tmp_path / "other.h5", tell=told.append)
    assert "fitted before" in told[-1]
    fit(tmp_path, train, write_other(tmp_path / "other.h5", seed=7), tell=told.append)
    assert "fitted before" not in told[-1]


def test_a_layer_alone_and_speakers_alone_work_across_corpora(tmp_path: Path, train: Store) -> None:
    other = write_other(tmp_path / "other.h5")
    records = embedkit.fit(
        train,
        runs=tmp_path / "runs",
        test_on=other,
        layers="each",
        normalise="speaker",
        seeds=1,
        epochs=12,
        batch_size=8,
    )
    assert [record.metrics["ua"] > 0.8 for record in records] == [False, True]
    assert all(record.metrics["transductive"] for record in records)


def test_a_synthetic_corpus_on_either_side_is_told(tmp_path: Path, train: Store) -> None:
    assert not fit(tmp_path, train, write_other(tmp_path / "other.h5"), epochs=1).metrics["demo"]
    assert fit(tmp_path, train, write_other(tmp_path / "demo.h5", corpus="demo"), epochs=1).metrics["demo"]


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"corpus": "synthetic"}, {}, "Both stores hold synthetic"),
        ({"speakers": 5}, {"folds": "speaker"}, "leave out --folds or --test-on"),
        ({"framed": False}, {"head": ["attentive"]}, "--level both"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, train: Store, changes: dict[str, Any], options: dict[str, Any], words: str
) -> None:
    other = write_other(tmp_path / "other.h5", **changes)
    with pytest.raises(FitError, match=words):
        fit(tmp_path, train, other, **options)
    with pytest.raises(FitError, match="no store to test on"):
        embedkit.fit(train, runs=tmp_path / "runs", test_merge={"a": "b"})


def test_stores_of_different_encoders_are_refused(
    tmp_path: Path, train: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_other(tmp_path / "other.h5")
    monkeypatch.setattr(
        Store, "fingerprint", property(lambda self: "a" * 64 if self.path.stem == "other" else "f" * 64)
    )
    with pytest.raises(FitError, match="different encoders or options"):
        fit(tmp_path, train, tmp_path / "other.h5")


def test_a_partition_of_msp_podcast_is_a_test_set_of_its_own(tmp_path: Path) -> None:
    rows = [["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]]
    noise = np.random.default_rng(0)
    (tmp_path / "msp/Audios").mkdir(parents=True)
    for number in range(20):
        name, part = f"MSP-PODCAST_0001_{number:04d}.wav", "Train" if number < 16 else "Test2"
        soundfile.write(tmp_path / "msp/Audios" / name, noise.normal(0, 0.1, 4000), 16_000)
        rows.append([name, "AH"[number % 2], "4", "4", "4", f"{part}{number // 4}", "Male", part])
    (tmp_path / "msp/Labels").mkdir()
    with (tmp_path / "msp/Labels/labels_consensus.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    whole, own, trained = (
        embedkit.extract(tmp_path / "msp", encoder="mfcc", out=tmp_path / f"{name}.h5", where=where)
        for name, where in (("whole", ()), ("own", ["partition=Test2"]), ("trained", ["partition!=Test2"]))
    )
    record = fit(tmp_path, trained, own, head=["linear:pool=mean"], epochs=1, seeds=1, lr=[1e-2])
    assert record.metrics["utterances"] == 4
    with pytest.raises(FitError, match="Both stores hold msp-podcast"):
        fit(tmp_path, whole, own)


def test_speakers_of_another_part_of_the_corpus_are_told(tmp_path: Path) -> None:
    first, part, other = (
        write_synthetic_store(
            tmp_path / f"{number}.h5", corpus=corpus, audio_digest=[f"{number}{place:031d}" for place in range(60)]
        )
        for number, corpus in enumerate(("synthetic", "synthetic", "other"))
    )
    found: list[Any] = []
    for one in (part, other):
        embedkit.fit(first, test_on=one, head="linear", train=lambda given, *_, **__: found.extend(given) or [])
    assert [one.data.plan.speaker_dependent for one in found] == [True, False]
    assert found[0].data.other_name.startswith("synthetic (")
    assert set(found[0].data.task.speakers) == {f"synthetic/{name}" for name in first.speakers}
