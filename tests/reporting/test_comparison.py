"""What is compared with what, by which predictions, and what a table shows of it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from embedkit.evaluation.metrics import concordance_correlation, unweighted_average_recall
from embedkit.reporting import build_table
from embedkit.reporting.comparison import compare_runs
from embedkit.reporting.marks import _split

Write: TypeAlias = Callable[..., Path]
CLASSES = ("anger", "neutral", "sadness")
PER_SPEAKER = 12


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write predictions of which a given share of every speaker's utterances is right, and others by chance."""

    def make(name: str, share: float, *, speakers: int = 10, seeds: int = 2, **changes: Any) -> Path:
        path = tmp_path / f"{name}.csv"
        random = np.random.default_rng(0)
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "speaker", "session", "label", "fold", "seed", "predicted"])
            for seed in range(seeds):
                for speaker in range(speakers):
                    for place in range(PER_SPEAKER):
                        truth = CLASSES[place % 3]
                        right = (place + speaker) % PER_SPEAKER < share * PER_SPEAKER
                        found = truth if right else CLASSES[(place + 1 + int(random.integers(2))) % 3]
                        speaker_name = changes.get("speaker_name", f"s{speaker}")
                        writer.writerow(
                            [
                                f"{changes.get('prefix', 'u')}{speaker},{place}",
                                speaker_name,
                                "",
                                truth,
                                f"f{place % changes.get('folds', PER_SPEAKER)}",
                                seed,
                                found,
                            ]
                        )
        return path

    return make


def recall_of(path: Path) -> float:
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    scores = []
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        truth, found = ([CLASSES.index(row[name]) for row in own] for name in ("label", "predicted"))
        scores.append(unweighted_average_recall(truth, found, 3))
    return float(np.mean(scores))


