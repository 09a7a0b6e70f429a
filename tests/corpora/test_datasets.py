"""Datasets that the library itself saves: audio is written to the cache once, and nowhere else."""

import io
import json
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.corpora import open_corpus
from embedkit.errors import CorpusError
from embedkit.installation import install_command

datasets = pytest.importorskip("datasets", reason="datasets is not installed (pip install '.[datasets]')")


@pytest.fixture(autouse=True)
def _quiet_and_with_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets.disable_progress_bars()
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))


def wave(seed: int, name: str = "FLAC") -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, 0.1 * np.random.default_rng(seed).uniform(-1, 1, 8000), 16_000, format=name)
    return stream.getvalue()


def make(rows: int = 3, **columns: list[Any]) -> Any:
    audio = [{"bytes": wave(seed), "path": f"../{seed}.flac"} for seed in range(rows)]
    made = datasets.Dataset.from_dict({"audio": audio, "emotion": [0, 1, 0][:rows], **columns})
    made = made.cast_column("audio", datasets.Audio(sampling_rate=16_000))
    return made.cast_column("emotion", datasets.ClassLabel(names=["anger", "joy"]))


FURTHER = {
    "speaker_id": [7, 8, 7],
    "text": ["one", None, "three"],
    "valence": [0.5, None, 1.5],
    "native": [True, False, None],
    "frames": [[1, 2], [3], []],
}


def test_one_dataset(tmp_path: Path) -> None:
    make(**FURTHER).save_to_disk(tmp_path / "speech")
    corpus = open_corpus(tmp_path / "speech")
    assert (corpus.name, corpus.kind) == ("speech", "datasets")
    assert corpus.root.parent == tmp_path / "cache" / "datasets"
    assert str(corpus.root) in corpus.notes[0]
    first, second, third = corpus.utterances
    assert [item.id for item in corpus.utterances] == ["rows-000000", "rows-000001", "rows-000002"]
    assert [item.label for item in corpus.utterances] == ["anger", "joy", "anger"]
    assert [item.speaker for item in corpus.utterances] == ["7", "8", "7"]
    assert {item.split for item in corpus.utterances} == {""}
    assert dict(first.columns) == {"text": "one", "valence": "0.5", "native": "True"}
    assert (second.columns["text"], second.columns["valence"]) == ("", "")
    assert corpus.uses == {
        "emotion": "label", "speaker_id": "speaker", "frames": "not used", "audio": "audio"
    }  # fmt: skip
    assert third.columns["native"] == ""
    for seed, utterance in enumerate(corpus.utterances):
        assert utterance.path == f"rows/{seed:06d}.flac"
        assert corpus.audio_path(utterance).read_bytes() == wave(seed)
    assert [item.seconds for item in embedkit.check_corpus(corpus).measures] == [0.5] * 3
    outside = set(tmp_path.rglob("*.flac")) - {corpus.audio_path(item) for item in corpus.utterances}
    assert outside == set()


def test_splits_shuffled_rows_and_columns_that_only_some_splits_have(tmp_path: Path) -> None:
    whole = make(**FURTHER)
    parts = {"train": whole.select([2, 0]), "validation": whole.select([1]), "extra": whole.remove_columns("text")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "speech")
    corpus = open_corpus(tmp_path / "speech")
    found = {item.id: item for item in corpus.utterances}
    assert {key: item.split for key, item in found.items()} == {
        "extra-000000": "", "extra-000001": "", "extra-000002": "",
        "train-000000": "train", "train-000001": "train", "validation-000000": "dev",
    }  # fmt: skip
    assert corpus.audio_path(found["train-000000"]).read_bytes() == wave(2)
    assert found["train-000000"].columns["valence"] == "1.5"
    assert {tuple(item.columns) for item in corpus.utterances} == {("valence", "native")}


def test_audio_is_written_once_and_again_for_another_version(tmp_path: Path) -> None:
    make().save_to_disk(tmp_path / "speech")
    first = open_corpus(tmp_path / "speech")
    marker = first.root / "rows" / "000000.flac"
    marker.write_bytes(b"as it was left")
    assert open_corpus(tmp_path / "speech").root == first.root
    assert marker.read_bytes() == b"as it was left"
    make(rows=2).save_to_disk(tmp_path / "speech")
    second = open_corpus(tmp_path / "speech")
    assert second.root != first.root
    assert len(second.utterances) == 2
    assert not list(second.root.parent.glob(".unfinished-*"))


