"""What docs/emodb.md says is what its runs found: every table, and every number of its prose."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.findings import PAGE, README, TABLES, TUTORIAL, find_shown, read_rows, render, render_summary, take

Row = dict[str, Any]
HEADS = {"mfcc": "MFCC", "logmel": "log-mel", "whisper-base": "Whisper-base"}


def find(runs: str, encoder: str, head: str, loss: str = "ce") -> Row:
    """Return the one row of this configuration."""
    (row,) = (
        row
        for row in read_rows()[runs]
        if (row["encoder"], row["head"], row["loss"]) == (encoder, head, "own" if head == "lda" else loss)
    )
    return row


def linear(encoder: str) -> list[Row]:
    """Return the trained heads of an encoder, a row for each loss."""
    return [row for row in read_rows()["speaker"] if (row["encoder"], row["head"]) == (encoder, "linear")]


def differences(rows: list[Row], family: str, against: str | None = None) -> list[Row]:
    """Return the tests of a family, of all or against one encoder."""
    found = [test for row in rows for test in row["tests"] if test["family"] == family]
    return [test for test in found if against in (None, test["against"]["encoder"])]


def points(value: float) -> str:
    """Write a share in points of a hundred."""
    return f"{100 * value:.1f}"


def span(values: list[float], form: Callable[[float], str] = points, to: str = " to ") -> str:
    """Write the smallest and the largest."""
    return f"{form(min(values))}{to}{form(max(values))}"


def say_encoders() -> str:
    """Compare Whisper-base with the others under every loss."""
    ahead = {name: differences(linear("whisper-base"), "encoders", name) for name in ("mfcc", "logmel")}
    assert all(test["differs"] for own in ahead.values() for test in own)
    count = sum(map(len, ahead.values()))
    told = {name: span([test["difference"] for test in own]) for name, own in ahead.items()}
    return (
        f"With `linear`, Whisper-base is {told['mfcc']} points of UAR ahead of MFCC and {told['logmel']} ahead of "
        f"log-mel, depending on the loss; all {count} differences are significant."
    )


def say_lda() -> str:
    """Compare the closed form with the best trained head."""
    rows = [find("speaker", name, "lda") for name in HEADS]
    assert not any(test["differs"] for test in differences(rows, "probes"))
    told = ", ".join(f"{points(row['ua'])} on {name}" for row, name in zip(rows, HEADS.values(), strict=True))
    return f"LDA reaches {told}."


def say_losses() -> str:
    """Count the differences between losses."""
    rows = [row for name in HEADS for row in linear(name)]
    found = [(test, row) for row in rows for test in row["tests"] if test["family"] == "losses"]
    assert not any(test["differs"] for test, _ in found)
    test, row = max(found, key=lambda pair: abs(pair[0]["difference"]))
    low, high = (points(end) for end in test["ci"])
    return (
        f"None of {len(found)} differences from cross-entropy is significant. The largest is "
        f"{points(test['difference'])} points, `{row['loss']}` on {HEADS[row['encoder']]}, with the interval "
        f"[{low}, {high}]."
    )


def say_calibration() -> str:
    """Compare likelihoods as trained and after temperatures."""
    told = []
    for name in HEADS:
        raw, scaled = ([row[key] for row in linear(name)] for key in ("nll", "nll_calibrated"))
        before, after = (span(values, "{:.2f}".format, "-") for values in (raw, scaled))
        told.append(f"from {before} to {after} on {HEADS[name]}")
    return f"One temperature for each fold and seed narrows the losses' NLL {', '.join(told)}."


def say_default() -> str:
    """Tell what the usual head of MFCC does."""
    rows = read_rows()["default"]
    best = max(rows, key=lambda row: row["ua"])
    usual = find("default", "mfcc", "lstm")
    step = 20 * usual["head_options"]["subsampling"]
    return (
        f"The LSTM reads steps of {step} ms and reaches {points(usual['ua'])} under cross-entropy and "
        f"{points(best['ua'])} under `{best['loss']}`."
    )


def say_words() -> str:
    """Tell what holding out the words as well costs."""
    lost = {
        head: [points(find("speaker", name, head)["ua"] - find("words", name, head)["ua"]) for name in HEADS]
        for head in ("linear", "lda")
    }
    first, *rest = (
        f"{one} and {other} points on {name}"
        for one, other, name in zip(lost["linear"], lost["lda"], HEADS.values(), strict=True)
    )
    return f"It costs `linear` and LDA {first}, {rest[0]}, and {rest[1]}."


SAID = [say_encoders, say_lda, say_losses, say_calibration, say_default, say_words]


def squeeze(text: str) -> str:
    """Write all white space as single blanks."""
    return " ".join(text.split())


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_runs(name: str) -> None:
    assert take(PAGE, name) == render(name)


def test_the_readme_shows_what_the_runs_found() -> None:
    assert take(README, "table") == render_summary()


def test_the_tutorial_shows_what_the_runs_found() -> None:
    expected = [f"{100 * row['ua']:.1f} ±{100 * row['ua_std']:.1f}" for row in find_shown().values()]
    assert re.findall(r"[\d.]+ ±[\d.]+", take(TUTORIAL, "table")) == expected


@pytest.mark.parametrize("say", SAID, ids=lambda say: say.__name__)
def test_sentences_with_numbers_are_those_of_the_runs(say: Callable[[], str]) -> None:
    assert say() in squeeze(PAGE.read_text(encoding="utf-8"))


def test_no_number_of_the_findings_stands_unchecked() -> None:
    text = squeeze(PAGE.read_text(encoding="utf-8").partition("## Findings")[2].partition("## The words")[0])
    for say in SAID:
        text = text.replace(say(), "")
    assert not re.findall(r"\d[\d.]*", text)
