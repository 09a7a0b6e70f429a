"""Arrays and open files in the place of paths, in predict and extract."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import embedkit
from embedkit.errors import AudioError, ConfigError, CorpusError
from embedkit.training.runs import RunRecord
from embedkit.workflows.given_audio import Sound
from tests.workflows.tones import RATE, fit_tones, write_tones


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("given")
        patch.chdir(folder)
        corpus = write_tones(folder / "corpus")
        return corpus, fit_tones(corpus, "mfcc", head=["linear:pool=mean"], epochs=1)


def test_arrays_and_files_are_predicted_as_their_files_are(world: tuple[Path, RunRecord]) -> None:
    corpus, run = world
    paths = [corpus / "00.wav", corpus / "01.wav"]
    samples, rate = soundfile.read(paths[0], dtype="int16")
    flac = io.BytesIO()
    soundfile.write(flac, soundfile.read(paths[1], dtype="int16")[0], rate, format="FLAC")
    flac.seek(0)
    expected = embedkit.predict(run, [*paths, paths[0]])
    with paths[0].open("rb") as file:
        found = embedkit.predict(run, [samples, flac, file], rate=rate)
    assert [one.path for one in found] == ["array 1", "file 2", str(paths[0])]
    for one, other in zip(found, expected, strict=True):
        assert dict(one.probabilities) == pytest.approx(dict(other.probabilities), abs=1e-6)
    (alone,) = embedkit.predict(run, (samples / 32768).astype("float32"), rate=rate)
    assert dict(alone.probabilities) == pytest.approx(dict(expected[0].probabilities), abs=1e-5)


def closed() -> io.BytesIO:
    file = io.BytesIO(b"RIFF")
    file.close()
    return file


@pytest.mark.parametrize(
    ("given", "rate", "error", "sentence"),
    [
        (np.zeros(9), None, ConfigError, "array 3 has no rate of its own; give it, as in rate=16000"),
        (np.zeros(9), 0, ConfigError, "rate is 0"),
        (np.zeros((2, 9)), RATE, AudioError, r"array 3 is \[2, 9\] of float64, expected the samples of one channel"),
        (np.zeros(9, np.uint8), RATE, AudioError, "of uint8, expected"),
        (np.zeros(0), RATE, AudioError, "array 3 holds no samples"),
        (np.array([0.0, np.nan]), RATE, AudioError, "array 3 holds values that are no numbers"),
        (io.BytesIO(), None, AudioError, r"'file 3' gives no bytes; it is empty, or was read before"),
        (closed(), None, AudioError, "'file 3' gives no bytes; open it"),
        (io.StringIO("text"), None, AudioError, "'file 3' gives no bytes; open it for reading in binary mode"),
    ],
)
def test_what_is_no_audio(given: Any, rate: int | None, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        Sound.take(given, rate, 3)


def test_text_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"\xff\xfe")
    with (tmp_path / "a.wav").open() as file, pytest.raises(AudioError, match="open it for reading in binary mode"):
        Sound.take(file, None, 1)


def test_audio_in_memory_is_named_as_it_was_given(world: tuple[Path, RunRecord]) -> None:
    corpus, run = world
    loud, rubbish, path = np.full(RATE, 20000.0), io.BytesIO(b"no audio"), corpus / "00.wav"
    with pytest.raises(AudioError, match=r"^The audio file 'array 1' holds floats up to 20000"):
        embedkit.predict(run, [loud], rate=RATE)
    with pytest.raises(AudioError, match=r"^Cannot decode 'file 2' as audio"):
        embedkit.predict(run, [path, rubbish])
    rubbish.seek(0)
    told: list[str] = []
    found = embedkit.predict(run, [loud, rubbish, np.zeros(0), path], rate=RATE, on_error="skip", tell=told.append)
    assert [one.path for one in found] == [str(path)]
    assert [text.partition(":")[0] for text in told] == ["Left out"] * 3
    assert all(name in "".join(told) for name in ("'array 1'", "'file 2'", "array 3 holds no samples"))
    with pytest.raises(AudioError, match="Not one of the 1 clips could be used"):
        embedkit.predict(run, [np.zeros(0)], rate=RATE, on_error="skip")


def test_a_rate_without_arrays(world: tuple[Path, RunRecord]) -> None:
    corpus, run = world
    for call in (embedkit.predict, embedkit.stream_predictions):
        with pytest.raises(ConfigError, match="rate is 8000, but no array is given"):
            list(call(run, [corpus / "00.wav"], rate=8000))


def test_lists_are_extracted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDKIT_CACHE", str(tmp_path / "cache"))
    tone = np.sin(np.arange(RATE) / 20).astype("float32") / 2
    soundfile.write("own.wav", tone, RATE, subtype="FLOAT")
    store = embedkit.extract(
        [tone, Path("own.wav"), tone[: RATE // 2]],
        encoder="mfcc",
        rate=RATE,
        labels=["joy", "joy", "fear"],
        speakers=["03", "03", "04"],
    )
    assert (store.labels.tolist(), store.speakers.tolist()) == (["joy", "joy", "fear"], ["03", "03", "04"])
    np.testing.assert_array_equal(store.mean()[0], store.mean()[1])
    again = embedkit.extract(tone, encoder="mfcc", rate=RATE, labels=np.array(["unknown"]))
    assert again.labels.tolist() == ["unknown"]
    assert again.path != store.path
    with pytest.raises(CorpusError, match="3 clips are given, but 1 labels"):
        embedkit.extract([tone] * 3, encoder="mfcc", rate=RATE, labels=["joy"])
    with pytest.raises(CorpusError, match="Clip 2 has an empty label"):
        embedkit.extract([tone] * 2, encoder="mfcc", rate=RATE, labels=["joy", " "])
    with pytest.raises(ConfigError, match="rate is 16000, but no array is given"):
        embedkit.extract(["own.wav"], encoder="mfcc", rate=16000)
    with pytest.raises(CorpusError, match="list of audio is empty"):
        embedkit.extract([], encoder="mfcc")
    with pytest.raises(ConfigError, match="rate is given beside a corpus"):
        embedkit.extract("demo", encoder="mfcc", rate=RATE)
