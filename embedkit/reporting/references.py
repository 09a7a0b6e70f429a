"""What is cited for a run: entries of `references.bib` by the keys that the catalogues' parts carry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from embedkit.corpora import CORPORA
from embedkit.encoders import ENCODERS, split_name
from embedkit.encoders.published import TABLE
from embedkit.heads import HEADS
from embedkit.losses import LOSSES, OWN
from embedkit.training.runs import ZERO_SHOT
from embedkit.wording import list_words

STANDARD = {"head": ("linear", "mlp"), "loss": ("ce", OWN), "encoder": ("logmel",), "corpus": ("demo",)}
"""Parts that nobody need be cited for: textbooks have them, they are embedkit's own, or the head tells."""

OPTIMISER = "loshchilov2019"
OF_CLASSES, OF_ATTRIBUTES, OF_ANNOTATORS = ("schuller2009", "guo2017"), ("lin1989",), ("kullback1951", "lin1991")
"""UAR and calibration; concordance; distances to annotators, between whom alpha says how far they agree."""

ALPHA = "hayes2007"
OF_INTERVALS = ("satterthwaite1946", "tukey1958", "holm1979")
"""Intervals and tests of several runs, by a jackknife over speakers or by the model of them that classes have."""

OF_MODEL = "dersimonian1986"

_EMOBOX = "emobox-"
_ENTRY = re.compile(r"^@\w+\{(?P<key>[^,]+),.*?^\}$", re.DOTALL | re.MULTILINE)
_FILE = Path(__file__).with_suffix(".bib")


@cache
def read_references() -> Mapping[str, str]:
    """Return every entry by its key."""
    return {found["key"]: found[0] for found in _ENTRY.finditer(_FILE.read_text(encoding="ascii"))}


@dataclass(frozen=True, kw_only=True)
class Citations:
    """What is cited for a run; `str()` writes it as BibTeX.

    Attributes:
        keys: Keys of the entries by what they are cited for ("loss focal"), in order.
        unknown: Parts for which no reference is known ("corpus mine").
    """

    keys: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]

    def __str__(self) -> str:
        entries = read_references()
        told = [f"% {part}: {', '.join(keys)}" for part, keys in self.keys.items()]
        if self.unknown:
            told.append(f"% No reference is known for {list_words(self.unknown)}.")
        unique = dict.fromkeys(key for keys in self.keys.values() for key in keys)
        return "\n".join(told) + "".join(f"\n\n{entries[key]}" for key in unique)


def find_citations(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Citations:
    """Find what is cited for a run by its configuration and row: corpora, encoder, head, loss, and the statistics."""
    keys: dict[str, tuple[str, ...]] = {}
    unknown = []
    for kind, name, found in _parts(config):
        if found:
            keys[f"{kind} {name}"] = found
        elif name not in STANDARD[kind]:
            unknown.append(f"{kind} {name}")
    rated = bool(config.get("dimensions"))
    if config["loss"] not in (OWN, ZERO_SHOT):
        keys["optimiser AdamW"] = (OPTIMISER,)
    keys["measures"] = OF_ATTRIBUTES if rated else OF_CLASSES
    if metrics.get("annotators"):
        keys["annotators"] = (*OF_ANNOTATORS, ALPHA)
    keys["intervals and tests"] = OF_INTERVALS if rated else (OF_MODEL, *OF_INTERVALS)
    return Citations(keys=keys, unknown=tuple(unknown))


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    # A part of a corpus is called as in "msp-podcast (partition=Test2)".
    tested = str(config.get("test_corpus") or "").partition(" (")[0]
    for corpus in dict.fromkeys([*(config.get("pooled") or [str(config["corpus"])]), tested]):
        yield from _corpora(corpus) if corpus else ()
    yield from _encoders(str(config["encoder"]), config.get("store", {}).get("encoder", {}))
    if config["loss"] == ZERO_SHOT:
        return
    yield "head", str(config["head"]), HEADS.cites(str(config["head"]))
    yield "loss", str(config["loss"]), LOSSES.cites(str(config["loss"]))


def _corpora(corpus: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    if not corpus.startswith(_EMOBOX):
        yield "corpus", corpus, CORPORA.cites(corpus)
        return
    # EmoBox writes cremad and msppodcast.
    inner = corpus.removeprefix(_EMOBOX)
    own = next((CORPORA.cites(name) for name in CORPORA if name.replace("-", "") == inner), ())
    yield "corpus", corpus, CORPORA.cites("emobox")
    yield "corpus", inner, own


def _encoders(label: str, identity: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield the parts of an encoder by what it says of itself; a store may be called otherwise."""
    if identity.get("parts"):
        for part in identity["parts"]:
            yield from _encoders(str(part.get("name")), part)
        return
    published = {entry.source.partition("@")[0]: entry.cites for entry in TABLE.values()}
    own, source = str(identity.get("name") or label), str(identity.get("source", "")).partition("@")[0]
    for name in split_name(own, {}):
        yield (
            "encoder",
            name,
            ENCODERS.cites(name) or published.get(name.replace("--", "/"), ()) or published.get(source, ()),
        )
