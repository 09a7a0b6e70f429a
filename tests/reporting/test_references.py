"""What is cited for a run."""

import re
from typing import Any

import pytest

from embedkit.corpora import CORPORA
from embedkit.encoders import ENCODERS
from embedkit.heads import HEADS
from embedkit.losses import LOSSES
from embedkit.registry import Registry
from embedkit.reporting.references import STANDARD, find_citations, read_references


def config(**changes: Any) -> dict[str, Any]:
    return {"corpus": "emodb", "encoder": "hubert", "head": "attentive", "loss": "focal", "store": {}} | changes


def keys(**changes: Any) -> dict[str, tuple[str, ...]]:
    return dict(find_citations(config(**changes), {}).keys)


@pytest.mark.parametrize("registry", [CORPORA, ENCODERS, HEADS, LOSSES], ids=lambda one: one.kind)
def test_every_key_of_a_catalogue_has_an_entry(registry: Registry) -> None:
    assert {key for name in registry for key in registry.cites(name)} <= read_references().keys()
    uncited = {name for name in registry if not registry.cites(name)}
    formats = {"audformat", "audb", "datasets", "manifest"} if registry is CORPORA else set()
    assert uncited == formats | set(STANDARD[registry.kind])


def test_entries_are_whole() -> None:
    for key, entry in read_references().items():
        assert re.fullmatch(r"@(article|inproceedings|misc)\{\w+,\n(  \w+ = \{.+\},\n)+\}", entry), key
        assert {"author", "title", "year"} <= set(re.findall(r"^  (\w+) =", entry, re.MULTILINE)), key
        assert entry.count("{") == entry.count("}"), key
        assert re.search(r"\d{4}", key)[0] == re.search(r"year = \{(\d+)\}", entry)[1], key  # type: ignore[index]


def test_parts_of_a_run() -> None:
    found = keys()
    assert found["corpus emodb"] == ("burkhardt2005",)
    assert found["encoder hubert"] == ("hsu2021",)
    assert found["head attentive"] == ("okabe2018",)
    assert found["loss focal"] == ("lin2017",)
    assert found["measures"] == ("schuller2009", "guo2017")
    assert keys(dimensions=["valence"])["measures"] == ("lin1989",)


def test_all_corpora_of_a_run_are_cited() -> None:
    found = keys(corpus="emodb+ravdess", pooled=["emodb", "ravdess"], test_corpus="tess (0123abcd)")
    assert {name for name in found if name.startswith("corpus")} == {"corpus emodb", "corpus ravdess", "corpus tess"}


def test_names_that_lead_to_references() -> None:
    emobox = keys(corpus="emobox-cremad")
    assert (emobox["corpus emobox-cremad"], emobox["corpus cremad"]) == (("ma2024emobox",), ("cao2014",))
    joined = keys(encoder="hubert+egemaps")
    assert joined["encoder egemaps"] == ("eyben2016", "eyben2010")
    by_id = keys(encoder="mine", store={"encoder": {"source": "openai/whisper-base@abc"}})
    assert by_id["encoder mine"] == ("radford2023",)
    assert "head linear" not in keys(head="linear")
    # The file of a store may be called as its owner likes.
    assert keys(encoder="mine", store={"encoder": {"name": "mfcc"}})["encoder mfcc"] == ("davis1980",)
    parts = [{"name": "mine", "source": "openai/whisper-base@abc"}, {"name": "mfcc"}]
    assert keys(encoder="x", store={"encoder": {"name": "mine+mfcc", "parts": parts}})["encoder mine"] == (
        "radford2023",
    )


def test_every_corpus_of_a_run_is_cited() -> None:
    found = find_citations(config(corpus="emodb+mine", pooled=["emodb", "mine"], test_corpus="emobox-cafe"), {})
    assert found.keys["corpus emodb"] == ("burkhardt2005",)
    assert found.keys["corpus emobox-cafe"] == ("ma2024emobox",)
    assert found.unknown == ("corpus mine", "corpus cafe")


def test_what_statistics_rest_on() -> None:
    assert keys()["intervals and tests"] == ("dersimonian1986", "satterthwaite1946", "tukey1958", "holm1979")
    rated = keys(dimensions=["valence"])
    assert rated["intervals and tests"] == ("satterthwaite1946", "tukey1958", "holm1979")
    assert "annotators" not in rated
    soft = find_citations(config(), {"annotators": {"alpha": 0.5}})
    assert soft.keys["annotators"] == ("kullback1951", "lin1991", "hayes2007")


def test_what_has_no_reference_is_named() -> None:
    text = str(find_citations(config(corpus="mine", head="own:Head", loss="ce"), {}))
    assert "% No reference is known for corpus mine and head own:Head." in text
    assert "% encoder hubert: hsu2021" in text
    assert text.count("@article{hsu2021,") == 1