def study(
    make_row: Any, write: Write, shares: Mapping[tuple[str, str], float], **options: Any
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Write a run for every encoder and loss."""
    rows, paths = [], []
    for (encoder, loss), share in shares.items():
        paths.append(write(f"{encoder}-{loss}", share, **options))
        rows.append(make_row(encoder=encoder, loss=loss, classes=list(CLASSES), ua=recall_of(paths[-1]), ua_std=0.0))
    return rows, paths


SHARES = {
    ("mfcc", "ce"): 0.4,
    ("mfcc", "aam"): 0.4,
    ("mfcc", "ccc"): 0.9,
    ("hubert", "ce"): 0.8,
    ("hubert", "aam"): 0.5,
    ("hubert", "ccc"): 0.8,
}


def marks_of(text: str, columns: int) -> list[list[str]]:
    """Return the lines of marks, cell by cell: those that start with blanks and stand below numbers."""
    lines = text.splitlines()
    return [
        re.split(r"\s{2,}", line.strip())
        for above, line in pairwise(lines)
        if re.search(r"\d\.\d", above) and line.startswith("  ")
    ]


def test_losses_against_cross_entropy_and_encoders_against_each_other(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    compared = dict(zip(SHARES, compare_runs(rows, paths), strict=True))
    told = {
        key: [
            (test.family, test.against.encoder, test.against.loss, test.differs)
            for test in one.differences
            if test.family != "best"
        ]
        for key, one in compared.items()
    }
    assert told == {
        ("mfcc", "ce"): [("encoders", "hubert", "ce", True)],
        ("mfcc", "aam"): [("losses", "mfcc", "ce", False), ("encoders", "hubert", "aam", told["mfcc", "aam"][1][3])],
        ("mfcc", "ccc"): [("losses", "mfcc", "ce", True), ("encoders", "hubert", "ccc", told["mfcc", "ccc"][1][3])],
        ("hubert", "ce"): [("encoders", "mfcc", "ce", True)],
        ("hubert", "aam"): [("losses", "hubert", "ce", True), ("encoders", "mfcc", "aam", told["mfcc", "aam"][1][3])],
        ("hubert", "ccc"): [("losses", "hubert", "ce", False), ("encoders", "mfcc", "ccc", told["mfcc", "ccc"][1][3])],
    }
    for key, one in compared.items():
        for test in one.differences:
            own = rows[list(SHARES).index(key)]["ua"]
            other = rows[list(SHARES).index((test.against.encoder, test.against.loss))]["ua"]
            assert test.difference == pytest.approx(own - other, abs=1e-12)
            assert test.comparisons == (1 if test.family == "encoders" else 2)
            assert test.ci is not None
            assert test.ci[0] < test.difference < test.ci[1]
            assert (test.p < 0.01) <= (test.ci[0] * test.ci[1] > 0) <= (test.p < 0.2)
            assert (test.speakers, test.swaps, test.exact) == (10, 1024, True)
            assert test.smallest_p_adjusted == test.comparisons * 2 / 2**10 <= test.p_adjusted


def test_marks_stand_below_their_numbers(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    text = str(build_table(rows, predictions=paths))
    first, second = marks_of(text, 3)
    assert (first[0], second[0]) == ("b", "a")
    assert [mark[0] for mark in first[1:]] == ["~", ">"]
    assert [mark[0] for mark in second[1:]] == ["<", "~"]
    flat = " ".join(text.split())
    assert "Marks: < below, > above, ~ not significant (n.s.), against ce in its row; differences between rows" in flat
    assert "rows that share a letter under a loss are not significant (n.s.)." in flat
    assert "all 1,024 swaps of predictions within 10 speakers" in flat
    assert "minimum possible p 0.002, after Holm 0.0039 (losses), 0.002 (encoders)" in flat
    assert max(map(len, text.splitlines())) <= 80
    assert str(build_table(rows)) == str(build_table(rows, predictions=[None] * len(rows)))
    assert "Marks" not in str(build_table(rows, predictions=paths, metric="wa"))
    everything = str(build_table(rows, predictions=paths, metric="all"))
    assert [everything.count(start) for start in ("Marks:", "Tests of UAR:", "Protocol:")] == [1, 1, 1]


def test_marks_fit_in_eighty_columns_under_five_losses(make_row: Any, write: Write) -> None:
    losses = ("ce", "label-smoothing", "focal", "aam", "ccc")
    shares = {(encoder, loss): 0.5 for encoder in ("wav2vec2-large", "hubert-large") for loss in losses}
    rows, paths = study(make_row, write, shares)
    rows = [{**row, "ua_std": 0.004, "head": "attentive"} for row in rows]
    text = str(build_table(rows, predictions=paths, published=True))
    assert max(map(len, text.splitlines())) <= 80
    assert [len(line) for line in marks_of(text, 5)] == [5, 5]


def test_with_too_few_speakers_nothing_is_marked_and_the_table_says_so(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES, speakers=5)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "Marks" not in text
    assert (
        "With 5 speakers nothing can be significant, however large the difference, among 2 comparisons of losses "
        "(minimum possible p 0.062, after Holm 0.12) or 1 comparison of encoders "
        "(minimum possible p 0.062, after Holm 0.062)." in text
    )
    rows, paths = study(make_row, write, SHARES, speakers=6)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "rows that share a letter" in text
    assert "from ce" not in text
    assert "among 2 comparisons of losses (minimum possible p 0.031, after Holm 0.062); compare fewer runs" in text


def test_many_speakers_are_told_to_be_sampled(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES, speakers=17)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "Tests of UAR: 65,535 random swaps of predictions within 17 speakers" in text
    assert "minimum possible p 1.5e-05, after Holm 3.1e-05 (losses), 1.5e-05 (encoders)" in text


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prefix": "other"}, "its utterances, labels, speakers or seeds are not those of the others"),
        ({"seeds": 3}, "its utterances, labels, speakers or seeds are not those of the others"),
        ({"speaker_name": ""}, "does not name the speaker of every utterance"),
        (None, "cannot be read"),
        ("seed,id\n1,2\n", "cannot be read"),
        ("", "cannot be read"),
    ],
)
def test_runs_that_are_not_paired_are_named_with_the_reason(
    make_row: Any, write: Write, change: dict[str, Any] | str | None, reason: str
) -> None:
    rows, paths = study(make_row, write, SHARES)
    if isinstance(change, dict):
        paths[-1] = write("odd", 0.8, **change)
    elif change is None:
        paths[-1] = paths[-1].with_name("missing.csv")
    else:
        paths[-1].write_text(change)
    compared = compare_runs(rows, paths)
    assert reason in str(compared[-1].left_out)
    assert compared[-1].differences == []
    assert all(one.left_out is None for one in compared[:-1])
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "Not compared: hubert, linear, ccc:" in text


def test_an_incomplete_file_is_not_compared(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    paths[0].write_text("\n".join(paths[0].read_text().splitlines()[:-1]))
    assert "one prediction for each utterance and seed" in str(compare_runs(rows, paths)[0].left_out)


def test_the_order_of_rows_in_the_file_does_not_matter(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    before = compare_runs(rows, paths)
    header, *lines = paths[0].read_text().splitlines()
    paths[0].write_text("\n".join([header, *lines[::-1]]))
    assert compare_runs(rows, paths) == before


def test_protocols_are_never_compared_across(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    rows[3:] = [{**row, "folds": "random"} for row in rows[3:]]
    families = {test.family for one in compare_runs(rows, paths) for test in one.differences}
    assert families == {"losses", "best"}


def test_heads_of_an_encoder_are_a_family_and_layers_none(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, {("mfcc", "ce"): 0.4, ("mfcc", "aam"): 0.5, ("hubert", "ce"): 0.8})
    rows[1] = {**rows[1], "loss": "ce", "loss_options": {}, "head": "mlp"}
    assert sorted(test.family for one in compare_runs(rows, paths) for test in one.differences) == [
        *["encoders"] * 4,
        *["heads"] * 2,
    ]
    layers = [{**row, "layer": layer} for layer, row in enumerate(rows)]
    assert not any(one.differences for one in compare_runs(layers, paths))


def test_letters_are_shared_where_nothing_differs() -> None:
    one, two, three, four = (("e", str(number), "ce") for number in range(4))
    groups = [{one, two, three, four}]
    for pair in [(one, three), (one, four), (two, four), (four, one)]:
        groups = _split(groups, *pair)
    assert sorted(map(sorted, groups)) == [[one, two], [two, three], [three, four]]


def test_dimensions_are_compared_by_their_mean_ccc(make_row: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth = random.standard_normal((90, 2))
    rows, paths, scores = [], [], []
    for name, noise in (("mfcc", 2.0), ("hubert", 0.3)):
        predicted = truth + noise * random.standard_normal((2, 90, 2))
        scores.append(concordance_correlation(np.moveaxis(predicted, -1, -2), truth.T).mean())
        paths.append(tmp_path / f"{name}.csv")
        with open(paths[-1], "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(
                ["id", "speaker", "fold", "seed", "valence", "predicted_valence", "arousal", "predicted_arousal"]
            )
            for seed in range(2):
                for place in range(90):
                    pairs = zip(truth[place], predicted[seed, place], strict=True)
                    values = [value for pair in pairs for value in pair]
                    writer.writerow([f"u{place}", f"s{place % 9}", f"f{place % 10}", seed, *values])
        numbers = {"ccc": scores[-1], "ccc_std": 0.0, "ccc_valence": 0.5, "ccc_arousal": 0.5}
        rows.append(
            make_row(encoder=name, loss="ccc-regression", classes=[], dimensions=["valence", "arousal"], **numbers)
        )
    (test,) = compare_runs(rows, paths)[1].differences
    assert (test.family, test.metric, test.differs) == ("encoders", "ccc", True)
    assert test.difference == pytest.approx(scores[1] - scores[0], abs=1e-9)
    assert marks_of(str(build_table(rows, predictions=paths)), 3) == [["b"], ["a"]]


def test_json_holds_every_test(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    records = json.loads(build_table(rows, predictions=paths, format="json").render())
    (record,) = [record for record in records if (record["encoder"], record["loss"]) == ("hubert", "aam")]
    loss, encoder = record["tests"]
    assert (loss["family"], encoder["family"]) == ("losses", "encoders")
    assert loss["ci"][0] < loss["difference"] < loss["ci"][1]
    assert loss["against"] == {"encoder": "hubert", "head": "linear", "loss": "ce"}
    for test in record["tests"]:
        assert test["smallest_p"] == 2 / 2**10 <= test["p"] <= test["p_adjusted"]
        assert test["differs"] == (test["p_adjusted"] <= 0.05)
    assert record["not_compared"] is None


class Cells(HTMLParser):
    """Collect what stands in every cell of the first table, and check that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []

    def handle_starttag(self, tag: str, attributes: Sequence[tuple[str, str | None]]) -> None:
        assert all(name not in ("src", "href") for name, _ in attributes)
        if tag != "meta":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_html_is_one_page_with_marks_and_best(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    rows = [{**row, "corpus": "<b>&"} for row in rows]
    page = build_table(rows, predictions=paths, format="html", published=True, spread="seeds").render()
    parser = Cells()
    parser.feed(page)
    assert parser.open == []
    assert parser.rows[0] == ["encoder", "head", "ce", "aam", "ccc"]
    assert {len(row) for row in parser.rows[:3]} == {5}
    assert re.fullmatch(r"[\d.]+ ±0.0 > [ab]", parser.rows[1][4])
    assert page.startswith("<!DOCTYPE html>")
    assert "<strong>" in page[: page.index("Published by the study")]
    assert "<strong>" not in page[page.index("Published by the study") :]
    assert "<b>" not in page
    assert re.search("<sup>&lt; [ab]</sup>", page)


def test_markdown_raises_marks(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    markdown = build_table(rows, predictions=paths, spread="seeds").to_markdown()
    (line,) = [line for line in markdown.splitlines() if line.startswith("| hubert")]
    assert re.search(r"\| [\d.]+ ±0\.0 <sup>\\< [ab]+</sup> \|", line)
    assert line.count("|") == 6


def test_latex_raises_marks_and_compiles_with_booktabs(make_row: Any, write: Write, tmp_path: Path) -> None:
    rows, paths = study(make_row, write, SHARES)
    rows = [{**row, "corpus": "my_corpus & 50 %"} for row in rows]
    latex = build_table(rows, predictions=paths, format="latex", published=True).render()
    assert re.search(r"\\textsuperscript\{\$<\$ [ab]+\}", latex)
    assert latex.count("\\toprule") == latex.count("\\bottomrule") == 3
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip("there is no pdflatex or tectonic to compile with")
    source = tmp_path / "table.tex"
    source.write_text(
        f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{latex}\n\\end{{document}}"
    )
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in compiler else []
    done = subprocess.run(
        [compiler, *options, source.name], cwd=tmp_path, capture_output=True, check=False, timeout=120
    )
    if b"booktabs.sty' not found" in done.stdout:
        pytest.skip("LaTeX is there, but not its package booktabs")
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "table.pdf").stat().st_size > 1000


@pytest.mark.parametrize("folds", [1, 5, 9])
def test_with_few_trained_systems_marks_need_seeds(make_row: Any, write: Write, folds: int) -> None:
    rows, paths = study(make_row, write, SHARES, folds=folds)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "Marks" not in text
    assert (
        "No marks: with fewer than 10 folds a test needs at least 3 seeds, better 5, and 2 speakers; there are 2 seeds "
        "and 10 speakers." in text
    )
    rows, paths = study(make_row, write, SHARES, folds=folds, seeds=3)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    systems = "1 trained system" if folds == 1 else f"{folds} trained systems"
    assert "luck that all seeds share, as that of one training set, no test here sees" in text
    assert (
        "Tests of UAR: t of the variance over 3 seeds (5 or more find more) and 10 speakers, 5 % after Holm: with "
        f"{systems} a seed, swaps would claim too much." in text
    )
    rows, paths = study(make_row, write, SHARES, folds=folds, seeds=5)
    assert "over 5 seeds and" in " ".join(str(build_table(rows, predictions=paths)).split())


@pytest.mark.parametrize(("folds", "seeds"), [(12, 2), (5, 3)])
def test_the_star_needs_a_difference_from_every_other_loss(make_row: Any, write: Write, folds: int, seeds: int) -> None:
    rows, paths = study(make_row, write, SHARES, folds=folds, seeds=seeds)
    text = str(build_table(rows, predictions=paths))
    assert text.count("*") == 2  # ccc of mfcc, and the note
    assert "its best is only the best on these test results" in " ".join(text.split())
    best = {row["encoder"]: row for row in build_table(rows, predictions=paths).rows if row["loss"] == "ccc"}
    (mfcc, hubert) = (
        [test["differs"] for test in best[name]["tests"] if test["family"] == "best"] for name in ("mfcc", "hubert")
    )
    assert (mfcc, len(hubert)) == ([True, True], 0)  # of equal ones, the first counts as the best


@pytest.mark.parametrize("folds", [12, 5])
def test_fitted_heads_are_compared_with_the_trained_one_that_was_best_on_inner_folds(
    make_row: Any, write: Write, folds: int
) -> None:
    shares = {("mfcc", "ce"): 0.6, ("mfcc", "aam"): 0.5, ("mfcc", "lda"): 0.9, ("mfcc", "knn"): 0.5}
    rows, paths = study(make_row, write, shares, folds=folds, seeds=3)
    rows[0]["ua_dev"], rows[1]["ua_dev"] = 0.4, 0.7
    for row in rows[2:]:
        row |= {"head": row["loss"], "loss": "own", "fitted": True, "ua_dev": 0.99, "loss_options": {}}
    (lda, knn) = (
        [test for test in one.differences if test.family == "probes"] for one in compare_runs(rows, paths)[2:]
    )
    assert [(test.against.head, test.against.loss, test.differs) for test in (*lda, *knn)] == [
        ("linear", "aam", True),
        ("linear", "aam", False),
    ]
    assert lda[0].comparisons == 2
    assert lda[0].ci is not None
    assert lda[0].ci[0] > 0
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    assert "of fitted heads, against the trained head that was best on inner folds (linear under aam)" in text


def test_fitted_heads_need_no_seeds_among_each_other(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, {("mfcc", "lda"): 0.9, ("mfcc", "knn"): 0.5}, folds=5, seeds=1)
    rows = [{**row, "head": row["loss"], "loss": "own", "loss_options": {}, "fitted": True} for row in rows]
    (test,) = compare_runs(rows, paths)[0].differences
    assert (test.family, test.method, test.differs) == ("heads", "t", True)
    trained = [{**rows[0], "fitted": False}, rows[1]]
    assert compare_runs(trained, paths)[0].differences[0].method == "none"


def test_the_power_is_told_with_the_speakers_and_seeds_it_is_of(make_row: Any, write: Write) -> None:
    rows, paths = study(make_row, write, SHARES)
    text = " ".join(str(build_table(rows, predictions=paths)).split())
    found = re.search(r"with these 10 speakers and 2 seeds a difference of 3 points is found in (\d+) % of all", text)
    assert found is not None
    powers = [test["power"] for row in build_table(rows, predictions=paths).rows for test in row["tests"]]
    assert 100 * min(powers) - 1 <= int(found[1]) <= 100 * max(powers) + 1
