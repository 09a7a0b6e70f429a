"""The study's numbers: shown with what each of them was, never beside the demo, never marked as best."""

from typing import Any

import pytest

from embedkit.reporting import build_table
from embedkit.reporting.published import ACCURACIES, published_system


def test_all_numbers_and_notes_are_shown(make_row: Any) -> None:
    text = str(build_table([make_row(corpus="iemocap", encoder="hubert")], published=True))
    for values in ACCURACIES.values():
        assert all(f"{value:.2f}" in text for value in values)
    flat = " ".join(text.split())
    for part in (
        "two classes (improvised or scripted",
        "validation accuracy (test: 58.99)",
        "scored on a layer that the AAM loss never trains",
        "random 70/15/15 split",
        "No two rows are comparable",
        "--metric wa",
    ):
        assert part in flat
    assert "81.41*" not in text


def test_our_counterpart_is_named(make_row: Any) -> None:
    text = str(build_table([make_row(corpus="iemocap", encoder="facebook/hubert-base-ls960")], published=True))
    assert "Nearest here: HuBERT: hubert-base-ls960 with linear." in " ".join(text.split())
    none = str(build_table([make_row(corpus="iemocap", encoder="whisper-base")], published=True))
    assert "No run here has an encoder of the study." in " ".join(none.split())


@pytest.mark.parametrize(
    ("encoder", "head", "system"),
    [
        ("mfcc", "lstm", "LSTM"),
        ("mfcc", "linear", None),
        ("logmel", "cnn", "VGGish"),
        ("vggish", "mlp", "VGGish"),
        ("wav2vec2-large", "linear", "wav2vec 2.0"),
        ("facebook/wav2vec2-base", "linear", "wav2vec 2.0"),
        ("/models/hubert-large/", "superb", "HuBERT"),
        ("whisper-base", "linear", None),
    ],
)
def test_systems_are_recognised(encoder: str, head: str, system: str | None) -> None:
    assert published_system({"encoder": encoder, "head": head}) == system


def test_the_demo_never_stands_beside_published_numbers(make_row: Any) -> None:
    demo = make_row(corpus="demo", demo=True, encoder="hubert")
    alone = str(build_table([demo], published=True))
    assert "81.41" not in alone
    assert "not shown beside published numbers" in " ".join(alone.split())
    mixed = str(build_table([demo, make_row(corpus="iemocap")], published=True))
    assert "81.41" in mixed
    assert "demo (synthetic" not in mixed
