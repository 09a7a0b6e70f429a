"""The library call behind `embedkit extract`: defaults, options, what it says, and hostile corpora."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedkit.errors import ConfigError, CorpusError, EmbedkitError, ExtractionError
from embedkit.extraction.request import default_path
from embedkit.workflows import extract
from embedkit.workflows.extract import extract_embeddings
from embedkit.workflows.inspect import describe_store
from tests.extraction.fakes import FakeEncoder, write_clip


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """What every name loads."""
    fake = FakeEncoder()
    monkeypatch.setattr(extract, "load_encoder", lambda name, **options: fake)
    return fake


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ten clips of two speakers, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rows = []
    for index in range(10):
        write_clip(tmp_path / "wav" / f"{index}.wav", 0.2 + 0.1 * index, index)
        rows.append([f"wav/{index}.wav", "joy" if index % 3 else "fear", f"s{index % 2}"])
    return write_manifest(tmp_path / "speech.csv", [["path", "label", "speaker"], *rows])


def write_manifest(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)
    return path


def test_defaults_lead_to_embeddings_corpus_encoder(manifest: Path, encoder: FakeEncoder) -> None:
    told: list[str] = []
    store = extract_embeddings(manifest, encoder="fake", tell=told.append)
    assert store.path == Path("embeddings/speech/fake.h5")
    assert store.levels == ("utterance",)
    assert len(store) == 10
    assert store.mean().shape == (10, 4)
    assert "10 utterances, 0.00 hours" in told[0]
    assert "will take" in told[0]
    assert "free" in told[0]
    assert told[-2].startswith("Wrote 'embeddings/speech/fake.h5': 10 utterances")
    assert told[-1] == "read          10 utterances of speech\ncolumns used  path, label, speaker"


@pytest.mark.parametrize(
    ("level", "levels"),
    [("utterance", ("utterance",)), ("frame", ("utterance", "frame")), ("both", ("utterance", "frame"))],
)
def test_utterance_statistics_are_always_kept(
    manifest: Path, encoder: FakeEncoder, level: Any, levels: tuple[str, ...]
) -> None:
    store = extract_embeddings(manifest, encoder="fake", level=level, out="x.h5")
    assert store.levels == levels
    assert store.frame_dtype == ("float16" if "frame" in levels else None)


def test_options_reach_the_encoder(manifest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    def load(name: str, **options: Any) -> FakeEncoder:
        given.update(options, name=name)
        return FakeEncoder()

    monkeypatch.setattr(extract, "load_encoder", load)
    options = {"layers": "4-9", "device": "cpu", "precision": "bf16", "window": "30", "sources": {"hubert": "x"}}
    extract_embeddings(manifest, encoder="hubert", **options)  # type: ignore[arg-type]
    assert given == {"name": "hubert", **options}


def test_where_and_limit_select(manifest: Path, encoder: FakeEncoder) -> None:
    store = extract_embeddings(manifest, encoder="fake", where=["speaker=s1"], out="a.h5")
    assert set(store.speakers) == {"s1"}
    store = extract_embeddings(manifest, encoder="fake", limit=5, out="b.h5")
    assert [Path(path).stem for path in store.column("path")] == ["0", "2", "4", "6", "8"]
    assert store.extraction["selection"] == {"where": [], "limit": 5}
    with pytest.raises(ExtractionError, match="holds 5 utterances, of which this selection would leave 1"):
        extract_embeddings(manifest, encoder="fake", limit=2, out="b.h5")
    assert len(extract_embeddings(manifest, encoder="fake", out="b.h5")) == 10


def test_segments_of_one_file_are_utterances(tmp_path: Path, encoder: FakeEncoder) -> None:
    write_clip(tmp_path / "long.wav", 5.0, 1)
    rows = [["path", "label", "start", "end"], *(["long.wav", "a", str(i / 2), str(i / 2 + 0.5)] for i in range(9))]
    store = extract_embeddings(write_manifest(tmp_path / "m.csv", rows), encoder="fake", out=tmp_path / "s.h5")
    assert store.column("duration").tolist() == [0.5] * 9
    assert len(set(store.column("digest"))) == 9


def test_segments_that_do_not_lie_in_their_file_can_be_skipped(tmp_path: Path, encoder: FakeEncoder) -> None:
    write_clip(tmp_path / "long.wav", 2.0, 1)
    segments = {"good": (0, 1), "turned": (1.5, 0.5), "empty": (1, 1), "early": (-0.5, 1), "late": (1, 5)}
    rows = [["id", "path", "label", "start", "end"]]
    rows += [[name, "long.wav", "a", str(start), str(end)] for name, (start, end) in segments.items()]
    manifest = write_manifest(tmp_path / "m.csv", rows)
    with pytest.raises(ExtractionError, match=r"'early' cannot be used: Its segment -0.5 s to 1 s .*--on-error skip"):
        extract_embeddings(manifest, encoder="fake", out=tmp_path / "s.h5")
    store = extract_embeddings(manifest, encoder="fake", out=tmp_path / "s.h5", on_error="skip")
    assert store.ids.tolist() == ["good"]
    assert list(store.failures) == ["early", "empty", "late", "turned"]
    assert store.failures["turned"] == "Its segment ends at 0.5 s, not after its start at 1.5 s."
    assert store.failures["empty"] == "Its segment ends at 1 s, not after its start at 1 s."


def test_clips_longer_than_max_seconds_are_cut(manifest: Path, encoder: FakeEncoder) -> None:
    store = extract_embeddings(manifest, encoder="fake", max_seconds=0.5)
    assert max(max(call) for call in encoder.calls) == 500
    assert store.extraction["options"]["max_seconds"]["seconds"] == 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"level": "word"}, "level is 'word', expected one of utterance, frame, both"),
        ({"frame_dtype": "int8"}, "frame_dtype is 'int8'"),
        ({"on_error": "ignore"}, "on_error is 'ignore'"),
        ({"batch_seconds": 0}, "batch_seconds is 0.0, expected a number above zero"),
        ({"shard_seconds": -1}, "shard_seconds is -1"),
        ({"max_seconds": float("nan")}, "max_seconds is nan"),
        ({"limit": -1}, "limit is -1"),
        ({"threads": 0}, "threads is 0"),
        ({"out": "."}, "is a folder"),
    ],
)
def test_options_that_cannot_be_are_refused(
    manifest: Path, encoder: FakeEncoder, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        extract_embeddings(manifest, encoder="fake", **options)
    assert not encoder.calls


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [("emodb", "embeddings/emodb/e.h5"), ("../../x", "embeddings/x/e.h5"), ("a/b [c]", "embeddings/a-b-c/e.h5")],
)
def test_default_paths_stay_below_their_folder(corpus: str, expected: str) -> None:
    assert default_path(corpus, "e") == Path(expected)


def test_a_folder_that_cannot_be_written_to_is_one_sentence(manifest: Path, encoder: FakeEncoder) -> None:
    Path("embeddings").write_text("a file where a folder should be")
    with pytest.raises(EmbedkitError, match="Cannot write to"):
        extract_embeddings(manifest, encoder="fake")


def test_progress_is_called_and_a_bar_can_be_shown(
    manifest: Path, encoder: FakeEncoder, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[float, float]] = []
    extract_embeddings(manifest, encoder="fake", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == pytest.approx(seen[-1][1])
    assert capsys.readouterr() == ("", "")
    extract_embeddings(manifest, encoder="fake", progress=True, out="bar.h5")
    assert "extract fake" in capsys.readouterr().err


def test_a_real_encoder_on_real_files(manifest: Path) -> None:
    store = extract_embeddings(manifest, encoder="mfcc", threads=1)
    assert store.levels == ("utterance", "frame")
    assert store.frame_dtype == "float32"
    assert store.mean().shape == (10, 39)
    np.testing.assert_allclose(store.frames(3).mean(0), store.mean("all")[3], rtol=1e-4, atol=1e-4)
    assert store.encoder["name"] == "mfcc"


NAMES = ["a b.wav", "new\nline.wav", "[bold]x[red].wav", "größe-ñ-语音.wav", "-dash.wav", "%2F.wav", "quote's \".wav"]


@pytest.mark.parametrize("name", NAMES)
def test_odd_file_names_are_only_names(tmp_path: Path, encoder: FakeEncoder, name: str) -> None:
    write_clip(tmp_path / "odd [1]" / name, 0.5, 1)
    manifest = write_manifest(tmp_path / "odd [1]" / "m.csv", [["path", "label"], [name, "a"]])
    store = extract_embeddings(manifest, encoder="fake", out=tmp_path / "odd [1]" / "s.h5")
    assert len(store) == 1
    assert Path(store.column("path")[0]).name == name


def test_paths_that_climb_out_leave_nothing_outside(tmp_path: Path, encoder: FakeEncoder) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    write_clip(tmp_path / "up.wav", 0.5, 1)
    manifest = write_manifest(folder / "m.csv", [["id", "path", "label"], ["../../evil", "../../up.wav", "a"]])
    try:
        store = extract_embeddings(manifest, encoder="fake", out=folder / "s.h5")
    except CorpusError:
        pass
    else:
        assert store.ids.tolist() == ["../../evil"]
    assert {path.name for path in tmp_path.iterdir()} == {"a", "up.wav"}


def header_mutations() -> list[tuple[str, Callable[[bytes], bytes]]]:
    """Sixty ways to spoil a file: cut it short, or overwrite bytes of its header."""
    generator = np.random.default_rng(11)
    cuts = [int(cut) for cut in generator.integers(0, 60, 12)]
    ways: list[tuple[str, Callable[[bytes], bytes]]] = [(f"cut at {cut}", lambda data, n=cut: data[:n]) for cut in cuts]
    for _ in range(48):
        place, value = int(generator.integers(0, 60)), generator.bytes(int(generator.integers(1, 5)))
        ways.append(
            (
                f"{value.hex()} at {place}",
                lambda data, at=place, new=value: data[:at] + new + data[at + len(new) :],
            )
        )
    return ways


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_spoiled_headers_are_skipped_or_read_but_never_stop_or_store_nan(
    tmp_path: Path, encoder: FakeEncoder, suffix: str
) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype("float32")
    soundfile.write(tmp_path / f"whole{suffix}", samples, 16000)
    data = (tmp_path / f"whole{suffix}").read_bytes()
    rows = [["path", "label"], [f"whole{suffix}", "a"]]
    for index, (_, spoil) in enumerate(header_mutations()):
        (tmp_path / f"{index:02}{suffix}").write_bytes(spoil(data))
        rows.append([f"{index:02}{suffix}", "a"])
    manifest = write_manifest(tmp_path / "m.csv", rows)
    store = extract_embeddings(manifest, encoder="fake", on_error="skip", out=tmp_path / "s.h5", max_seconds=60)
    assert len(store) + len(store.failures) == 61
    assert len(store.failures) >= 12
    assert np.isfinite(store.mean("all")).all()
    assert np.isfinite(store.std("all")).all()
    assert all("\n" not in reason for reason in store.failures.values())


@pytest.mark.parametrize(
    ("rate", "channels", "seconds"), [(1000, 1, 0.5), (384_000, 1, 0.1), (48_000, 8, 0.2), (44_100, 2, 0.01)]
)
def test_odd_but_valid_audio_is_read(
    tmp_path: Path, encoder: FakeEncoder, rate: int, channels: int, seconds: float
) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (round(rate * seconds), channels))
    soundfile.write(tmp_path / "a.wav", samples, rate)
    manifest = write_manifest(tmp_path / "m.csv", [["path", "label"], ["a.wav", "a"]])
    store = extract_embeddings(manifest, encoder="fake", out=tmp_path / "s.h5")
    assert store.column("duration")[0] == pytest.approx(seconds, abs=0.001)
    assert store.column("padded")[0] == (seconds < 0.03)


def write_hum(folder: Path) -> Path:
    """Write two recordings of noise."""
    for number in range(2):
        write_clip(folder / f"{number}.wav", 0.5, 90 + number)
    return folder


@pytest.mark.parametrize("kind", ["white", "recorded"])
def test_noise_has_stores_of_its_own(manifest: Path, encoder: FakeEncoder, kind: str) -> None:
    noise = {} if kind == "white" else {"noise": str(write_hum(Path("hum")))}
    clean = extract_embeddings(manifest, encoder="fake")
    before = clean.path.read_bytes()
    levels = {snr: extract_embeddings(manifest, encoder="fake", noise_snr=snr, **noise) for snr in (40, 10)}
    assert clean.path.read_bytes() == before
    ending = "" if kind == "white" else "-hum"
    assert [store.path.name for store in levels.values()] == [f"fake@snr40{ending}.h5", f"fake@snr10{ending}.h5"]
    assert len({clean.fingerprint, *(store.fingerprint for store in levels.values())}) == 3
    distances = []
    for snr, store in levels.items():
        assert store.extraction["options"]["noise"]["clean"] == clean.fingerprint
        assert store.column("audio_digest").tolist() == clean.column("audio_digest").tolist()
        distances.append(np.abs(store.mean(layer="all") - clean.mean(layer="all")).mean())
        assert f"with {kind} noise at {snr} dB" in str(describe_store(store.path))
    assert 0 < distances[0] < distances[1] / 5
    # Neither the batch nor the order that a clip is encoded in changes its noise.
    few = extract_embeddings(manifest, encoder="fake", noise_snr=10, out="few.h5", where=["id=7"], **noise)
    whole = levels[10].ids.tolist()
    np.testing.assert_allclose(few.mean(layer="all"), levels[10].mean(layer="all")[[whole.index("7")]], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "sentence"),
    [
        ({"noise": "hum"}, ConfigError, "without a level; name it with --noise-snr"),
        ({"noise_snr": 200}, ConfigError, "expected a number from -100 to 100"),
        ({"noise_snr": 10, "noise": "nowhere"}, CorpusError, "nowhere"),
        ({"noise_snr": 10, "out": "embeddings/speech/fake.h5"}, ExtractionError, "differing in noise"),
    ],
)
def test_noise_that_cannot_be_added_is_told(
    manifest: Path, encoder: FakeEncoder, options: Any, error: type[EmbedkitError], sentence: str
) -> None:
    extract_embeddings(manifest, encoder="fake")
    with pytest.raises(error, match=sentence):
        extract_embeddings(manifest, encoder="fake", **options)
