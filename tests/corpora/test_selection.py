"""`COLUMN=VALUE` filters keep what they say."""

import math
from pathlib import Path

import pytest

from embedkit.corpora import Corpus, Utterance, select
from embedkit.errors import ConfigError, CorpusError, UnknownNameError


def make_corpus() -> Corpus:
    rows = [
        ("a", "anger", "improvised", 2.5, 1.0),
        ("b", "happiness", "scripted", 3.0, None),
        ("c", "sadness", "improvised", math.nan, 2.0),
        ("d", "anger", "", 2.0, None),
    ]
    items = tuple(
        Utterance(id=id_, path=f"{id_}.wav", label=label, start=start, columns={"style": style, "valence": valence})
        for id_, label, style, valence, start in rows
    )
    return Corpus(name="small", kind="manifest", root=Path(), utterances=items, notes=("kept",))


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ([], "abcd"),
        (["style=improvised"], "ac"),
        (["label=anger,happiness"], "abd"),
        (["label = anger , happiness"], "abd"),
        (["label!=anger"], "bc"),
        (["label!=anger,sadness"], "b"),
        (["style=improvised", "label=anger"], "a"),
        (["valence=2.50"], "a"),
        (["valence=2,3"], "bd"),
        (["valence!=nan"], "abd"),
        (["valence=nan"], "c"),
        (["start=1"], "a"),
        (["start!=1"], "bcd"),
        (["style="], "d"),
        (["style!="], "abc"),
        (["id=a,d"], "ad"),
    ],
)
def test_filters(where: list[str], kept: str) -> None:
    corpus = select(make_corpus(), where)
    assert "".join(item.id for item in corpus.utterances) == kept
    assert (corpus.name, corpus.notes) == ("small", ("kept",))


def test_unknown_columns_get_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Unknown column 'stile' of small\. Did you mean 'style'\? Known: .*valence"
    ):
        select(make_corpus(), ["stile=improvised"])


@pytest.mark.parametrize("text", ["style", "", "=x", "!=x"])
def test_what_is_no_filter_is_told(text: str) -> None:
    with pytest.raises(ConfigError, match="expected COLUMN=VALUE"):
        select(make_corpus(), [text])


def test_words_do_not_compare_with_numbers() -> None:
    with pytest.raises(ConfigError, match="valence holds numbers"):
        select(make_corpus(), ["valence=high"])


def test_nothing_left_names_what_is_there() -> None:
    with pytest.raises(CorpusError, match=r"'style=acted'; style holds , improvised, scripted there"):
        select(make_corpus(), ["style=acted"])
    with pytest.raises(CorpusError, match=r"'label=happiness'; label holds anger, sadness there"):
        select(make_corpus(), ["style=improvised", "label=happiness"])
