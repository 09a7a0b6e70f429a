"""Several corpora as one: the same whatever order stores are given in, and no more than their parts."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import embedkit
from embedkit.errors import FitError
from embedkit.heads.base import HeadInputs
from embedkit.reporting.report.commands import list_commands
from embedkit.store import Store, open_store
from embedkit.training.data.features import Features
from embedkit.training.data.pooled import PooledSource
from embedkit.training.data.store_source import StoreSource
from embedkit.training.experiment import Experiment
from embedkit.training.experiment_record import run_config, run_folder
from embedkit.training.runs import RunRecord, find_runs
from tests.training.stores import write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 1, "epochs": 2, "batch_size": 8, "lr": (1e-2,), "head": "linear", "device": "cpu"}


def write(path: Path, corpus: str, **changes: Any) -> Store:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_synthetic_store(path, corpus=corpus, framed=True, **changes)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    """Two corpora whose speakers and ids have the same names; the second one has a label more."""
    folder = tmp_path_factory.mktemp("stores")
    more = ("anger", "happiness", "fear", "sadness")
    digests = {"audio_digest": [f"{number:032d}" for number in range(75)]}
    return [
        write(folder / "one/tiny.h5", "one", audio_digest=[f"{number:032d}" for number in range(100, 160)]),
        write(folder / "two/tiny.h5", "two", speakers=5, seed=3, labels=more, **digests),
    ]


def collect(stores: list[Store], **options: Any) -> Experiment:
    """Return what a pooled fit would train."""
    found: list[Experiment] = []
    keywords = {**QUICK, "pool": True, **options}
    embedkit.fit(stores, train=lambda experiments, *_, **__: found.extend(experiments) or [], **keywords)
    return found[0]


def pool(*stores: Store) -> PooledSource:
    return PooledSource([StoreSource(store) for store in stores])


@pytest.fixture(scope="module")
def run(stores: list[Store], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    (record,) = embedkit.fit(stores, pool=True, runs=tmp_path_factory.mktemp("runs"), folds="speaker", **QUICK)
    return record


@pytest.mark.parametrize("folds", [None, "speaker", "corpus", "speaker+text"])
def test_the_order_of_the_stores_changes_nothing(stores: list[Store], folds: str | None) -> None:
    first, second = collect(stores, folds=folds), collect(stores[::-1], folds=folds)
    assert run_config(first) == run_config(second)
    assert run_folder(first) == run_folder(second)
    for one, other in zip(first.data.plan.folds, second.data.plan.folds, strict=True):
        assert (one.train.tolist(), one.test.tolist()) == (other.train.tolist(), other.test.tolist())
    np.testing.assert_array_equal(first.data.task.ids, second.data.task.ids)


def test_speakers_and_sessions_are_those_of_their_corpus(stores: list[Store]) -> None:
    experiment = collect(stores)
    assert sorted({name.split("/")[0] for name in experiment.data.task.speakers.tolist()}) == ["one", "two"]
    assert len(set(experiment.data.task.speakers.tolist())) == 9
    assert experiment.data.plan.kind == "session"
    assert len(experiment.data.plan.folds) == 5
    assert not experiment.data.plan.speaker_dependent
    assert [fold.name for fold in collect(stores, folds="corpus").data.plan.folds] == ["one", "two"]


def test_a_pool_of_one_is_that_store(stores: list[Store]) -> None:
    alone, pooled = StoreSource(stores[0]), pool(stores[0])
    rows = np.array([3, 7, 20, 41])
    index = np.array([[2, 0, 3]])
    for level in ("utterance", "frame"):
        first, second = alone.features(rows, level), pooled.features(rows, level)
        assert_equal(read(first, index), read(second, index))
    for name in ("label", "text", "valence"):
        np.testing.assert_array_equal(alone.column(name), pooled.column(name))
    assert [f"one/{name}" for name in alone.column("speaker")] == pooled.column("speaker").tolist()


def read(features: Features, index: Any) -> HeadInputs:
    standardiser = features.moments(np.arange(len(features)))
    return features.gather(index, type(standardiser).stack([standardiser], features.device))


def assert_equal(first: HeadInputs, second: HeadInputs) -> None:
    np.testing.assert_array_equal(first.values.numpy(), second.values.numpy())
    if first.lengths is not None and second.lengths is not None:
        np.testing.assert_array_equal(first.lengths.numpy(), second.lengths.numpy())


@pytest.mark.parametrize("level", ["utterance", "frame"])
@pytest.mark.parametrize("layer", [None, 1])
def test_embeddings_lie_end_to_end_in_memory_and_on_disk(stores: list[Store], level: str, layer: int | None) -> None:
    whole = pool(*stores)
    rows = np.array([5, 59, 60, 61, 130])
    places = [(0, 5), (0, 59), (1, 0), (1, 1), (1, 70)]
    held = whole.features(rows, level, layer=layer)
    streamed = whole.features(rows, level, layer=layer, memory_gb=0.0)
    index = np.array([[4, 0, 2], [1, 3, 0]])
    for averaged in (1, 2) if level == "frame" else (1,):
        own, other = held.averaged(averaged), streamed.averaged(averaged)
        first, second = (read(one, index[:1]) for one in (own, other))
        assert_equal(first, second)
    layers = slice(None) if layer is None else slice(layer, layer + 1)
    neutral = held.moments(rows[:1] * 0)
    for store, row in places:
        place = places.index((store, row))
        standardised = type(neutral).stack([neutral], held.device)
        mean = stores[store].mean(layer="all")[row, layers]
        if level == "utterance":
            got = held.gather(np.array([[place]]), standardised).values[0, 0].numpy()
            np.testing.assert_allclose(got, (mean - neutral.mean.numpy()) * neutral.scale.numpy(), rtol=1e-6)


def test_normalising_by_speaker_is_the_same_from_disk(stores: list[Store]) -> None:
    whole, rows = pool(*stores), np.arange(135)
    owners = whole.column("speaker")
    found = [whole.features(rows, "utterance", memory_gb=memory) for memory in (None, 0.0)]
    for one in found:
        one.normalise_by(owners)
    index = np.arange(0, 135, 7)[None]
    np.testing.assert_allclose(read(found[0], index).values, read(found[1], index).values, atol=1e-6)


def test_classes_are_those_that_all_have_and_others_are_counted(stores: list[Store]) -> None:
    told: list[str] = []
    assert collect(stores, tell=told.append).data.task.classes == ("anger", "happiness", "sadness")
    assert "Left out 19 utterances of two with other labels (fear 19)." in told
    assert collect(stores, merge={"fear": "sadness"}).data.task.classes == ("anger", "happiness", "sadness")
    named = collect(stores, classes=["anger", "fear"], tell=told.append)
    assert named.data.task.classes == ("anger", "fear")
    assert "One has no utterances of fear." in told


def test_labels_are_those_of_each_corpuss_own_task(stores: list[Store], tmp_path: Path) -> None:
    info = {"kind": "manifest", "root": "/c", "notes": []}
    other = write_synthetic_store(tmp_path / "tiny.h5", corpus="three", labels=("joy", "rage", "calm"), framed=True)
    with pytest.raises(FitError, match=r"share 0 labels.*one has anger, happiness, sadness; three has calm, joy, rage"):
        collect([stores[0], other])
    assert collect([stores[0], other], merge={"joy": "happiness", "rage": "anger"}).data.task.classes == (
        "anger",
        "happiness",
    )
    source = StoreSource(other)
    source.task = {**info, "classes": ["happiness", "anger"], "merge": {"joy": "happiness", "rage": "anger"}}
    whole = PooledSource([StoreSource(stores[0]), source])
    assert whole.usual_classes({}) == ["anger", "happiness"]
    assert set(whole.column("label")[60:]) == {"happiness", "anger", "calm"}


def test_stores_that_are_named_after_their_corpora_go_by_their_encoder(stores: list[Store], tmp_path: Path) -> None:
    copies = [Path(shutil.copy(store.path, tmp_path / f"{store.corpus}.h5")) for store in stores]
    pooled = PooledSource([StoreSource(open_store(copy)) for copy in copies])
    assert pooled.path == Path("one+two") / f"{stores[0].encoder['name']}.h5"


def test_a_run_names_its_corpora_and_is_found_again(stores: list[Store], run: RunRecord, tmp_path: Path) -> None:
    assert run.folder.parents[2].name == "one+two"
    assert (run.metrics["corpus"], run.metrics["pooled"]) == ("one+two", ["one", "two"])
    with open(run.predictions_path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == len(rows) == 116
    told: list[str] = []
    embedkit.fit(stores[::-1], pool=True, runs=run.folder.parents[3], folds="speaker", tell=told.append, **QUICK)
    assert "fitted before" in told[-1]
    table = " ".join(str(embedkit.table([run], by="corpus")).split())
    assert "one+two pooled: UAR" in table
    assert "one: 60 utterances, 4 speakers; two: 56 utterances, 5 speakers" in table
    assert "by text" in str(embedkit.table([run], by="text"))
    fit = next(line for line in list_commands(find_runs(run.folder), "runs") if " fit " in line)
    assert all(str(store.path) in fit for store in stores)
    assert "--pool" in fit.split()


def test_recordings_that_two_corpora_share_are_leakage(stores: list[Store], tmp_path: Path) -> None:
    digests = [f"{number:032d}" for number in range(99, 159)]
    other = write(tmp_path / "three/tiny.h5", "three", audio_digest=digests)
    with pytest.raises(FitError, match=r"are recordings that are trained on.*one/u\d+ = three/u"):
        collect([stores[0], other])
    dropped = collect([stores[0], other], duplicates="drop")
    assert len(dropped.data) == 61
    assert "left out 59 utterances of one+three that repeat a recording" in dropped.data.left_out
    assert dropped.data.copied == {"one", "three"}
    assert collect([stores[0], stores[1]], duplicates="drop").data.copied == set()


def test_a_corpus_can_be_tested_that_was_not_pooled(stores: list[Store], tmp_path: Path) -> None:
    other = write(tmp_path / "three/tiny.h5", "three", seed=9)
    experiment = collect(stores, test_on=other)
    assert (experiment.data.task.classes, len(experiment.data.plan.folds)) == (("anger", "happiness", "sadness"), 1)
    assert len(experiment.data.plan.folds[0].train) == 116
    with pytest.raises(FitError, match="Both stores hold two"):
        collect(stores, test_on=stores[1])


def test_leaving_one_of_two_corpora_out_is_testing_on_the_other(stores: list[Store], tmp_path: Path) -> None:
    told: dict[str, Any] = {**QUICK, "classes": ["anger", "happiness", "sadness"], "threads": 1, "runs": tmp_path}
    (pooled,) = embedkit.fit(stores, pool=True, folds="corpus", **told)
    for first, second in (stores, stores[::-1]):
        (record,) = embedkit.fit(first, test_on=second, **told)
        own = pooled.metrics["by_corpus"][second.corpus]
        for name in ("wa", "ua", "f1", "ua_ci"):
            assert record.metrics[name] == pytest.approx(own[name])


def test_a_corpus_of_one_speaker_is_not_trained_on_where_it_is_tested(stores: list[Store], tmp_path: Path) -> None:
    lonely = {"speaker": ["a"] * 15, "session": [""] * 15, "audio_digest": [f"{place:032d}" for place in range(15)]}
    alone = write(tmp_path / "one speaker/tiny.h5", "alone", speakers=1, **lonely)
    told: dict[str, Any] = {**QUICK, "runs": tmp_path, "folds": "speaker", "standardise_by": "corpus"}
    (record,) = embedkit.fit([stores[0], alone], pool=True, **told)
    assert record.metrics["transductive"]
    own = {name: scores["untrained"] for name, scores in record.metrics["by_corpus"].items()}
    assert own == {"one": False, "alone": True}


def refused(stores: list[Store], tmp_path: Path) -> list[tuple[list[Store], dict[str, Any], str]]:
    lonely = {"speaker": ["a"] * 15, "session": [""] * 15}
    few = [write(tmp_path / f"{name}/tiny.h5", name, speakers=1, **lonely) for name in ("four", "five")]
    others = write(tmp_path / "six/other.h5", "six", encoder="other", fingerprint="a" * 64)
    again = write(tmp_path / "again/tiny.h5", "two")
    return [
        (stores[:1], {}, "Found 1 store to pool"),
        ([stores[0], stores[0]], {}, "hold one; name each corpus once"),
        ([stores[1], again], {}, "hold two; name each corpus once"),
        ([stores[0], others], {}, r"different encoders or options \(name tiny and other\)"),
        (few, {}, "at least two speakers on the training set"),
        (stores, {"noise_snr": (10.0,)}, "leave out --pool or --noise-snr"),
        (stores, {"mode": "frozen", "encoder": "mfcc"}, "--pool means nothing with --mode frozen"),
        (stores, {"classes": ["anger", "joy"]}, "Unknown label 'joy'"),
    ]


def test_what_cannot_be_pooled_is_told_in_a_sentence(stores: list[Store], tmp_path: Path) -> None:
    for given, options, words in refused(stores, tmp_path):
        with pytest.raises(FitError, match=words):
            collect(given, **options)
