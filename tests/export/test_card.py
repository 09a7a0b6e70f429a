"""The model card: what it says, as the Hub reads it, and names that steer nothing."""

from __future__ import annotations

import html
from dataclasses import replace
from typing import Any

import pytest
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from embedkit.export.card import render_card
from embedkit.export.predictor import Predictor
from embedkit.wording import escape_controls
from tests.export.predictors import random_predictor

RESULTS: dict[str, Any] = {
    "ua": 0.75, "ua_std": 0.0125, "ua_ci": [0.625, 0.875], "wa": 0.8, "wa_std": 0.0, "wa_ci": None,
    "recall_ci": [[0.5, 1.0], None, [0.25, 0.75]],
    "confusion": [[3.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 2.0]],
    "protocol": ["Protocol: emodb, 8 utterances, folds by speaker, 2 seeds."],
}  # fmt: skip


def describe(encoder: dict[str, Any], **config: Any) -> Predictor:
    predictor = random_predictor(["linear", "linear"], ratings=config.pop("ratings", False))
    own = {**predictor.config, "corpus": "emodb", "encoder": "e", "head": "linear", "loss": "ce", "mode": "cached"}
    store = {"encoder": {"name": "hubert", **encoder}}
    return replace(predictor, config={**own, "folds": {"kind": "speaker"}, "store": store, **config})


def card_of(predictor: Predictor, results: dict[str, Any], **how: Any) -> ModelCard:
    text = render_card(predictor, results, **{"place": "org/name", "checkpoint": True, **how})
    assert text.isprintable() or set(filter(lambda letter: not letter.isprintable(), text)) == {"\n"}
    return ModelCard(text)


def test_it_says_what_was_found_and_under_which_licences() -> None:
    source = {"source": "facebook/hubert-base-ls960", "weights_digest": "a"}
    card = card_of(describe(source), RESULTS)
    data = card.data.to_dict()
    assert (data["library_name"], data["license"], data["base_model"]) == (
        "embedkit", "apache-2.0", ["facebook/hubert-base-ls960"],
    )  # fmt: skip
    assert {"audio-classification", "speech-emotion-recognition"} <= set(data["tags"])
    uar = card.data.eval_results[0]
    assert (uar.metric_type, uar.metric_value, uar.dataset_name) == ("recall", 0.75, "emodb")
    assert uar.metric_name == "UAR, 95 % interval over speakers: 62.5 to 87.5 %"
    for line in (
        "| UAR | 75.0 % | 1.2 % | 62.5 to 87.5 % |",
        "| accuracy (WA) | 80.0 % | 0.0 % | - |",
        "| class | utterances | recall | 95 % interval over speakers | predicted anger | predicted fear "
        "| predicted sadness |",
        "|---|---|---|---|---|---|---|",
        "| anger | 4 | 75.0 % | 50.0 to 100.0 % | 3.0 | 1.0 | 0.0 |",
        "| fear | 0 | - | - | 0.0 | 0.0 | 0.0 |",
        "| encoder hubert (facebook/hubert-base-ls960) | Apache 2.0 |",
        "| corpus emodb | CC0 1.0, as audEERING publishes it with the original authors |",
        "- Protocol: emodb, 8 utterances, folds by speaker, 2 seeds.",
        "embedkit predict org/name my.wav",
    ):
        assert line in card.content.splitlines()
    assert "mean over 4 heads (folds by speaker: fold0, fold1; seeds: 0, 1)" in card.content
    assert "puts a classifier of random weights" in card.content
    assert "transformers" not in card_of(describe(source), RESULTS, checkpoint=False).text


def test_what_is_not_known_is_said() -> None:
    card = card_of(describe({"source": "weights", "weights_digest": "a"}, corpus="mine"), {})
    assert not {"license", "base_model", "model-index"} & set(card.data.to_dict())
    assert "| corpus mine | not known: see where it is from |" in card.content
    assert "| encoder hubert | not known: see where its weights are from |" in card.content
    assert "does not say what its heads scored" in card.content
    funasr = card_of(describe({"source": "emotion2vec/emotion2vec_base", "weights_digest": "a"}), {}).data
    assert (funasr.license, funasr.license_name) == ("other", "funasr-model-licence")


def test_scores_on_another_corpus_are_those_of_that_corpus() -> None:
    (uar, _) = card_of(describe({}), {**RESULTS, "test_corpus": "ravdess"}).data.eval_results
    assert (uar.dataset_name, uar.dataset_type) == ("ravdess", "ravdess")


def test_pooled_corpora_have_licences_of_their_own() -> None:
    card = card_of(describe({}, corpus="emodb+mine", pooled=["emodb", "mine"]), {})
    assert "| corpus emodb | CC0 1.0, as audEERING publishes it with the original authors |" in card.content
    assert "| corpus mine | not known: see where it is from |" in card.content


def test_ratings_have_their_own_scores() -> None:
    found = {"ccc": 0.5, "ccc_std": 0.01, "ccc_valence": 0.625, "ccc_valence_ci": [0.5, 0.75]}
    card = card_of(describe({"name": "mfcc"}, ratings=True), found)
    assert "| CCC of valence | 0.625 | - | 0.500 to 0.750 |" in card.content
    assert "print(found.dimensions)" in card.content
    assert "| encoder mfcc | no weights |" in card.content


HOSTILE = (
    "a\n---\nlicense: mit\n# b | <img src=x> [c](https://evil.example) `d` {{ 7 * 7 }} @e www.evil.example &lt;"
    ' *f* \x1b[2J "q'
)


@pytest.mark.parametrize("place", ["org/name", HOSTILE])
def test_names_steer_neither_markdown_nor_yaml(place: str) -> None:
    encoder = {"source": HOSTILE, "name": HOSTILE, "weights_digest": "a"}
    predictor = describe(encoder, corpus=HOSTILE, loss_spec=HOSTILE, classes=[HOSTILE, "b", "c"])
    card = card_of(predictor, {**RESULTS, "protocol": [HOSTILE]}, place=place)
    assert "license" not in card.data.to_dict()
    assert card.data.eval_results[0].dataset_name == escape_controls(HOSTILE)
    page = MarkdownIt("commonmark").enable("table").render(card.text)
    assert not any(tag in page for tag in ("<img", "<a ", "<code>d", "<em>"))
    assert [page.count(f"<{tag}") for tag in ("h1", "h2", "h3", "table", "tr", "pre")] == [1, 4, 1, 3, 10, 2]
    assert page.count(html.escape(escape_controls(HOSTILE))) == 9 + (place == HOSTILE)
    # Pages that link what looks like an address find none.
    assert "https://" not in card.text.split("## Use")[0]
    assert "www.evil" not in card.text.split("## Use")[0]
