"""Each fault is put into a small corpus and must be found, and only it; what is invalid exits with 1."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit.checking.audio import Clipping, silent_stretches
from embedkit.cli import app
from embedkit.errors import ConfigError, FitError
from embedkit.workflows.check import CorpusCheck

RATE = 16_000
Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def noise(seed: int, seconds: float = 0.4, rate: int = RATE) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).uniform(-1, 1, round(seconds * rate))


@pytest.fixture
def rows(tmp_path: Path) -> Rows:
    """Write a corpus without faults: four speakers, two labels, ten utterances of each label and speaker."""
    (tmp_path / "wav").mkdir()
    made = []
    for index in range(80):
        soundfile.write(tmp_path / "wav" / f"{index:02d}.wav", noise(index), RATE)
        speaker, label = "abcd"[index % 4], ("joy", "sorrow")[index // 40]
        made.append({"path": f"wav/{index:02d}.wav", "label": label, "speaker": speaker, "take": f"t{index}"})
    return made


def write(rows: Rows) -> Path:
    lines = [",".join(rows[0]), *(",".join(str(value) for value in row.values()) for row in rows)]
    Path("own.csv").write_text("\n".join(lines) + "\n")
    return Path("own.csv")


def found(check: CorpusCheck) -> dict[str, str]:
    return {finding.kind: finding.severity for finding in check.findings}


def rewrite(index: int, samples: np.ndarray, rate: int = RATE, **options: Any) -> None:
    soundfile.write(f"wav/{index:02d}.wav", samples, rate, **options)


def test_a_corpus_without_faults(rows: Rows) -> None:
    check = embedkit.check_corpus(write(rows))
    assert check.findings == ()
    assert check.ok
    facts = check.to_dict()
    assert facts["durations"] == {"total": 32.0, "shortest": 0.4, "median": 0.4, "longest": 0.4}
    assert (facts["utterances"], facts["sampling_rates"], facts["channels"]) == (80, {"16000": 80}, {"1": 80})
    assert facts["labels"]["joy"] == {"utterances": 40, "seconds": 16.0, "speakers": 4, "labels": {"joy": 40}}
    assert facts["speakers"]["c"] == {
        "utterances": 20, "seconds": 8.0, "speakers": 1, "labels": {"joy": 10, "sorrow": 10}
    }  # fmt: skip
    assert facts["sessions"] == {}


@pytest.mark.parametrize(
    ("kind", "samples", "rate"),
    [
        ("clipping", np.clip(40 * noise(100), -1, 1), RATE),
        ("silence", np.concatenate([noise(100)[:3000], np.zeros(9000)]), RATE),
        ("silence", 1e-4 * noise(100, 0.5), RATE),
        ("offset", noise(100) + 0.02, RATE),
        ("short", noise(100, 0.2), RATE),
        ("long", noise(100, 30.1), RATE),
    ],
)
def test_faults_in_audio_are_warnings(rows: Rows, kind: str, samples: np.ndarray, rate: int) -> None:
    rewrite(17, samples, rate, subtype="FLOAT")
    check = embedkit.check_corpus(write(rows))
    assert found(check) == {kind: "warning"}
    assert check.findings[0].utterances == ("17",)
    assert check.ok


def test_mixed_formats_are_warnings(rows: Rows) -> None:
    rewrite(3, np.stack([noise(3), noise(103)], axis=1))
    rewrite(4, noise(4, rate=8000), 8000)
    check = embedkit.check_corpus(write(rows))
    assert found(check) == {"sampling rates": "warning", "channels": "warning", "low rate": "warning"}
    assert "16000 Hz: 79, 8000 Hz: 1" in str(check).replace("\n    ", " ")
    assert check.to_dict()["channels"] == {"1": 79, "2": 1}


def test_audio_that_cannot_be_read_is_a_problem(rows: Rows) -> None:
    Path("wav/05.wav").write_bytes(b"no audio")
    Path("wav/06.wav").unlink()
    check = embedkit.check_corpus(write(rows))
    assert found(check) == {"unreadable": "problem"}
    assert check.findings[0].utterances == ("05", "06")
    assert len(check.measures) == 78
    rows[7] |= {"path": "wav/06.wav"}
    assert not embedkit.check_corpus(write(rows[:6])).ok


@pytest.mark.parametrize(
    ("other", "severity", "told"),
    [
        (4, "warning", "one speaker and label"),
        (1, "problem", "different speakers"),
        (40, "problem", "different labels"),
    ],
)
def test_the_same_audio_under_two_ids(rows: Rows, other: int, severity: str, told: str) -> None:
    soundfile.write("wav/copy.flac", soundfile.read("wav/00.wav", dtype="int16")[0], RATE)
    rows[other] |= {"path": "wav/copy.flac"}
    check = embedkit.check_corpus(write(rows))
    assert found(check) == {"duplicates": severity}
    assert set(check.findings[0].utterances) == {"00", "copy"}
    assert told in check.findings[0].message


def test_segments_of_one_file_are_no_duplicates_unless_they_are_the_same(rows: Rows) -> None:
    soundfile.write("wav/long.wav", noise(7, 40.0), RATE)
    rows = [row | {"start": index * 0.5, "end": index * 0.5 + 0.4} for index, row in enumerate(rows)]
    for row in rows:
        row["path"] = "wav/long.wav"
    assert embedkit.check_corpus(write(rows)).findings == ()
    rows[1] |= {"start": 0.0, "end": 0.4, "take": "another"}
    rows = [row | {"id": f"u{index}"} for index, row in enumerate(rows)]
    assert found(embedkit.check_corpus(write(rows))) == {"duplicates": "problem"}


def test_speakers_on_both_sides_of_the_given_split(rows: Rows) -> None:
    apart = [row | {"split": {"a": "test", "b": "dev"}.get(row["speaker"], "train")} for row in rows]
    assert embedkit.check_corpus(write(apart), folds="split").findings == ()
    apart[2] |= {"split": "test"}
    check = embedkit.check_corpus(write(apart))
    assert found(check) == {"split": "problem"}
    assert "1 speaker in several parts" in check.findings[0].message
    assert "(c)" in check.findings[0].message


def test_folds_by_the_names_of_the_field(rows: Rows) -> None:
    path = write(rows)
    assert (
        embedkit.check_corpus(path, folds="leave-one-speaker-out").to_dict()
        == embedkit.check_corpus(path, folds="speaker").to_dict()
    )
    with pytest.raises(ConfigError, match=r"loso.*leave-one-speaker-out or leave-one-session-out"):
        embedkit.check_corpus(path, folds="loso")


def test_one_class_one_speaker_and_no_speakers_are_problems(rows: Rows) -> None:
    assert found(embedkit.check_corpus(write(rows[:40]))) == {"folds": "problem"}
    alone = [row | {"speaker": "a"} for row in rows]
    assert found(embedkit.check_corpus(write(alone))) == {"folds": "problem"}
    assert found(embedkit.check_corpus(write(rows), folds="random")) == {"folds": "warning"}
    unknown = [row | {"speaker": ""} for row in rows]
    assert found(embedkit.check_corpus(write(unknown))) == {"folds": "problem", "speakers": "warning"}


def test_a_label_of_one_speaker_is_never_learned_and_one_of_two_is_weak(rows: Rows) -> None:
    of_one = [row | {"label": "fear"} if index in range(0, 40, 4) else row for index, row in enumerate(rows)]
    check = embedkit.check_corpus(write(of_one))
    assert found(check) == {"folds": "problem", "labels": "warning"}
    assert "'fear'" in check.findings[0].message
    assert embedkit.check_corpus(write(of_one), merge={"fear": "joy"}).findings == ()
    rare = [row | {"label": "fear"} if index < 8 else row for index, row in enumerate(rows)]
    assert found(embedkit.check_corpus(write(rare))) == {"labels": "warning"}


def test_texts_that_are_trained_on(rows: Rows) -> None:
    spoken = [row | {"text": f"s{index // 4 % 5}"} for index, row in enumerate(rows)]
    check = embedkit.check_corpus(write(spoken))
    assert found(check) == {"texts": "warning"}
    assert check.findings[0].message.startswith("100% of the tested")
    assert "--folds speaker+text" in check.findings[0].message
    assert embedkit.check_corpus(write(spoken), folds="speaker+text").findings == ()
    half = [row | {"script": "" if index % 8 < 4 else "one"} for index, row in enumerate(rows)]
    check = embedkit.check_corpus(write(half))
    assert check.findings[0].message.startswith("50% of the tested")
    assert "--where script=" in check.findings[0].message
    assert embedkit.check_corpus(write(half), where=["script="]).findings == ()


def test_what_takes_no_part_is_counted_and_not_decoded(rows: Rows) -> None:
    rows[0] |= {"label": "fear"}
    Path("wav/00.wav").unlink()
    calls: list[tuple[float, float]] = []
    check = embedkit.check_corpus(write(rows), classes=["joy", "sorrow"], progress=lambda *call: calls.append(call))
    assert check.left_out == {"fear": 1}
    assert check.findings == ()
    assert calls[-1] == (79, 79)


def test_names_that_are_not_there(rows: Rows) -> None:
    path = write(rows)
    with pytest.raises(FitError, match="Did you mean 'joy'"):
        embedkit.check_corpus(path, classes=["joj", "sorrow"])
    with pytest.raises(FitError, match="Did you mean 'take'"):
        embedkit.check_corpus(path, folds="speaker+takes")


@pytest.mark.parametrize("invalid", [False, True])
def test_the_command_prints_80_columns_or_json_and_exits_with_1_where_results_are_invalid(
    rows: Rows, invalid: bool
) -> None:
    many = [row | {"session": f"[{row['speaker']}]", "speaker": f"{row['speaker']}{index % 32}"}
            for index, row in enumerate(rows)]  # fmt: skip
    if invalid:
        Path("wav/11.wav").write_bytes(b"")
    path = str(write(many))
    Path("embedkit.toml").write_text('[fit]\nmerge = ["sorrow=grief"]\n')
    result = CliRunner().invoke(app, ["check", path])
    assert result.exit_code == invalid
    # A path stays whole, to be copied; how long that of this test is depends on where it runs.
    whole = [line for line in result.stdout.splitlines() if len(line) > 80]
    assert all(len(line.split()) == 1 and Path.cwd().name in line for line in whole)
    assert ("Problems: results would be invalid" in result.stdout) is invalid
    assert "32 speakers of 2 to 3 utterances" in result.stdout
    assert "[a]" in result.stdout
    assert "grief" in result.stdout
    result = CliRunner().invoke(app, ["check", path, "--format", "json"])
    assert result.exit_code == invalid
    facts = json.loads(result.stdout)
    assert facts["ok"] is not invalid
    assert sorted(facts["labels"]) == ["grief", "joy"]


def test_the_demo_corpus_is_in_order_and_its_scripts_are_told() -> None:
    result = CliRunner().invoke(app, ["check", "--format", "json"])
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert facts["folds"] == "session"
    assert {finding["kind"] for finding in facts["findings"]} <= {"texts"}


def test_runs_at_full_scale_and_silent_stretches_by_hand() -> None:
    def clipped(*samples: float) -> float:
        clipping = Clipping()
        clipping.add(np.array(samples, np.float32))
        return clipping.finish() / len(samples)

    assert clipped(0, 1, 1, 1, 0.5, -1, -1, -1, -1, 0) == 0.7
    assert clipped(1, 1, -1, -1, 1) == 0
    assert clipped(1, 1, 1) == 1
    assert clipped(0.99, 0.99, 0.99) == 0
    samples = np.zeros(1000, np.float32)
    samples[[0, 650]] = 1.0
    assert silent_stretches(samples, 200).mean() == 0.6
    assert silent_stretches(np.full(3, 0.002, np.float32), 320).mean() == 0


def test_names_that_look_alike_or_stand_for_a_missing_value_are_told(rows: Rows) -> None:
    rows[0] |= {"label": "Joy"}
    rows[1] |= {"label": "joy\u200b"}
    rows[2] |= {"speaker": "n/a"}
    told = [one.message for one in embedkit.check_corpus(write(rows)).findings if one.kind == "names"]
    assert len(told) == 2
    assert "'Joy' (1) = 'joy' (38) = 'joy\\u200b' (1)" in told[0]
    assert "--merge 'joy*=joy' counts them as one" in told[0]
    assert "speaker is 'n/a' (1): programs write this where a value is missing" in told[1]
    merged = embedkit.check_corpus(Path("own.csv"), merge={"joy*": "joy"})
    assert set(merged.labels.values()) == {"joy", "sorrow"}
