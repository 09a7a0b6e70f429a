"""Cells of CSV: formulas are neutralised, every text comes back."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.cells import read_cell, write_cell


@given(st.one_of(st.text(), st.from_regex(r"'{0,3}[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20].{0,5}", fullmatch=True)))
def test_any_text_survives_and_none_is_a_formula(text: str) -> None:
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerow([write_cell(text), "x"])
    written, _ = next(csv.reader(io.StringIO(buffer.getvalue(), newline="")))

    assert read_cell(written) == text
    assert not written.startswith(("=", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"))


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1"]
)
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert write_cell(text) == "'" + text


@pytest.mark.parametrize("value", [-0.5, 3, None, "-0.5", "+1e-7", "a-b", "'quoted'", ""])
def test_numbers_and_other_texts_stay(value: object) -> None:
    assert write_cell(value) == value