def test_labels_of_other_names_and_rows_without(tmp_path: Path) -> None:
    made = make().rename_column("emotion", "feeling")
    made.save_to_disk(tmp_path / "a")
    assert open_corpus(tmp_path / "a").utterances[1].label == "joy"
    made.remove_columns("feeling").add_column("label", ["x", None, "y"]).save_to_disk(tmp_path / "b")
    corpus = open_corpus(tmp_path / "b")
    assert [item.label for item in corpus.utterances] == ["x", "y"]
    assert corpus.notes[1] == "Left out 1 row without a label, such as 'rows-000001'."
    made.remove_columns("feeling").add_column("label", [0, 1, 2]).save_to_disk(tmp_path / "c")
    assert [item.label for item in open_corpus(tmp_path / "c").utterances] == ["0", "1", "2"]
    made.remove_columns("feeling").add_column("mood", ["x", "y", "z"]).save_to_disk(tmp_path / "d")
    with pytest.raises(CorpusError, match=r"no column 'emotion' or 'label', nor a single one .* found: audio, mood"):
        open_corpus(tmp_path / "d")


BIG = 20231015123456780


@pytest.mark.parametrize(
    ("values", "kind", "speakers"),
    [
        ([1234561, 1234562, 1234563], "int64", ["1234561", "1234562", "1234563"]),
        ([BIG + 1, BIG + 2, BIG + 3], "int64", [str(BIG + 1), str(BIG + 2), str(BIG + 3)]),
        ([2**62 + 1, 7, 2**62], "uint64", [str(2**62 + 1), "7", str(2**62)]),
        ([1.0, None, 3.0], "float64", ["1", "", "3"]),
        ([1.0, float("nan"), 1234567.0], "float32", ["1", "", "1234567"]),
        ([Decimal(BIG + 1), Decimal(BIG + 2), None], "decimal128(20, 0)", [str(BIG + 1), str(BIG + 2), ""]),
        (["007", "7", "1e5"], "string", ["007", "7", "1e5"]),
        (["NA", "None", None], "large_string", ["NA", "None", ""]),
        ([1, 2, 3], "int8", ["1", "2", "3"]),
    ],
)
@pytest.mark.parametrize("name", ["speaker", "speaker_id", "session", "participant"])
def test_identifiers_of_any_type_stay_what_they_are(
    tmp_path: Path, name: str, values: list[Any], kind: str, speakers: list[str]
) -> None:
    make(**{name: values}).cast_column(name, datasets.Value(kind)).save_to_disk(tmp_path / "speech")
    found = [item.value(name.removesuffix("_id")) for item in open_corpus(tmp_path / "speech").utterances]
    assert found == speakers


def test_times_splits_and_ids_are_used(tmp_path: Path) -> None:
    made = make(id=["c", "a", "b"], offset=[0.0, 0.1, 0.25], duration=[0.1, 0.2, 0.25], path=["x", "y", "z"],
                split=["train", "validation", "held"])  # fmt: skip
    made.save_to_disk(tmp_path / "speech")
    corpus = open_corpus(tmp_path / "speech")
    assert [(item.id, item.start, item.end, item.split) for item in corpus.utterances] == [
        ("a", 0.1, 0.3, "dev"), ("b", 0.25, 0.5, ""), ("c", 0.0, 0.1, "train")
    ]  # fmt: skip
    assert [item.path for item in corpus.utterances] == ["rows/000001.flac", "rows/000002.flac", "rows/000000.flac"]
    assert any("1 value of the column split" in note and "'held'" in note for note in corpus.notes)
    assert (corpus.uses["offset"], corpus.uses["path"]) == ("start", "not used")
    assert [item.seconds for item in embedkit.check_corpus(corpus).measures] == pytest.approx([0.2, 0.25, 0.1])
    made.rename_column("offset", "start_sample").save_to_disk(tmp_path / "samples")
    with pytest.raises(CorpusError, match=r"in samples or frames \(start_sample\)"):
        open_corpus(tmp_path / "samples")


