"""Trained encoders go back into stores, and are kept from the speakers they have seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import embedkit
from embedkit.errors import EncoderError, FitError
from embedkit.evaluation.calibration import scale_temperature
from embedkit.training.runs import RunRecord, find_runs
from tests.cases import mark_cases
from tests.encoders.emotion2vec import random_weights, write_published
from tests.training.live.fitting import QUICK, fit, predictions, train_once
from tests.training.live.noises import SPEAKERS


def write_softer(corpus: Path, folder: Path) -> Path:
    """Write a corpus of the same clips at half their level: other recordings."""
    folder.mkdir()
    for path in map(corpus.parent.joinpath, (line.split(",")[0] for line in corpus.read_text().splitlines()[1:])):
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(folder / path.name, samples // 2, rate)
    return Path(shutil.copyfile(corpus, folder / "others.csv"))


@pytest.fixture(scope="module")
def tuned(corpus: Path, checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """A fine-tuning run that keeps its encoders."""
    runs = tmp_path_factory.mktemp("tuned")
    return fit(corpus, checkpoints["hubert"], runs, "finetune", encoder_lr=1e-3, save_encoder=True)


def extract_folds(tuned: RunRecord, corpus: Path, folder: Path) -> list[embedkit.Store]:
    from embedkit.encoders.run_encoders import find_folders

    return [
        embedkit.extract(corpus, encoder=str(path), out=folder / f"{path.name}.h5")
        for path in find_folders(tuned.folder)
    ]


def test_trained_encoders_go_back_into_the_cache(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    assert len(stores) == SPEAKERS
    assert len({store.fingerprint for store in stores}) == SPEAKERS
    for number, store in enumerate(stores):
        seen = store.trained_on
        assert seen["fold"] == f"s{number}"
        assert seen["development_speakers"] == [f"s{(number + 1) % SPEAKERS}"]
        parts = dict(zip(store.ids.tolist(), store.column("encoder_saw").tolist(), strict=True))
        for row, speaker in enumerate(store.speakers.tolist()):
            part = parts[store.ids[row]]
            assert part == ("" if speaker == seen["fold"] else "train" if speaker in seen["speakers"] else "dev")
    (record,) = embedkit.fit(stores, ["ce"], runs=tmp_path / "runs", **{**QUICK, "folds": None})
    assert record.metrics["utterances"] == SPEAKERS * 4
    assert "leak" not in record.metrics
    ids, shares = predictions(record)
    for number in (0, 2):
        path = corpus.parent / f"{4 * number:02}.wav"
        (told,) = embedkit.stream_predictions(record.folder, [path], fold=f"s{number}")
        row = next(row for row, name in enumerate(ids) if path.stem in name)
        # Predictions of a run are kept as they were before the temperature.
        (choice,) = (one for one in record.config["choices"] if one["fold"] == f"s{number}")
        expected = scale_temperature(shares[row], choice["temperature"])
        np.testing.assert_allclose(list(told.probabilities.values()), expected, atol=1e-4)
    heads = record.load_heads()
    for number, store in enumerate(stores):
        train = store.speakers != f"s{number}"
        np.testing.assert_allclose(heads[f"{number}/mean"], store.mean("all")[train].mean(0), rtol=1e-4, atol=1e-5)


def test_stores_of_trained_encoders_are_kept_from_the_speakers_they_have_seen(
    tuned: RunRecord, corpus: Path, tmp_path: Path
) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    with pytest.raises(FitError, match=r"on the speaker s1, .* fold 's1' tests .*belongs to the fold 's0' by speaker"):
        embedkit.fit(stores[0], ["ce"], runs=tmp_path / "runs", **QUICK)
    with pytest.raises(FitError, match="no store of the fold 's3'"):
        embedkit.fit(stores[:3], ["ce"], runs=tmp_path / "runs", **QUICK)
    (marked,) = embedkit.fit(stores[0], ["ce"], runs=tmp_path / "runs", allow_leak=True, **QUICK)
    assert marked.metrics["leak"] is True
    shown = embedkit.table([marked])
    assert "LEAK" in str(shown)


def test_a_trained_encoder_that_runs_frozen_is_guarded_as_well(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    folder = tuned.folder / "encoders" / "fold-0-seed-0"
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(corpus, folder, tmp_path, "frozen")
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "embedkit.json").write_text("{}")
    with pytest.raises(EncoderError, match="without it nobody knows"):
        fit(corpus, tmp_path / "copy", tmp_path, "frozen")


def test_a_saved_encoder_gives_the_scores_of_the_run(tuned: RunRecord, corpus: Path, tmp_path: Path) -> None:
    stores = extract_folds(tuned, corpus, tmp_path)
    ids, shares = predictions(tuned)
    heads = tuned.load_heads()
    for number, store in enumerate(stores):
        own = {name.removeprefix(f"{number}/0/"): v for name, v in heads.items() if name.startswith(f"{number}/0/")}
        values = (torch.from_numpy(store.mean("all")) - heads[f"{number}/mean"]) * heads[f"{number}/scale"]
        mixed = (values * own["mix.layer_weights"].softmax(0)[:, None]).sum(1)
        expected = (mixed @ own["classifier.weight"].T + own["classifier.bias"]).softmax(-1).numpy()
        for row in np.flatnonzero(store.speakers == f"s{number}"):
            np.testing.assert_allclose(shares[ids.index(store.ids[row])], expected[row], atol=1e-4)


def test_encoders_inside_a_run_are_no_runs(tuned: RunRecord) -> None:
    assert [record.folder for record in find_runs(tuned.folder.parents[3])] == [tuned.folder]
    assert [record.folder for record in find_runs(tuned.folder)] == [tuned.folder]


def test_cards_name_everything_the_encoder_has_seen(tuned: RunRecord) -> None:
    card = json.loads((tuned.folder / "encoders" / "fold-1-seed-0" / "embedkit.json").read_text())
    seen = card["trained_on"]
    assert seen["corpus"] == "noises"
    assert sorted(seen["speakers"] + seen["development_speakers"]) == ["s0", "s2", "s3"]
    assert len(seen["utterances"]) == 8
    assert card["loss"] == "ce"
    assert "Not seen" in (tuned.folder / "encoders" / "fold-1-seed-0" / "README.md").read_text()


def test_what_was_chosen_on_is_told(corpus: Path, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    split = corpus.with_name("no-dev.csv")
    lines = corpus.read_text().splitlines()
    parts = ["train"] * 12 + ["test"] * 4
    split.write_text("\n".join([f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))]))
    found = [
        fit(manifest, checkpoints["hubert"], tmp_path / folds, "finetune", folds=folds, epochs=1).metrics["selection"]
        for manifest, folds in ((corpus, "speaker"), (split, "split"))
    ]
    assert found == [
        "one development group (the next in sorted order), best epoch kept",
        "one group of speakers held out for development, best epoch kept",
    ]


def test_the_guard_knows_every_way_an_encoder_can_have_seen_a_speaker(
    tuned: RunRecord, corpus: Path, tmp_path: Path
) -> None:
    folder = tuned.folder / "encoders" / "fold-0-seed-0"
    with pytest.raises(FitError, match=r"is a run with 4 trained encoders; .*fold-0-seed-0"):
        fit(corpus, tuned.folder, tmp_path / "run", "frozen")
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(corpus, f"{folder}+mfcc", tmp_path / "joined", "frozen")
    with pytest.raises(FitError, match="belongs to the fold 's0'"):
        fit(Path(shutil.copyfile(corpus, corpus.with_name("renamed.csv"))), folder, tmp_path / "renamed", "frozen")
    other = write_softer(corpus, corpus.parent.with_name("others"))
    second = fit(other, folder, tmp_path / "second", "finetune", save_encoder=True)
    again = second.folder / "encoders" / "fold-1-seed-0"
    with pytest.raises(FitError, match="which the fold"):
        fit(corpus, again, tmp_path / "again", "frozen")
    store = embedkit.extract(other, encoder=str(folder), out=tmp_path / "train.h5")
    tested = embedkit.extract(corpus, encoder=str(folder), out=tmp_path / "test.h5")
    options: dict[str, Any] = {**QUICK, "folds": None, "runs": tmp_path / "transfer", "test_on": tested}
    with pytest.raises(FitError, match="which the fold 'noises' tests"):
        embedkit.fit(store, ["ce"], **options)
    (marked,) = embedkit.fit(store, ["ce"], allow_leak=True, **options)
    assert marked.metrics["leak"] is True


@pytest.mark.parametrize("folds", ["random", "split"])
def test_stores_of_other_folds_go_back_as_well(
    folds: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    manifest = corpus.with_name("no-dev-again.csv")
    lines = corpus.read_text().splitlines()
    parts = ["train"] * 12 + ["test"] * 4
    rows = [f"{lines[0]},split", *(f"{a},{b}" for a, b in zip(lines[1:], parts, strict=True))]
    manifest.write_text("\n".join(rows))
    record = fit(
        manifest, checkpoints["hubert"], tmp_path / "runs", "finetune", folds=folds, epochs=1, save_encoder=True
    )
    stores = extract_folds(record, manifest, tmp_path)
    options = {**QUICK, "folds": folds, "epochs": 1}
    (cached,) = embedkit.fit(stores, ["ce"], runs=tmp_path / "cached", **options)
    assert cached.metrics["utterances"] == record.metrics["utterances"]


def test_encoders_are_kept_of_a_run_that_was_there_without_them(
    corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    first = train_once(corpus, checkpoints["hubert"], tmp_path)
    again = fit(corpus, checkpoints["hubert"], tmp_path, "finetune", ["ccc"], encoder_lr=1e-3, save_encoder=True)
    assert first.folder == again.folder
    assert len(list((again.folder / "encoders").iterdir())) == SPEAKERS


@pytest.mark.parametrize(
    "family",
    mark_cases(["hubert", "whisper", "vggish-scratch", "emotion2vec"], {"hubert", "vggish-scratch"}.__contains__),
)
def test_a_run_that_kept_its_encoders_is_found_again_and_one_that_lost_their_weights_is_not(
    family: str, corpus: Path, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    encoder = checkpoints.get(family, family)
    if family == "emotion2vec":
        encoder = write_published(tmp_path / "tiny" / "model.pt", random_weights())
    told: list[str] = []
    options: dict[str, Any] = {"encoder_lr": 1e-3, "epochs": 1, "save_encoder": True, "tell": told.append}
    record = fit(corpus, encoder, tmp_path / "runs", "finetune", **options)
    fit(corpus, encoder, tmp_path / "runs", "finetune", **options)
    assert "fitted before" in told[-1]
    weights = next((record.folder / "encoders").glob("*/*.safetensors"))
    weights.unlink()
    fit(corpus, encoder, tmp_path / "runs", "finetune", **options)
    assert "fitted before" not in told[-1]
    assert weights.is_file()
