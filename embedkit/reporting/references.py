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
OF_CLASSES, OF_ATTRIBUTES, OF_INTERVALS = ("schuller2009", "guo2017"), ("lin1989",), ("dersimonian1986", "holm1979")
"""UAR and calibration; concordance; intervals from a model of speakers, and tests of several runs."""

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


def find_citations(config: Mapping[str, Any]) -> Citations:
    """Find what is cited for a run by its configuration: corpus, encoder, head, loss, and the statistics."""
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
    keys["intervals and tests"] = OF_INTERVALS
    return Citations(keys=keys, unknown=tuple(unknown))


def _parts(config: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    tested = str(config.get("test_corpus") or "").partition(" (")[0]
    for corpus in dict.fromkeys(filter(None, [*map(str, config.get("pooled") or [config["corpus"]]), tested])):
        known, _, inner = corpus.partition("-") if corpus.startswith("emobox-") else (corpus, "", "")
        yield "corpus", corpus, (*CORPORA.cites(known), *CORPORA.cites(inner))
    identity = config.get("store", {}).get("encoder", {})
    sources = {entry.source.partition("@")[0]: entry.cites for entry in TABLE.values()}
    for name in split_name(str(config["encoder"]), {}):
        source = str(identity.get("source", "")).partition("@")[0]
        yield (
            "encoder",
            name,
            ENCODERS.cites(name) or sources.get(name.replace("--", "/"), ()) or sources.get(source, ()),
        )
    if config["loss"] == ZERO_SHOT:
        return
    yield "head", str(config["head"]), HEADS.cites(str(config["head"]))
    yield "loss", str(config["loss"]), LOSSES.cites(str(config["loss"]))
