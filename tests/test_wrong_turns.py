"""Likely mistakes of a newcomer: each gets one sentence that tells the next step, or simply works."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import embedkit
from embedkit.cli import app
from embedkit.errors import EmbedkitError
from tests.documents import write_tiny_emodb
from tests.workflows.tones import RATE, write_tones

STORE = "embeddings/corpus/mfcc.h5"
QUICK = "--head linear --seeds 1 --epochs 1 --lr 0.01"

PROBLEMS = [
    # Names.
    ("extract tones/corpus.csv --encoder hubret", r"Did you mean 'hubert'\?"),
    ("extract tones/corpus.csv --encoder Hubert", r"Did you mean 'hubert'\?"),
    ("extract tones/corpus.csv --encoder ./weights", r"expected a checkpoint's folder, or a registered encoder"),
    ("extract tones/corpus.csv --encoder plain", r"expected a checkpoint in the layout that transformers writes"),
    (
        "extract tones/corpus.csv --encoder hubert",
        r"name a local copy in embedkit\.toml .*or take an encoder that needs",
    ),
    ("extract tones/corpus.csv --encoder nobody/nothing", r"name a local copy in embedkit\.toml"),
    (f"fit {STORE} --loss focl", r"Did you mean 'focal'\?"),
    (f"fit {STORE} --loss focal:gama=2", r"Unknown option 'gama' of the loss 'focal'\. Did you mean 'gamma'\?"),
    (f"fit {STORE} --loss focal:gamma=high", r"gamma is 'high', expected"),
    (f"fit {STORE} --head liner", r"Did you mean 'linear'\?"),
    (f"fit {STORE} --head mlp:hiden=3", r"Did you mean 'hidden'\?"),
    (f"fit {STORE} --folds spaeker", r"Did you mean 'speaker'\?"),
    (f"fit {STORE} --classes low,hihg", r"Did you mean 'high'\?"),
    (f"fit {STORE} --targets arousel", r"did you mean 'arousal'\?"),
    (f"fit {STORE} --targets label", r"'label' holds texts: corpus has arousal, valence"),
    ("study tones/corpus.csv --encoder mfc", r"Did you mean 'mfcc'\?"),
    ("study tones/corpus.csv --encoder mfcc --mode cachd", r"Did you mean 'cached'\?"),
    # Values.
    (f"fit {STORE} --lr fast", r"expected numbers such as 3e-4,1e-3"),
    (f"fit {STORE} --lr -1", r"expected numbers above zero"),
    (f"fit {STORE} --merge low", r"expected LABEL=LABEL as in excitement=happiness"),
    (f"fit {STORE} --classes low", r"at least two are needed; check --classes"),
    (f"fit {STORE} --where speaker", r"expected COLUMN=VALUE"),
    (f"fit {STORE} --where speeker=s1", r"Did you mean 'speaker'\?"),
    (f"fit {STORE} --where label=anger", r"label holds high, low there"),
    (f"fit {STORE} --device gpu", r"expected auto, cpu, cuda, cuda:N or mps \(here: cpu"),
    (f"fit {STORE} --layers 6", r"extract with --layers and --out"),
    ("extract tones/corpus.csv --encoder mfcc --layers 13", r"expected 0, the only one"),
    ("extract tones/corpus.csv --encoder mfcc --precision fp64", r"expected auto, fp32, bf16 or fp16"),
    ("extract tones/corpus.csv --encoder mfcc --where speaker=nobody", r"speaker holds s0, s1, s2, s3 there"),
    ("extract tones/corpus.csv --encoder mfcc --out tones", r"expected the path of a file \(\.h5\)"),
    # Corpora.
    ("extract nowhere --encoder mfcc", r"check the path, or give 'demo'"),
    ("extract iemocap --encoder mfcc", r"give the path of your copy of iemocap"),
    ("extract data --encoder mfcc", r"sub-folder .*emodb' looks like emodb; give that"),
    ("extract data/emodb/wav/deeper --encoder mfcc", r"the folder above it, .* looks like emodb; give that"),
    ("extract plain --encoder mfcc", r"write a manifest for any other corpus"),
    ("extract empty --encoder mfcc", r"There is no audio in the folder"),
    ("extract tones/00.wav --encoder mfcc", r"give the folder of its corpus, or a CSV manifest"),
    (f"extract {STORE} --encoder mfcc", r"train on them with embedkit fit"),
    ("extract no_label.csv --encoder mfcc", r"no column `label`; .*add it, or rename"),
    ("extract absent.csv --encoder mfcc", r"leave such utterances out with --on-error skip"),
    ("extract broken.csv --encoder mfcc", r"convert it to WAV"),
    ("check plain", r"write a manifest for any other corpus"),
    # Steps in the wrong order, or on the wrong thing.
    ("fit", r"run embedkit extract --encoder NAME first"),
    ("fit nowhere.h5", r"`embedkit extract` writes one"),
    ("fit tones/corpus.csv", r"run embedkit extract tones/corpus\.csv --encoder NAME first"),
    ("fit tones --encoder mfcc", r"--mode frozen --encoder NAME"),
    (f"fit {STORE} --encoder mfcc", r"leave out --encoder, or run the encoder in every epoch with --mode frozen"),
    (f"fit {STORE} --mode frozen --encoder mfcc", r"name its corpus"),
    ("fit tones/corpus.csv --mode finetune", r"give it with --encoder"),
    ("fit tones/corpus.csv --mode finetune --encoder mfcc", r"choose one, or fit with --mode cached or frozen"),
    ("fit means.h5 --head lstm", r"extract with --level both, or choose --head linear"),
    (f"fit one_speaker.h5 {QUICK}", r"choose other folds with --folds"),
    (f"fit no_speaker.h5 {QUICK}", r"add the column to the corpus"),
    (f"fit one_class.h5 {QUICK}", r"at least two are needed"),
    (
        "extract tones/corpus.csv --encoder mfcc --level utterance",
        r"another file with --out, or replace it with --overwrite",
    ),
    ("table", r"run embedkit fit first"),
    ("table tones", r"run embedkit fit first"),
    ("report", r"run embedkit fit first"),
    ("figure layers", r"run embedkit fit first"),
    ("predict runs tones/00.wav", r"expected a folder with config\.json, as embedkit fit writes it"),
    (f"predict {STORE} tones/00.wav", r"expected a folder with config\.json, as embedkit fit writes it"),
    ("predict there/RUN nowhere.wav", r"check the path"),
    ("predict there/RUN text.wav", r"convert it to WAV"),
    ("predict there/RUN tones/00.wav --hop 1", r"give their length with --window"),
    ("predict there/RUN tones/00.wav --window 0.5 --hop 1", r"longer than --window, 0\.5, .*give at most 0\.5"),
    ("figure timeline", r"expected a \.csv, \.json or \.jsonl of embedkit predict --window"),
    ("export runs", r"expected a folder with config\.json"),
    ("export there/RUN --out tones", r"choose another --out"),
    ("inspect tones/00.wav", r"expected a store of embedkit"),
    ("verify nowhere.h5", r"`embedkit extract` writes one"),
    ("demo --out tones", r"give an empty one: --out FOLDER"),
]

USAGE = [
    ("fitt", r"Did you mean 'fit'\?"),
    ("fit --sedes 3", r"--seeds"),
    ("fit --seeds three", r"--seeds.*integer"),
    ("fit --seeds 0", r"--seeds.*1"),
    ("extract tones/corpus.csv", r"as in --encoder mfcc"),
    ("extract tones/corpus.csv --encoder mfcc --encoder logmel --out x.h5", r"give one encoder with --out"),
    ("extract tones/corpus.csv --encoder mfcc --level frames", r"'utterance', 'frame', 'both'"),
    ("study tones/corpus.csv", r"as in --encoder mfcc"),
    ("table --metric uaa", r"'ua', 'wa'"),
    ("table --format pdf", r"'text', 'markdown', 'latex'"),
    ("list encoder", r"'encoders', 'heads', 'losses'"),
    ("predict there/RUN", r"Missing argument 'INPUT'"),
    ("predict there/RUN tones/00.wav --vad webrtc", r"'webrtc' is not .*silero"),
]

CONFIGURATIONS = [
    ("[fit]\nsedes = 3\n", r"Did you mean 'seeds'\?"),
    ("[fti]\nseeds = 3\n", r"Did you mean 'fit'\?"),
    ('[fit]\nseeds = "3"\n', r"expected a whole number"),
    ("corpus = data/emodb\n", r"is not valid TOML .*correct that line"),
]

CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: embedkit.extract("tones/corpus.csv", encoder=["mfcc", "logmel"]), r"encoder is .*, expected a text"),  # type: ignore[arg-type]
    (
        lambda: embedkit.extract(None, encoder="mfcc"),
        r"corpus is None, expected a text, a path, a Corpus, a list, a NumPy",
    ),  # type: ignore[arg-type]
    (lambda: embedkit.extract("tones/corpus.csv", encoder="mfcc", where="speaker=s1"), r"expected a list of texts"),
    (lambda: embedkit.fit(STORE, los="ce"), r"Did you mean 'loss'\?"),  # type: ignore[call-arg]
    (lambda: embedkit.fit(STORE, learning_rates=[1e-3]), r"learning_rates is called lr, as --lr is"),  # type: ignore[call-arg]
    (lambda: embedkit.fit(STORE, heads="linear"), r"heads is called head"),  # type: ignore[call-arg]
    (lambda: embedkit.fit(np.zeros((3, 4))), r"stores is array.*expected a Store"),  # type: ignore[arg-type]
    (lambda: embedkit.fit(STORE, lr="fast"), r"lr is 'fast', expected numbers such as"),  # type: ignore[arg-type]
    (lambda: embedkit.fit(STORE, seeds=[0, 1]), r"seeds is \[0, 1\], expected a whole number"),  # type: ignore[arg-type]
    (lambda: embedkit.fit(STORE, classes="low,high"), r"expected a list of texts"),
    (lambda: embedkit.fit(STORE, merge=["low=high"]), r"expected a dictionary"),  # type: ignore[arg-type]
    (lambda: embedkit.table(3), r"expected a folder of runs"),  # type: ignore[arg-type]
    (lambda: embedkit.table([STORE]), r"name the folder that holds the runs"),  # type: ignore[list-item]
    (
        lambda: embedkit.predict("there/RUN", [np.zeros(16000)]),
        r"array 1 has no rate of its own; give it, as in rate=16000",
    ),  # type: ignore[list-item]
    (lambda: embedkit.open_store(None), r"path is None, expected a text or a path"),  # type: ignore[arg-type]
    (lambda: embedkit.run_study("demo", "mfcc", mode="cachd"), r"Did you mean 'cached'\?"),  # type: ignore[arg-type]
]


def run(line: str) -> Any:
    return CliRunner().invoke(app, shlex.split(line), prog_name="embedkit")


def write_manifest(name: str, rows: list[str], header: str = "path,label,speaker") -> None:
    Path(name).write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's folder: corpora of all kinds of mistakes, a store, and a run."""
    folder = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    os.chdir(folder)
    try:
        write_tones(folder / "tones")
        write_tiny_emodb(folder / "data" / "emodb")
        for name in ("empty", "plain", "data/emodb/wav/deeper"):
            Path(name).mkdir()
        for name in ("plain", "data/emodb/wav/deeper"):
            shutil.copy("tones/00.wav", f"{name}/some.wav")
        Path("text.wav").write_text("no audio")
        clips = [f"tones/{number:02}.wav" for number in range(8)]
        write_manifest("one_speaker.csv", [f"{clip},{'ab'[place % 2]},s" for place, clip in enumerate(clips)])
        write_manifest("one_class.csv", [f"{clip},a,s{place % 4}" for place, clip in enumerate(clips)])
        write_manifest("no_speaker.csv", [f"{clip},{'ab'[p % 2]}" for p, clip in enumerate(clips)], "path,label")
        write_manifest("no_label.csv", clips, "path")
        write_manifest("absent.csv", ["tones/00.wav,a,s1", "tones/none.wav,b,s2"])
        write_manifest("broken.csv", ["tones/00.wav,a,s1", "text.wav,b,s2"])
        for name in ("one_speaker", "one_class", "no_speaker"):
            embedkit.extract(f"{name}.csv", encoder="mfcc", out=f"{name}.h5", progress=False)
        embedkit.extract("tones/corpus.csv", encoder="mfcc", progress=False)
        embedkit.extract("tones/corpus.csv", encoder="mfcc", level="utterance", out="means.h5", progress=False)
        (record,) = embedkit.fit(STORE, head="linear", seeds=1, epochs=1, lr=[0.01], runs="there")
        record.folder.rename("there/RUN")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(autouse=True)
