"""Recordings are known by their audio: under whatever name, speaker or corpus, nothing tested was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import embedkit
from embedkit.errors import ConfigError, ExtractionError, FitError
from embedkit.extraction.columns import measured_columns
from embedkit.training.data.folds import Fold
from embedkit.training.data.recordings import find_trained, number_recordings
from embedkit.training.runs import RunRecord

RATE = 16_000
QUICK: dict[str, Any] = {"head": "linear", "seeds": 1, "epochs": 1, "lr": 1e-2}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_clip(path: str, seed: int, **options: Any) -> None:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    samples = np.random.default_rng(seed).integers(-9000, 9000, 4000 + 160 * (seed % 5)).astype(np.int16)
    soundfile.write(path, samples, RATE, **options)


def write_corpus(file: str, clips: dict[str, int], *, speakers: int = 4, columns: str = "") -> str:
    """Write a manifest of clips `name -> seed`, two labels, speakers in blocks, and the audio beside it."""
    lines = [f"path,label,speaker{columns and ',' + columns.split('=')[0]}"]
    size = -(-len(clips) // speakers)
    for place, (name, seed) in enumerate(clips.items()):
        write_clip(str(Path(file).parent / name), seed)
        extra = columns and "," + columns.split("=")[1]
        lines.append(f"{name},{('low', 'high')[place % 2]},s{place // size}{extra}")
    Path(file).write_text("\n".join(lines) + "\n")
    return file


def extract(corpus: str, **options: Any) -> embedkit.Store:
    return embedkit.extract(corpus, encoder="mfcc", **options)


def fit(store: Any, **options: Any) -> RunRecord:
    (record,) = embedkit.fit(store, **QUICK, **options)
    return record


CLIPS = {f"u{seed:02d}.wav": seed for seed in range(16)}


def test_generic_files_are_called_like_their_folders() -> None:
    for folder, first in (("raw", 0), ("noisy", 100)):
        write_corpus(f"{folder}/metadata.csv", {name: seed + first for name, seed in CLIPS.items()})
    stores = [extract(f"{folder}/metadata.csv") for folder in ("raw", "noisy")]
    assert [store.path.as_posix() for store in stores] == ["embeddings/raw/mfcc.h5", "embeddings/noisy/mfcc.h5"]
    one, other = (fit(store) for store in stores)
    assert one.folder != other.folder
    assert fit(stores[0], test_on=stores[1]).metrics["test_corpus"] == "noisy"


def test_another_corpus_never_replaces_a_store() -> None:
    write_corpus("raw/mine.csv", CLIPS)
    write_corpus("noisy/mine.csv", {name: seed + 100 for name, seed in CLIPS.items()})
    before = extract("raw/mine.csv").ids.tolist(), Path("embeddings/mine/mfcc.h5").read_bytes()
    with pytest.raises(ExtractionError, match=r"another corpus that is called 'mine'.*--corpus-name"):
        extract("noisy/mine.csv")
    assert Path("embeddings/mine/mfcc.h5").read_bytes() == before[1]
    assert extract("noisy/mine.csv", corpus_name="noisy").path == Path("embeddings/noisy/mfcc.h5")
    assert extract("noisy/mine.csv", overwrite=True).ids.tolist() == before[0]


def test_a_corpus_some_of_which_is_left_is_updated() -> None:
    write_corpus("mine.csv", CLIPS)
    extract("mine.csv")
    write_corpus("mine.csv", {"u00.wav": 0} | {name: seed + 50 for name, seed in CLIPS.items() if seed})
    told: list[str] = []
    extract("mine.csv", tell=told.append)
    assert any("1 utterance" in line and "15 new" in line for line in told), told
    write_corpus("mine.csv", {f"renamed-{name}": seed + 50 for name, seed in CLIPS.items() if seed})
    with pytest.raises(ExtractionError, match="this selection would leave 0"):
        extract("mine.csv")


@pytest.mark.parametrize("how", ["flac", "start", "stereo"])
def test_the_same_audio_in_other_clothes_is_the_same_recording(how: str) -> None:
    write_corpus("mine.csv", CLIPS)
    digests = extract("mine.csv").column("audio_digest").tolist()
    if how == "flac":
        write_corpus("other.csv", {name.replace("wav", "flac"): seed for name, seed in CLIPS.items()})
    elif how == "start":
        write_corpus("other.csv", CLIPS, columns="start=0")
    else:
        write_corpus("other.csv", CLIPS)
        for name in CLIPS:
            samples, _ = soundfile.read(name, dtype="int16")
            soundfile.write(name, np.stack([samples, samples], axis=1), RATE)
    other = extract("other.csv")
    assert other.column("audio_digest").tolist() == digests
    assert other.column("digest").tolist() != extract("mine.csv").column("digest").tolist() or how == "stereo"
    with pytest.raises(FitError, match=r"16 of 16 test utterances.*--duplicates drop.*--allow-leak"):
        fit(Path("embeddings/mine/mfcc.h5"), test_on=other.path)


def test_a_copy_in_another_format_is_not_encoded_again() -> None:
    write_corpus("mine.csv", CLIPS)
    store = extract("mine.csv")
    before, digests = store.mean(), store.column("digest").tolist()
    write_corpus("mine.csv", {name.replace("wav", "flac"): seed for name, seed in CLIPS.items()})
    told: list[str] = []
    again = extract("mine.csv", tell=told.append)
    assert any("16 utterances reused, 0 new" in line for line in told), told
    np.testing.assert_array_equal(before, again.mean())
    assert again.column("digest").tolist() != digests


def test_copies_under_another_speaker_are_refused_marked_or_dropped() -> None:
    write_corpus("mine.csv", CLIPS | {"copy.wav": 3})
    store = extract("mine.csv")
    with pytest.raises(FitError, match=r"1 of [45] test utterances.*copy = u03|u03 = copy"):
        fit(store)
    marked = fit(store, allow_leak=True)
    assert marked.metrics["leak"] is True
    assert "LEAK" in str(embedkit.table([marked]))
    told: list[str] = []
    clean = fit(store, duplicates="drop", tell=told.append)
    assert (clean.metrics["utterances"], clean.metrics.get("leak")) == (16, None)
    assert "Left out 1 utterance of mine that repeat a recording." in told
    assert "repeat a recording" in clean.metrics["task"]


def test_recordings_that_were_trained_on_are_not_tested_in_another_corpus() -> None:
    names = list(CLIPS.items())
    write_corpus("train.csv", dict(names[:12]))
    write_corpus("test.csv", dict(names[6:]))
    train, test = extract("train.csv"), extract("test.csv")
    with pytest.raises(FitError, match=r"6 of 10 test utterances"):
        fit(train, test_on=test.path)
    assert fit(train, test_on=test.path, allow_leak=True).metrics["leak"] is True
    assert fit(train, test_on=test.path, duplicates="drop").metrics["utterances"] == 4


def test_copies_are_found_where_the_encoder_runs() -> None:
    write_corpus("mine.csv", CLIPS | {"copy.wav": 3})
    with pytest.raises(FitError, match="1 of 5 test utterances"):
        fit("mine.csv", encoder="mfcc", mode="frozen")


def test_stores_of_before_fall_back_to_files_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    write_corpus("mine.csv", CLIPS | {"copy.wav": 3})
    with monkeypatch.context() as patch:

        def measure(*given: Any) -> dict[str, Any]:
            return {name: values for name, values in measured_columns(*given).items() if name != "audio_digest"}

        patch.setattr("embedkit.extraction.assembly.measured_columns", measure)
        store = extract("mine.csv")
    assert "audio_digest" not in store.columns
    told: list[str] = []
    with pytest.raises(FitError, match="1 of 5 test utterances"):
        fit(store)
    fit(store, duplicates="drop", tell=told.append)
    assert any("keeps no digests of decoded audio" in line for line in told)
    extract("mine.csv", tell=told.append)
    assert any("up to date" in line for line in told)


def test_runs_on_another_corpus_of_the_name_are_kept_apart() -> None:
    write_corpus("raw/mine.csv", CLIPS)
    write_corpus("noisy/mine.csv", {name: seed + 100 for name, seed in CLIPS.items()})
    raw, noisy = extract("raw/mine.csv", out="a/mfcc.h5"), extract("noisy/mine.csv", out="b/mfcc.h5")
    one = fit(raw)
    with pytest.raises(FitError, match="another corpus that is called mine"):
        fit(noisy)
    other = fit(noisy, runs="others")
    drawn = str(embedkit.table([one, other]))
    assert drawn.count("mine: UAR") == 2
    assert "recordings" in drawn
    assert fit(raw, test_on=noisy.path).metrics["test_corpus"].startswith("mine (")


def test_older_runs_stand_beside_new_ones() -> None:
    write_corpus("mine.csv", CLIPS)
    record = fit(extract("mine.csv"))
    older = {name: value for name, value in record.metrics.items() if name != "recordings"} | {"loss": "focal"}
    assert str(embedkit.table([record.metrics, older])).count("mine: UAR") == 1


@pytest.mark.parametrize("name", ["demo", " "])
def test_names_that_cannot_be_given(name: str) -> None:
    write_corpus("mine.csv", CLIPS)
    with pytest.raises(ConfigError, match="--corpus-name"):
        extract("mine.csv", corpus_name=name)


def test_a_store_has_its_corpuss_name() -> None:
    write_corpus("mine.csv", CLIPS)
    with pytest.raises(FitError, match="--corpus-name 'x'"):
        fit(extract("mine.csv"), corpus_name="x")


@given(
    keys=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=2, max_size=12),
    tested=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_what_is_trained_is_found_whatever_is_unknown(keys: list[str], tested: list[bool]) -> None:
    places = np.arange(len(keys))
    test = places[tested[: len(keys)]]
    train = places[~np.array(tested[: len(keys)])]
    fold = Fold(name="x", train=train, test=test, validations=(), refit=True)
    known = {keys[place] for place in train} - {""}
    found = find_trained(number_recordings(np.array(keys)), fold)
    assert found.tolist() == [place for place in test if keys[place] in known]