def test_ids_and_splits_across_parts(tmp_path: Path) -> None:
    made = make(id=[0, 1, 2])
    datasets.DatasetDict(train=made, test=made).save_to_disk(tmp_path / "counted")
    ids = [item.id for item in open_corpus(tmp_path / "counted").utterances]
    assert ids == ["test-0", "test-1", "test-2", "train-0", "train-1", "train-2"]
    make(id=["x", "x", "y"]).save_to_disk(tmp_path / "twice")
    corpus = open_corpus(tmp_path / "twice")
    assert [item.id for item in corpus.utterances] == ["rows-000000", "rows-000001", "rows-000002"]
    assert any("column id is empty or the same in several rows" in note for note in corpus.notes)
    split = make(split=["train", "test", "test"])
    datasets.DatasetDict(train=split).save_to_disk(tmp_path / "one")
    assert [item.split for item in open_corpus(tmp_path / "one").utterances] == ["train", "test", "test"]
    datasets.DatasetDict(train=split, test=split).save_to_disk(tmp_path / "two")
    with pytest.raises(CorpusError, match="lies in 'train', but its column split says 'test'"):
        open_corpus(tmp_path / "two")


def test_datasets_that_cannot_be_used(tmp_path: Path) -> None:
    make().remove_columns("audio").save_to_disk(tmp_path / "texts")
    with pytest.raises(CorpusError, match="has 0 columns of type Audio, expected one; columns found: emotion"):
        open_corpus(tmp_path / "texts")
    audio = [{"bytes": wave(0), "path": "0.flac"}, None]
    made = datasets.Dataset.from_dict({"audio": audio, "label": ["x", "y"]})
    made.cast_column("audio", datasets.Audio()).save_to_disk(tmp_path / "holes")
    with pytest.raises(CorpusError, match=r"Row 1 of the dataset .* holds no audio"):
        open_corpus(tmp_path / "holes")
    assert not list((tmp_path / "cache").glob("datasets/*"))
    make().save_to_disk(tmp_path / "cut")
    (arrow,) = (tmp_path / "cut").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:100])
    with pytest.raises(CorpusError, match="cannot be read"):
        open_corpus(tmp_path / "cut")


@pytest.mark.parametrize("name", ["../other.arrow", "/etc/passwd", "a/b.arrow", 3])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: object) -> None:
    datasets.DatasetDict(train=make()).save_to_disk(tmp_path / "speech")
    state = tmp_path / "speech" / "train" / "state.json"
    good = state.read_text()
    state.write_text(json.dumps(json.loads(good) | {"_data_files": [{"filename": name}]}))
    with pytest.raises(CorpusError, match="expected the plain name of a file beside it"):
        open_corpus(tmp_path / "speech")
    state.write_text(good)
    (tmp_path / "speech" / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(CorpusError, match="expected the plain name of a file beside it"):
        open_corpus(tmp_path / "speech")


def test_without_the_library_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make().save_to_disk(tmp_path / "speech")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(CorpusError, match=re.escape(f"run {install_command('datasets')}.")):
        open_corpus(tmp_path / "speech")


def test_names_of_columns_in_capitals_and_other_names_of_speakers(tmp_path: Path) -> None:
    stored = {"bytes": b"x", "path": "a.wav"}
    row = {"Audio": [stored], "Emotion": ["joy"], "ID": ["007"], "Split": ["test"], "Speaker": ["p1"]}
    made = datasets.Dataset.from_dict(row).cast_column("Audio", datasets.Audio())
    made.save_to_disk(tmp_path / "capitals")
    made.rename_column("Speaker", "Actor_ID").save_to_disk(tmp_path / "actors")
    (found,) = open_corpus(tmp_path / "capitals").utterances
    assert (found.id, found.label, found.speaker, found.split) == ("007", "joy", "p1", "test")
    actors = open_corpus(tmp_path / "actors")
    assert actors.utterances[0].columns == {"Actor_ID": "p1"}
    assert any("if 'Actor_ID' says who is speaking" in note for note in actors.notes)