def here(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a copy of it, without a network."""
    shutil.copytree(world, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no-cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def assert_told(result: Any, expected: str) -> None:
    """One error, told last in one line that names the next step; nothing found, no traceback."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("Error: ")] == [lines[-1]]
    assert re.search(expected, lines[-1]), lines[-1]
    assert lines[-1].endswith((".", "?"))
    assert result.stdout == ""


@pytest.mark.parametrize(("line", "expected"), PROBLEMS, ids=[line for line, _ in PROBLEMS])
def test_a_problem_gets_a_sentence_with_the_next_step(line: str, expected: str) -> None:
    if line == "fit":
        shutil.rmtree("embeddings")
    assert_told(run(line), expected)


@pytest.mark.parametrize(("line", "expected"), USAGE, ids=[line for line, _ in USAGE])
def test_wrong_usage_shows_what_is_right(line: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run(line)
    assert result.exit_code == 2
    assert re.search(expected, result.stderr), result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(("text", "expected"), CONFIGURATIONS)
def test_a_typo_in_the_configuration_is_named(text: str, expected: str) -> None:
    Path("embedkit.toml").write_text(text)
    assert_told(run("table there"), expected)


@pytest.mark.parametrize("place", range(len(CALLS)))
def test_calls_with_wrong_types_get_a_sentence(place: int) -> None:
    call, expected = CALLS[place]
    with pytest.raises(EmbedkitError, match=expected) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_full_disk_is_noticed_before_anything_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.extraction.report.free_space", lambda _: 10)
    assert_told(run("extract data/emodb --encoder mfcc"), "free|room")
    assert not Path("embeddings/emodb/mfcc.h5").exists()


def test_a_stale_store_is_noticed_and_brought_up_to_date() -> None:
    # The copied store still knows the folder it was copied from.
    run("extract tones/corpus.csv --encoder mfcc")
    soundfile.write("tones/03.wav", np.zeros(RATE), RATE)
    result = run(f"verify {STORE} --audio")
    assert result.exit_code == 1
    assert "03" in result.stdout
    result = run("extract tones/corpus.csv --encoder mfcc")
    assert result.exit_code == 0, result.output
    assert "23 utterances reused, 1 new" in result.stderr
    assert run(f"verify {STORE} --audio").exit_code == 0


def test_mixed_sampling_rates_are_no_mistake() -> None:
    for number, rate in enumerate((8000, 11025, 22050, 44100, 48000)):
        samples = 0.1 * np.random.default_rng(number).standard_normal(rate)
        soundfile.write(f"tones/{number:02}.wav", samples, rate)
    result = run("extract tones/corpus.csv --encoder mfcc")
    assert result.exit_code == 0, result.output
    with embedkit.open_store(STORE) as store:
        assert len(store) == 24
        assert store.column("duration")[:5] == pytest.approx(1.0, abs=0.01)
        assert len({store.frames(row).shape[0] for row in range(5)}) == 1


@pytest.mark.parametrize("source", ["data/emodb/wav", "semicolons.csv", "tones"])
def test_what_can_be_understood_just_works(source: str) -> None:
    shutil.rmtree("data/emodb/wav/deeper")
    text = Path("tones/corpus.csv").read_text()
    Path("semicolons.csv").write_text(text.replace(",", ";").replace("\n", "\ntones/").replace("tones/path", "path"))
    lines = Path("semicolons.csv").read_text().splitlines()
    Path("semicolons.csv").write_text("\n".join(line for line in lines if line != "tones/") + "\n")
    result = run(f"extract {source} --encoder mfcc --out some.h5")
    assert result.exit_code == 0, result.output
