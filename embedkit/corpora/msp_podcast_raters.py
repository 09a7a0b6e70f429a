"""What every annotator of MSP-Podcast said: `Labels/labels_detailed.csv`, in the forms of its releases.

Since 2.0, and in 1.6, a row has columns EmoClass_Major, EmoClass_Second, EmoAct, EmoVal and EmoDom beside the
annotator's name; between them, all of it stands in one, EmoDetail: `WORKER01; Neutral; Neutral,Concerned; A:4.0; V:4.0;
D:4.0;`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from embedkit.corpora.base import Value
from embedkit.corpora.tables import number_or_nan, read_labels
from embedkit.corpora.votes import count_votes, measure_spread
from embedkit.errors import CorpusError

TABLE = Path("Labels") / "labels_detailed.csv"
PRIMARY = {
    "angry": "anger",
    "contempt": "contempt",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
}
"""What annotators choose one of; anything else they write is other."""

SECONDARY = {
    **PRIMARY,
    **{name: name for name in ("amused", "annoyed", "concerned", "confused", "depressed", "disappointed", "excited")},
    "frustrated": "frustrated",
}
"""What they choose any number of."""

OTHER = "other"

_COLUMNS = ("EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom")
_ATTRIBUTES = {"EmoVal": "valence", "EmoAct": "arousal", "EmoDom": "dominance"}
_DETAIL = re.compile(
    r"(?P<rater>[^;]*);(?P<EmoClass_Major>[^;]*);(?P<EmoClass_Second>.*?);\s*A:(?P<EmoAct>[^;]*);\s*V:(?P<EmoVal>[^;]*)"
    r";\s*D:(?P<EmoDom>[^;]*);?\s*",
    re.DOTALL,
)


def read_raters(folder: Path) -> dict[str, dict[str, Value]]:
    """Make columns of the annotators by the audio file's name; none where there is no such table.

    `raters` is how many there were, `votes_anger` how many named anger, `secondary_amused` how many named amusement
    among the secondary emotions, and `valence_spread` how far apart their ratings were.

    Raises:
        CorpusError: the table cannot be read.
    """
    file = folder / TABLE
    if not file.is_file():
        return {}
    found: dict[str, list[Mapping[str, str]]] = defaultdict(list)
    for number, row in enumerate(read_labels(file, ("FileName",)), start=2):
        found[row["FileName"]].append(_read_row(file, number, row))
    return {name: _columns(rows) for name, rows in found.items()}


def no_raters() -> dict[str, Value]:
    """Return the columns of an utterance that nobody rated."""
    return _columns([])


def _read_row(file: Path, number: int, row: Mapping[str, str]) -> Mapping[str, str]:
    if "EmoDetail" in row:
        match = _DETAIL.fullmatch(row["EmoDetail"])
        if match is None:
            raise CorpusError(f"Row {number} of the table {str(file)!r} has no classes and ratings in its EmoDetail.")
        return match.groupdict()
    if lacking := [name for name in _COLUMNS if name not in row]:
        raise CorpusError(f"The table {str(file)!r} has no column {', '.join(lacking)}, and no EmoDetail.")
    return row


def _columns(rows: list[Mapping[str, str]]) -> dict[str, Value]:
    named = [[PRIMARY.get(row["EmoClass_Major"].strip().lower(), OTHER)] for row in rows]
    second = [
        {SECONDARY.get(word.strip().lower(), OTHER) for word in row["EmoClass_Second"].split(",") if word.strip()}
        for row in rows
    ]
    return {
        "raters": float(len(rows)),
        **count_votes(named, (*PRIMARY.values(), OTHER)),
        **{f"secondary_{name}": float(sum(name in one for one in second)) for name in (*SECONDARY.values(), OTHER)},
        **measure_spread({name: [number_or_nan(row[key]) for row in rows] for key, name in _ATTRIBUTES.items()}),
    }
