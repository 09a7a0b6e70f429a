"""Names as text: what is written of a value, which names look alike, which labels a pattern takes."""

from decimal import Decimal

import numpy as np
import pytest

from embedkit.corpora.texts import as_text, expand_merge, find_doubtful, fold_text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""), (float("nan"), ""), (np.float32("nan"), ""), ("nan", "nan"), ("None", "None"), ("NA", "NA"),
        (1.0, "1"), (-0.0, "0"), (0.5, "0.5"), (np.float32(0.1), "0.1"), (1e5, "100000"), ("1e5", "1e5"),
        ("007", "007"), (1234561.0, "1234561"), (20231015123456781, "20231015123456781"),
        (2.0**60, "1.152921504606847e+18"), (Decimal(20231015123456781), "20231015123456781"), (True, "True"),
        (float("inf"), "inf"), ("a\0b", "ab"),
    ],
)  # fmt: skip
def test_values_as_text(value: object, text: str) -> None:
    assert as_text(value) == text


@pytest.mark.parametrize(
    "name", ["ärger", "Ärger", " ÄRGER ", "a\u0308rger", "är\u200bger", "\ufeffärger", "är\u00adger", "ä\uff52ger"]
)  # fmt: skip
def test_names_that_look_alike_fold_to_one(name: str) -> None:
    assert fold_text(name) == "ärger"


def test_names_that_differ_do_not() -> None:
    assert len({fold_text(name) for name in ("p1", "p 1", "p01", "p-1", "arger", "ärger")}) == 6


def test_doubtful_names_are_told() -> None:
    values = ["Anger"] * 3 + ["anger"] * 2 + ["anger\u200b", "sadness", "sadness ", "nan", "None", "", "n/a", "joy"]
    alike, missing = find_doubtful("label", values)
    assert alike == (
        "2 labels are written in several ways, told apart by case, spaces or invisible characters alone ('Anger' (3) = "
        "'anger' (2) = 'anger\\u200b' (1); 'sadness' (1) = 'sadness ' (1)): --merge 'anger*=anger' counts them as one."
    )
    assert "The label is 'None' (1), 'n/a' (1), 'nan' (1)" in missing
    assert "--where 'label!=None,n/a,nan'" in missing
    assert list(find_doubtful("speaker", ["p1", "p2", "", "Nancy", "na\u0308"])) == []


LABELS = ["Happy", "HAPPINESS", "happy ", "hap*", "sad", "Sad\u200b", "anger"]


@pytest.mark.parametrize(
    ("merge", "expanded"),
    [
        ({"sad": "sadness"}, {"sad": "sadness"}),
        ({"SAD": "sadness"}, {"SAD": "sadness"}),
        ({"SAD*": "sadness"}, {"sad": "sadness", "Sad\u200b": "sadness"}),
        ({"sa?": "sad"}, {"Sad\u200b": "sad"}),
        ({"HAPP*": "joy"}, {"Happy": "joy", "HAPPINESS": "joy", "happy ": "joy"}),
        ({"hap*": "odd"}, {"hap*": "odd"}),
        ({"happ*": "joy", "Happy": "glee", "*ness": "bliss"}, {"Happy": "glee", "HAPPINESS": "joy", "happy ": "joy"}),
        ({"fear*": "fear"}, {"fear*": "fear"}),
        ({"[a-z]*": "x"}, {"[a-z]*": "x"}),
    ],
)
def test_patterns_of_labels(merge: dict[str, str], expanded: dict[str, str]) -> None:
    assert expand_merge(merge, LABELS) == expanded
