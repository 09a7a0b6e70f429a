"""The study's numbers: shown with what each of them was, never beside the demo, never marked as best."""

from typing import Any

import pytest

from embedkit.reporting import build_table
from embedkit.reporting.published import ACCURACIES, published_encoder, published_system


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


@pytest.mark.parametrize(
    ("encoder", "name"),
    [
        ("hubert", "hubert"),
        ("facebook/hubert-base-ls960@dba3bb0", "hubert"),
        ("/models/wav2vec2-base/", "wav2vec2"),
        ("microsoft/wavlm-base-plus", "wavlm"),
        ("openai/whisper-large-v3", "whisper-large-v3"),
        ("microsoft/wavlm-base", "wavlm-base"),
        ("hubert+mfcc", None),
        ("mfcc", None),
    ],
)
def test_published_encoders_are_recognised(encoder: str, name: str | None) -> None:
    assert published_encoder(encoder) == name


@pytest.mark.parametrize("format", ["text", "markdown", "latex", "html"])
def test_benchmarks_stand_beside_the_same_encoder_each_with_its_protocol(make_row: Any, format: str) -> None:
    rows = [make_row(corpus="iemocap", encoder=encoder, wa=0.6) for encoder in ("mfcc", "hubert", "wavlm")]
    drawn = build_table(rows, metric="wa", published=True).render(format)
    part = drawn[drawn.index("Published by others") :]
    assert all(part.count(number) == 1 for number in ("64.92", "63.87", "63.10", "63.45", "67.98"))
    assert "63.43" not in part
    assert part.index("[1] SUPERB" if format == "text" else "SUPERB, Yang") < part.index("EmoBox, Ma")
    flat = " ".join(part.split())
    assert "linear head; session folds, but chosen on a random share of the training speakers" in flat
    assert not any(mark in part.replace("**", "BOLD") for mark in ("BOLD", "textbf", "<strong>", "92*", "98*"))
    assert "of another corpus" not in flat
    elsewhere = " ".join(build_table([make_row(encoder="hubert")], published=True).render(format).split())
    assert "the runs above are of another corpus" in elsewhere
    assert "Published by others" not in build_table([make_row(encoder="mfcc")], published=True).render(format)
