"""What an experiment reads: every kind of source keeps the same contract."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import embedkit
from embedkit.corpora import open_corpus
from embedkit.encoders import load_encoder
from embedkit.errors import EmbedkitError, FitError
from embedkit.options.fit import FitOptions
from embedkit.store import Store, StoreContent, open_store, write_store
from embedkit.training.data.features import Standardiser
from embedkit.training.data.folds import FoldPlan, plan_folds
from embedkit.training.data.source import Source
from embedkit.training.data.store_source import FoldStores, StoreSource, as_store, group_stores
from embedkit.training.data.task import define_task
from embedkit.training.live.source import LiveSource, open_live_sources
from embedkit.training.processes import ALONE
from tests.workflows.tones import write_tones

KINDS = ("store", "fold stores", "live")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = write_tones(tmp_path_factory.mktemp("sources") / "tones")
    store = embedkit.extract(corpus, encoder="mfcc", out=corpus.parent / "mfcc.h5", progress=False)
    for number, speaker in enumerate(np.unique(store.speakers).tolist()):
        tuned = {"corpus": "other", "study": "ce-1", "seed": 0, "base": "mfcc", "folds": "speaker"}
        write_tuned(corpus.parent / f"tuned-{number}.h5", store, {**tuned, "fold": speaker, "fold_number": number})
    return corpus.parent


def write_tuned(path: Path, store: Store, trained_on: dict[str, Any], **changes: Any) -> Store:
    """Write the rows of a store as those of an encoder that was trained on other folds."""
    content: dict[str, Any] = {
        "corpus": store.corpus,
        "corpus_info": store.corpus_info,
        "encoder": store.encoder,
        "fingerprint": store.fingerprint,
        "columns": {name: store.column(name) for name in store.columns},
        "frame_dtype": store.frame_dtype,
        "frame_counts": np.diff(store.frame_offsets).tolist(),
        "extraction": store.extraction,
        "trained_on": trained_on,
        **changes,
    }
    write_store(path, StoreContent(**content), (store.rows(row) for row in range(len(store))))
    return open_store(path)


def open_kind(kind: str, folder: Path) -> Source:
    if kind == "store":
        return StoreSource(open_store(folder / "mfcc.h5"))
    if kind == "live":
        return LiveSource(open_corpus(folder / "tones"), load_encoder("mfcc"), "mfcc", threads=1)
    (source,) = group_stores([open_store(path) for path in sorted(folder.glob("tuned-*.h5"))[::-1]])
    return source


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, folder: Path) -> Source:
    return open_kind(request.param, folder)


def plan_of(source: Source) -> FoldPlan:
    data = define_task(source)
    return plan_folds("speaker", labels=data.labels, speakers=data.speakers, hold_out=True)


def test_a_task_is_defined_on_its_columns(source: Source, folder: Path) -> None:
    store = open_store(folder / "mfcc.h5")
    assert len(source) == len(store) == 24
    for name in ("id", "label", "speaker", "session", "split", "arousal", "start"):
        np.testing.assert_array_equal(source.column(name), store.column(name))
    with pytest.raises(EmbedkitError, match="Did you mean 'speaker'"):
        source.column("speakr")
    assert define_task(source).classes == ("high", "low")
    assert (source.corpus, source.layers, source.has_frames) == ("corpus", (0,), True)


@pytest.mark.parametrize("level", ["utterance", "frame"])
def test_every_fold_reads_its_embeddings(source: Source, level: str, folder: Path) -> None:
    store, plan = open_store(folder / "mfcc.h5"), plan_of(source)
    read = source.for_folds(plan)
    assert len(read) == len(plan.folds) == 4
    assert all(own.for_folds(plan)[0] is own for own in read)
    for own, fold in zip(read, plan.folds, strict=True):
        rows = fold.test[::-1].copy()
        features = own.features(rows, level)
        assert (features.level, features.layers, features.dimensions, len(features)) == (level, 1, 39, len(rows))
        everything = np.arange(len(rows))
        plain = Standardiser.stack([Standardiser.from_moments(np.zeros((1, 39)), np.ones((1, 39)))], features.device)
        found = features.gather(everything[None], plain)
        for place, row in enumerate(rows.tolist()):
            expected = store.mean(layer="all")[row][None] if level == "utterance" else store.frames(row)
            values = found.values[0, place] if level == "frame" else found.values[0, place][None]
            np.testing.assert_allclose(values[: len(expected)], expected, rtol=1e-3, atol=1e-3)


def test_what_a_run_keeps_is_plain(source: Source, folder: Path) -> None:
    described = source.describe(plan_of(source))
    assert json.loads(json.dumps(described)) == described
    assert list(described)[:5] == ["path", "fingerprint", "digest", "encoder", "options"]
    assert described["encoder"]["name"] == "mfcc"
    assert described["digest"] == source.digest
    assert Path(described["path"]).suffix == ".h5"
    assert "max_seconds" in described["options"]


def test_it_says_the_head_the_processes_and_what_its_encoder_has_seen(source: Source) -> None:
    assert source.default_head == "lstm"
    assert source.processes is ALONE
    assert source.fine_tuned == isinstance(source, FoldStores)
    assert not source.trained_on
    assert source.usual_folds in (None, "speaker")
    source.require_undamaged()
    with pytest.raises(EmbedkitError, match=r"cannot be trained|loaded as it is"):
        source.fine_tuner(FitOptions(mode="finetune").resolve())


def predictions(kind: str, folder: Path, runs: Path) -> NDArray[Any]:
    given: dict[str, Any] = {"stores": folder / "mfcc.h5"}
    if kind == "fold stores":
        given = {"stores": sorted(folder.glob("tuned-*.h5"))}
    if kind == "live":
        given = {"stores": folder / "tones", "mode": "frozen", "encoder": "mfcc"}
    quick: dict[str, Any] = {"seeds": 1, "epochs": 3, "batch_size": 8, "threads": 1, "lr": (1e-2,)}
    (record,) = embedkit.fit(**given, loss=["ce"], head=["attentive"], folds="speaker", runs=runs, **quick)
    return np.genfromtxt(record.predictions_path, delimiter=",", names=True, usecols=(-2, -1)).view(float)


def test_equal_embeddings_are_fitted_alike_wherever_they_come_from(folder: Path, tmp_path: Path) -> None:
    found = [predictions(kind, folder, tmp_path / kind) for kind in KINDS]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], atol=1e-3)


def test_a_fold_without_a_store_is_told(folder: Path) -> None:
    stores = [open_store(folder / f"tuned-{number}.h5") for number in range(3)]
    source = FoldStores(stores)
    with pytest.raises(FitError, match="no store of the fold 's3' by speaker"):
        source.for_folds(plan_of(source))
    with pytest.raises(FitError, match="Two of the stores belong to the fold 's0'"):
        FoldStores([stores[0], stores[0]])


def test_stores_of_one_run_must_be_alike(folder: Path, tmp_path: Path) -> None:
    first = open_store(folder / "tuned-0.h5")
    other = {**first.trained_on, "fold": "s1", "fold_number": 1}
    labels = write_tuned(
        tmp_path / "labels.h5",
        first,
        other,
        columns={**{name: first.column(name) for name in first.columns}, "label": ["low"] * len(first)},
    )
    with pytest.raises(FitError, match="differ in their utterances"):
        FoldStores([first, labels])
    frameless = write_tuned(tmp_path / "frameless.h5", first, other, frame_dtype="float16")
    with pytest.raises(FitError, match="differ in their frame dtype"):
        FoldStores([first, frameless])


def test_the_head_is_the_one_the_store_names_else_that_of_its_encoders_name(folder: Path, tmp_path: Path) -> None:
    store = open_store(folder / "mfcc.h5")
    for place, (encoder, extraction, head) in enumerate(
        [
            ({}, {"default_head": "cnn"}, "cnn"),
            ({}, {}, "lstm"),
            ({"name": "own", "family": "vggish"}, {}, "mlp"),
            ({"name": "mfcc+logmel", "family": "concatenation"}, {}, "linear"),
            ({"name": "mfcc+logmel", "family": "concatenation"}, {"default_head": "lstm"}, "lstm"),
        ]
    ):
        changes = {"encoder": {**store.encoder, **encoder}, "extraction": {"options": {}, **extraction}}
        written = write_tuned(tmp_path / f"{place}.h5", store, {}, **changes)
        assert StoreSource(written).default_head == head


def test_corpora_are_not_taken_for_stores(folder: Path) -> None:
    store = open_store(folder / "mfcc.h5")
    assert as_store(store) is store
    assert as_store(folder / "mfcc.h5").digest == store.digest
    given: Iterable[Any] = (folder / "tones", folder / "tones" / "corpus.csv", open_corpus(folder / "tones"))
    for corpus in given:
        with pytest.raises(FitError, match="is no store but a corpus, it seems; run embedkit extract"):
            as_store(corpus)


def test_a_corpus_that_is_named_twice_is_one(folder: Path) -> None:
    options = FitOptions(mode="frozen", encoder=("mfcc", "logmel", "mfcc"), device="cpu", threads=1).resolve()
    corpus = open_corpus(folder / "tones")
    given = [corpus, folder / "tones", folder / "tones" / "corpus.csv"]
    found = open_live_sources(given, options, {})
    assert [source.default_head for source in found] == ["lstm", "cnn"]
    with pytest.raises(FitError, match="cannot be read alone"):
        found[0].for_folds(plan_of(found[0]))[0].features(np.arange(2), "utterance", layer=0)
