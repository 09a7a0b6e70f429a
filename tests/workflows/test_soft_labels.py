"""Soft labels from a store's votes to the table: what is learned, how far it lies from annotators, and their line."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

import embedkit
from embedkit.errors import FitError, RunError
from embedkit.evaluation.annotators import leave_one_out, rater_concordance
from embedkit.evaluation.metrics import mean_recall
from embedkit.reporting.figures.panels import plan_panels
from embedkit.reporting.report.listings import list_intervals
from embedkit.training.runs import RunRecord, read_run
from tests.training.stores import LABELS, calibrated_shares, write_synthetic_store

QUICK: dict[str, Any] = {"seeds": 2, "epochs": 3, "batch_size": 16, "lr": 1e-2, "device": "cpu"}


def draw_votes(count: int, seed: int = 0, voters: int = 5) -> np.ndarray:
    """Draw votes `[count, classes]` around the labels of synthetic stores; nobody votes on the fourth utterance."""
    generator = np.random.default_rng(seed)
    votes = np.array([generator.multinomial(voters, 0.2 + 0.4 * row) for row in np.eye(3)[np.arange(count) % 3]])
    return np.where(np.arange(count)[:, None] == 3, np.nan, votes.astype(float))


def columns(votes: np.ndarray) -> dict[str, np.ndarray]:
    return {f"votes_{label}": own for label, own in zip(LABELS, votes.T, strict=True)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("soft")


@pytest.fixture(scope="module")
def runs(folder: Path) -> Sequence[RunRecord]:
    """Train three losses in one stack on a store with votes."""
    store = write_synthetic_store(folder / "tiny.h5", each=9, **columns(draw_votes(36)))
    return embedkit.fit(store, loss=["ce", "soft-ce", "aam"], runs=folder / "runs", **QUICK)


def rows_of(record: RunRecord) -> list[dict[str, str]]:
    with open(record.predictions_path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def shares_of(rows: Sequence[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p_{label}"]) for label in LABELS] for row in rows])


def test_soft_labels_come_out_as_if_trained_alone_and_labels_as_without_votes(
    folder: Path, runs: Sequence[RunRecord]
) -> None:
    plain = write_synthetic_store(folder / "plain" / "tiny.h5", each=9)
    (soft,) = embedkit.fit(folder / "tiny.h5", loss="soft-ce", runs=folder / "alone", **QUICK)
    hard = embedkit.fit(plain, loss=["ce", "aam"], runs=folder / "plain" / "runs", **QUICK)
    for first, second in ((runs[0], hard[0]), (runs[1], soft), (runs[2], hard[1])):
        # A run's name holds what determines it: votes are no part of what labels learn.
        assert first.folder.name == second.folder.name
        np.testing.assert_allclose(shares_of(rows_of(first)), shares_of(rows_of(second)), rtol=1e-4, atol=1e-5)
    assert not np.allclose(shares_of(rows_of(runs[0])), shares_of(rows_of(runs[1])), atol=1e-3)
    assert "kl" not in hard[0].metrics
    said: list[str] = []
    embedkit.fit(folder / "tiny.h5", loss="soft-ce", runs=folder / "alone", tell=said.append, **QUICK)
    assert said[-1].endswith("fitted before")
    assert said[0].startswith("Nobody voted for a class that takes part on 1 utterance of synthetic (u0003)")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_distances_are_those_of_the_predictions(runs: Sequence[RunRecord], place: int) -> None:
    record, votes = runs[place], draw_votes(36)
    found: dict[str, list[float]] = {"kl": [], "js": [], "kl_calibrated": [], "js_calibrated": []}
    for row in rows_of(record):
        counts = votes[int(row["id"][1:])]
        if np.isnan(counts).any():
            continue
        for suffix, own in (("", shares_of([row])[0]), ("_calibrated", np.array(calibrated_shares(record, row)))):
            found[f"kl{suffix}"].append(float(entropy(counts, np.maximum(own, np.finfo(float).eps))))
            found[f"js{suffix}"].append(float(jensenshannon(counts, own, base=2)))
    for name, values in found.items():
        assert len(values) == 70
        assert record.metrics[name] == pytest.approx(np.mean(values), rel=1e-4)
        low, high = record.metrics[f"{name}_ci"]
        assert low < record.metrics[name] < high


def test_annotators_stand_beside_the_scores(runs: Sequence[RunRecord]) -> None:
    found, alone = runs[0].metrics["annotators"], leave_one_out(np.delete(draw_votes(36), 3, 0))
    assert alone is not None
    assert (found["utterances"], found["compared"]) == (35, 35)
    assert found["ua"] == pytest.approx(float(mean_recall(alone.confusion)))
    assert (found["js"], found["alpha"]) == (pytest.approx(alone.distance), pytest.approx(alone.alpha))
    assert all(record.metrics["annotators"] == found for record in runs)


def test_the_table_shows_distances_and_the_line(folder: Path, runs: Sequence[RunRecord]) -> None:
    text = str(embedkit.table(folder / "runs", metric="kl", explain=True))
    flat = " ".join(text.split())
    assert "calibrated KL divergence from the annotators in nats, lower is better" in flat
    assert "Kullback-Leibler divergence of the probabilities from the annotators' shares" in flat
    assert "Guo et al. 2017" not in flat
    for record in runs:
        low, high = record.metrics["kl_calibrated_ci"]
        assert f"[{low:.3f}, {high:.3f}]" in flat
    assert flat.count("Annotators: one of them, each left out in turn, reaches UAR") == 1
    assert re.search(r"alpha -?\d\.\d{3} \(35 utterances\)\.", flat)
    assert "line that no system can be expected to pass" in flat
    distances = " ".join(str(embedkit.table(folder / "runs", metric="js")).split())
    assert "uncalibrated Jensen-Shannon distance to the annotators from 0 to 1, lower is better" in distances


def test_the_report_lists_them_with_intervals(runs: Sequence[RunRecord]) -> None:
    found = list_intervals(plan_panels(list(runs)))
    assert found.headers[-2:] == (
        "calibrated KL divergence from the annotators",
        "calibrated Jensen-Shannon distance to the annotators",
    )
    row = next(row for row in found.rows if row[2] == "soft-ce")
    assert row[-2].startswith(f"{runs[1].metrics['kl_calibrated']:.3f} [")


def test_ratings_stand_beside_what_one_rater_reaches(folder: Path) -> None:
    spread = {"valence_spread": np.full(24, 0.5), "raters": np.full(24, 4)}
    store = write_synthetic_store(folder / "rated.h5", each=6, **spread)
    (found,) = embedkit.fit(store, targets="valence", runs=folder / "rated", **QUICK)
    ratings = store.column("valence")
    known = rater_concordance(ratings, spread["valence_spread"], spread["raters"])
    assert found.metrics["annotators"] == {
        "utterances": 24,
        "compared": 24,
        "ccc_valence": pytest.approx(known),
        "ccc": pytest.approx(known),
    }
    assert f"reaches a CCC of {known:.3f} (valence)" in " ".join(str(embedkit.table([found])).split())


SPOILT: dict[str, Any] = {
    "text": {"utterances": 3, "compared": 0, "js": "0.3"},
    "list": [3],
    "number": 3,
    "lacking": {"utterances": 3, "compared": 3, "ua": 0.3},
    "empty": {"compared": 0},
}


@pytest.mark.parametrize("case", list(SPOILT))
def test_what_a_run_says_of_annotators_is_checked(runs: Sequence[RunRecord], tmp_path: Path, case: str) -> None:
    shutil.copytree(runs[0].folder, tmp_path / "run")
    file = tmp_path / "run" / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotators": SPOILT[case]}))
    with pytest.raises(RunError, match="is damaged"):
        read_run(tmp_path / "run")


def test_runs_without_votes_say_so(runs: Sequence[RunRecord]) -> None:
    plain = {name: value for name, value in runs[0].metrics.items() if not re.match("kl|js|annotators", name)}
    for metric in ("kl", "js"):
        with pytest.raises(RunError, match=rf"No run has '{metric}' .*: their corpora have no votes of annotators"):
            embedkit.table([plain], metric=metric)
    assert "Annotators:" not in str(embedkit.table([plain]))


def test_votes_are_missed_before_anything_is_trained(folder: Path) -> None:
    store = write_synthetic_store(folder / "lacking.h5", each=6)
    with pytest.raises(
        FitError, match=r"^The loss 'soft-ce' needs votes of annotators: .*votes_anger, votes_happ.*\.$"
    ):
        embedkit.fit(store, loss=["ce", "soft-ce"], runs=folder / "lacking", **QUICK)
    assert not (folder / "lacking").exists()
    with pytest.raises(FitError, match=r"The loss 'soft-ce' tells classes apart, but --targets names"):
        embedkit.fit(store, loss="soft-ce", targets="valence", runs=folder / "lacking", **QUICK)


@pytest.mark.parametrize("voted", [True, False])
def test_another_corpus_is_tested_with_its_own_votes_or_none(folder: Path, voted: bool) -> None:
    votes = columns(draw_votes(18, seed=1)) if voted else {}
    other = write_synthetic_store(folder / f"other{voted}.h5", corpus="other", speakers=3, each=6, seed=1, **votes)
    (found,) = embedkit.fit(folder / "tiny.h5", loss="soft-ce", test_on=other, runs=folder / "across", **QUICK)
    assert found.metrics["utterances"] == 18
    assert ("kl" in found.metrics) == voted
    if voted:
        assert found.metrics["annotators"]["utterances"] == 17


def test_losses_on_labels_and_on_votes_train_once_for_another_corpus(folder: Path) -> None:
    other = write_synthetic_store(folder / "third.h5", corpus="third", speakers=3, each=6, seed=2)
    done: list[tuple[float, int]] = []
    embedkit.fit(
        folder / "tiny.h5",
        loss=["ce", "soft-ce"],
        test_on=other,
        runs=folder / "once",
        progress=lambda heads, total: done.append((heads, total)),
        **QUICK,
    )
    assert done[-1][0] == done[-1][1]
