"""Names as text: how a value is written, and how texts are told apart that look alike."""

from __future__ import annotations

import fnmatch
import numbers
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from embedkit.wording import count_noun, list_some

MISSING_WORDS = frozenset({"", "nan", "none", "null", "na", "n/a", "#n/a", "<na>", "nat", "missing", "-"})
"""What programs write where a value is missing; here each is a text like any other, and told."""

_EXACT = 2.0**53
_INVISIBLE = ("Cc", "Cf", "Zl", "Zp")
_WILDCARDS = frozenset("*?")
_SHOWN = 3


def as_text(value: Any) -> str:
    """Write a value as the name that it is: whole numbers without a fraction, what is missing as "".

    >>> as_text(7.0), as_text(20231015123456781), as_text("007"), as_text(None)
    ('7', '20231015123456781', '007', '')
    """
    if value is None or value != value:
        return ""
    is_fraction = isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral)
    if is_fraction and float(value).is_integer() and abs(float(value)) < _EXACT:
        return str(int(value))
    return str(value).replace("\0", "")


def read_number(text: str) -> float | None:
    """Read a text that may be a number: NaN for words of a missing value, None for a name.

    >>> read_number("2.5"), read_number("1_000"), read_number("n/a")
    (2.5, None, nan)
    """
    if text.strip().lower() in MISSING_WORDS:
        return float("nan")
    # float() also takes "1_000", which is a name rather than a number.
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def fold_text(text: str) -> str:
    """Write what a reader sees of a text: no case, no invisible characters, single spaces, one Unicode form.

    >>> fold_text(" Anger\\u200b") == fold_text("anger")
    True
    """
    shown = (
        " " if character.isspace() else character
        for character in unicodedata.normalize("NFKC", text)
        if character.isspace() or unicodedata.category(character) not in _INVISIBLE
    )
    return " ".join(unicodedata.normalize("NFKC", "".join(shown).casefold()).split())


def expand_merge(merge: Mapping[str, str], labels: Iterable[str]) -> dict[str, str]:
    """Replace patterns by the labels that they match: `*` is any text, `?` one character, case and spaces aside.

    A name that is a label itself is taken as it stands, and wins over patterns; of these the first one. What matches no
    label is left as it is.
    """
    known = dict.fromkeys(labels)
    exact = {old: new for old, new in merge.items() if old in known or not _WILDCARDS & set(old)}
    expanded: dict[str, str] = {}
    for old, new in merge.items():
        matched = [] if old in exact else match_labels(old, known)
        if old not in exact and not matched:
            exact[old] = new
        for label in matched:
            if label not in exact and label != new:
                expanded.setdefault(label, new)
    return exact | expanded


def match_labels(pattern: str, labels: Iterable[str]) -> list[str]:
    """List the labels that a pattern matches."""
    folded = fold_text(pattern).replace("[", "[[]")
    return [label for label in labels if fnmatch.fnmatchcase(fold_text(label), folded)]


def looking_like(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Keep the names that look like one of others."""
    seen, found = {fold_text(other) for other in set(others)}, list(names)
    alike = {name for name in set(found) if fold_text(name) in seen}
    return [name for name in found if name in alike]


def find_doubtful(what: str, values: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for names that look alike, and one for words that stand for a missing value.

    Args:
        what: What the names are ("label", "speaker", ...), a column that `--where` knows.
        values: One for each utterance; empty ones count as missing.
    """
    counts = Counter(value for value in values if value)
    alike: dict[str, list[str]] = defaultdict(list)
    for name in sorted(counts):
        alike[fold_text(name)].append(name)
    groups = [names for names in alike.values() if len(names) > 1]
    if groups:
        told = "; ".join(" = ".join(_show(name, counts) for name in names) for names in groups[:_SHOWN])
        more = f"; and {len(groups) - _SHOWN:,} more" if len(groups) > _SHOWN else ""
        first = groups[0][0]
        remedy = f"--merge {fold_text(first) + '*=' + fold_text(first)!r} counts them as one" if what == "label" else (
            "write each in one way in the corpus"
        )  # fmt: skip
        yield (
            f"{_count(groups, what)} written in several ways, told apart by case, spaces or invisible characters alone "
            f"({told}{more}): {remedy}."
        )
    missing = [name for name in sorted(counts) if fold_text(name) in MISSING_WORDS]
    if missing:
        yield (
            f"The {what} is {list_some((_show(name, counts) for name in missing), _SHOWN)}: programs write this where "
            f"a value is missing, but here it is a {what} like any other. Leave the "
            f"utterance{'' if sum(counts[name] for name in missing) == 1 else 's'} out with --where "
            f"{f'{what}!=' + ','.join(missing)!r}, or correct the corpus."
        )


def _count(groups: list[list[str]], what: str) -> str:
    return f"{count_noun(len(groups), what)} {'is' if len(groups) == 1 else 'are'}"


def _show(name: str, counts: Mapping[str, int]) -> str:
    """Write a name with what cannot be seen in it escaped, and how often it occurs."""
    plain = "".join(
        character if character == " " or character.isprintable() else character.encode("unicode_escape").decode()
        for character in name
    )
    return f"{plain!r} ({counts[name]:,})".replace("\\\\", "\\")
