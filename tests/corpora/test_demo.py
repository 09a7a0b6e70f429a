"""The demo corpus: written once, read by the IEMOCAP reader, learnable but not trivial."""

import json
import shutil
import wave
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import librosa
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import recall_score
from sklearn.model_selection import LeaveOneGroupOut, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from embedkit.corpora import Corpus, demo, open_corpus
from embedkit.corpora.demo import cache_folder, write_demo_corpus
from embedkit.corpora.iemocap import DEMO_MARKER
from embedkit.errors import ConfigError, CorpusError

write_small = partial(write_demo_corpus, turns=5)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield open_corpus("demo")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    assert write_small(folder) == 50
    return folder


@pytest.fixture
def cache(tmp_path: Path, small: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder into which the small corpus is copied rather than synthesised each time."""
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(demo, "_fill", partial(shutil.copytree, small, dirs_exist_ok=True))
    return tmp_path / "cache"


def read_samples(corpus: Corpus) -> list[np.ndarray]:
    found = []
    for utterance in corpus.utterances:
        with wave.open(str(corpus.audio_path(utterance)), "rb") as stream:
            assert (stream.getnchannels(), stream.getsampwidth(), stream.getframerate()) == (1, 2, 16000)
            found.append(np.frombuffer(stream.readframes(stream.getnframes()), "<i2").astype(np.float32) / 32768)
    return found


def test_it_is_read_as_iemocap_and_called_demo(corpus: Corpus) -> None:
    assert (corpus.name, corpus.kind) == ("demo", "iemocap")
    assert corpus.root.parent == cache_folder()
    assert corpus.notes == (
        "The demo corpus is synthetic and for trying out only: its numbers say nothing about real speech.",
    )
    assert corpus.task.classes == ("anger", "happiness", "neutral", "sadness")
    speakers = Counter((utterance.session, utterance.speaker) for utterance in corpus.utterances)
    assert speakers == {(f"Ses0{session}", f"Ses0{session}{letter}"): 52 for session in range(1, 6) for letter in "FM"}
    labels = Counter(utterance.label for utterance in corpus.utterances)
    assert set(labels) == {"anger", "happiness", "excitement", "neutral", "sadness"}
    assert labels["neutral"] > labels["anger"] > labels["happiness"] > 20
    assert {utterance.columns["style"] for utterance in corpus.utterances} == {"improvised", "scripted"}
    assert any(utterance.speaker[-1] != utterance.id[5] for utterance in corpus.utterances)


def test_ratings_follow_the_emotions(corpus: Corpus) -> None:
    def mean(column: str, label: str) -> float:
        return float(np.nanmean([float(item.columns[column]) for item in corpus.utterances if item.label == label]))

    assert mean("valence", "happiness") > mean("valence", "neutral") + 0.5 > mean("valence", "sadness") + 0.5
    assert mean("arousal", "anger") > mean("arousal", "neutral") + 0.5
    dominance = [float(item.columns["dominance"]) for item in corpus.utterances]
    assert 0 < np.isnan(dominance).sum() < 20


def test_utterances_last_one_to_three_seconds(corpus: Corpus) -> None:
    seconds = np.array([len(samples) / 16000 for samples in read_samples(corpus)])
    assert seconds.min() >= 1.0
    assert seconds.max() <= 3.0
    assert 12 <= seconds.sum() / 60 <= 18


def test_nothing_is_clipped_or_silent(corpus: Corpus) -> None:
    for samples in read_samples(corpus):
        assert np.abs(samples).max() < 0.95
        assert np.sqrt(np.mean(samples**2)) > 0.005


@pytest.fixture(scope="module")
def features(corpus: Corpus) -> dict[str, np.ndarray]:
    rows: dict[str, list[np.ndarray]] = {"mfcc": [], "duration": [], "pitch": [], "energy": []}
    for samples in read_samples(corpus):
        mfcc = librosa.feature.mfcc(y=samples, sr=16000, n_mfcc=13)
        rows["mfcc"].append(np.concatenate([mfcc.mean(axis=1), librosa.feature.delta(mfcc).mean(axis=1)]))
        pitch = librosa.yin(samples, fmin=60, fmax=450, sr=16000, frame_length=1024, hop_length=320)
        level = librosa.feature.rms(y=samples, frame_length=1024, hop_length=320)[0][: len(pitch)]
        rows["pitch"].append(np.log(pitch[level > 0.3 * level.max()].mean(keepdims=True)))
        rows["energy"].append(np.log(np.mean(samples**2, keepdims=True)))
        rows["duration"].append(np.array([float(len(samples))]))
    return {name: np.array(values) for name, values in rows.items()}


def unweighted_accuracy(corpus: Corpus, features: np.ndarray, *, random: bool = False) -> float:
    labels = [corpus.task.merge.get(item.label, item.label) for item in corpus.utterances]
    weight = "balanced" if features.shape[1] == 1 else None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight=weight))
    folds = StratifiedKFold(5, shuffle=True, random_state=0) if random else LeaveOneGroupOut()
    sessions = None if random else [item.session for item in corpus.utterances]
    return float(
        recall_score(labels, cross_val_predict(model, features, labels, groups=sessions, cv=folds), average="macro")
    )


def test_mfcc_means_are_learnable_and_a_random_split_flatters(corpus: Corpus, features: dict[str, np.ndarray]) -> None:
    by_session = unweighted_accuracy(corpus, features["mfcc"])
    assert 0.50 <= by_session <= 0.80
    assert unweighted_accuracy(corpus, features["mfcc"], random=True) >= by_session + 0.05


@pytest.mark.parametrize("name", ["duration", "pitch", "energy"])
def test_no_single_number_gives_the_emotion_away(corpus: Corpus, features: dict[str, np.ndarray], name: str) -> None:
    assert unweighted_accuracy(corpus, features[name]) < 0.45


def content(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, small: Path) -> None:
    write_small(tmp_path / "b")
    write_small(tmp_path / "c", seed=1)
    first, second, third = (content(folder) for folder in (small, tmp_path / "b", tmp_path / "c"))
    assert first == second
    assert all(first[name] != third[name] for name in first if name.endswith(".wav"))
    assert open_corpus(small).name == "demo"


def test_scripted_dialogues_have_the_same_text_in_every_session() -> None:
    from embedkit.corpora.demo.writing import plan_demo

    texts: dict[str, set[object]] = {}
    for turn in plan_demo(seed=3, turns=8):
        texts.setdefault(turn.id.split("_", 1)[1] + turn.dialogue[5], set()).add(turn.text)
    assert all(len(texts[name]) == (1 if name.startswith("script") else 5) for name in texts)


def test_it_is_written_once(cache: Path) -> None:
    first = open_corpus("demo")
    times = {file: file.stat().st_mtime_ns for file in first.root.rglob("*")}
    assert open_corpus("demo") == first
    assert {file: file.stat().st_mtime_ns for file in first.root.rglob("*")} == times
    assert [path.name for path in cache.iterdir()] == [first.root.name]


def test_a_copy_that_is_not_whole_is_written_again(cache: Path) -> None:
    root = open_corpus("demo").root
    whole = content(root)
    for damage in (
        lambda: (root / DEMO_MARKER).unlink(),
        lambda: next(root.rglob("*.wav")).unlink(),
        lambda: (root / DEMO_MARKER).write_text("{"),
        lambda: (root / DEMO_MARKER).write_text(json.dumps([])),
        lambda: shutil.rmtree(root),
    ):
        damage()
        open_corpus("demo")
        assert content(root) == whole
    assert [path.name for path in cache.iterdir()] == [root.name]


def test_a_write_that_fails_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(folder: Path) -> int:
        (folder / "Session1").mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "_fill", stop)
    with pytest.raises(KeyboardInterrupt):
        open_corpus("demo")
    assert list(cache.iterdir()) == []


def test_two_writers_at_once(cache: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(open_corpus, ["demo", "demo"])
    assert first == second
    assert len(first.utterances) == 50
    assert [path.name for path in cache.iterdir()] == [first.root.name]


def test_where_the_cache_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("EMBEDKIT_CACHE", raising=False)
    assert cache_folder() == tmp_path / "home/.cache/embedkit"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/embedkit"
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(CorpusError, match="EMBEDKIT_CACHE"):
        open_corpus("demo")
    with pytest.raises(CorpusError, match="cannot be written"):
        write_demo_corpus(tmp_path / "file")
    with pytest.raises(ConfigError, match="at least 5"):
        write_demo_corpus(tmp_path / "few", turns=4)
