"""IEMOCAP, the Interactive Emotional Dyadic Motion Capture Database (Busso et al., LREC 2008).

Labels: `Session*/dialog/EmoEvaluation/*.txt` alone, those of single annotators below each utterance's own; its
sub-folders hold them once more.
Audio: `Session*/sentences/wav/<dialogue>/<utterance>.wav`; `dialog/wav` holds whole dialogues.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from embedkit.corpora.base import (
    Corpus,
    Reader,
    Task,
    Utterance,
    Value,
    left_out_note,
    list_audio,
    list_names,
    relative_path,
    sort_utterances,
)
from embedkit.corpora.iemocap_counts import count_notes
from embedkit.corpora.iemocap_raters import Ratings, rater_columns
from embedkit.errors import CorpusError
from embedkit.received import read_text

LABELS = {
    "ang": "anger",
    "hap": "happiness",
    "exc": "excitement",
    "sad": "sadness",
    "neu": "neutral",
    "fru": "frustration",
    "fea": "fear",
    "sur": "surprise",
    "dis": "disgust",
    "oth": "other",
    "xxx": "undecided",
}
TASK = Task(classes=("anger", "happiness", "neutral", "sadness"), merge={"excitement": "happiness"})
DEMO_MARKER = "EMBEDKIT_DEMO.json"
DEMO_NOTE = "The demo corpus is synthetic and for trying out only: its numbers say nothing about real speech."

_SESSION = re.compile(r"Session\d+")
_UTTERANCE = re.compile(r"(?P<dialogue>(?P<session>Ses\d\d)[FM]_\w+)_(?P<letter>[FM])[A-Za-z0-9]*")
_LINE = re.compile(r"\[[^\]]*\]\s+(?P<id>\S+)\s+(?P<code>\S+)\s+\[(?P<ratings>[^\]]*)\]")
_SCRIPT = re.compile(r"_(script\d+(?:_\d+)?)")
_NUMBER = re.compile(r"\d+(\.\d*)?")


@dataclass(frozen=True)
class _Label:
    id: str
    code: str
    ratings: tuple[float, float, float]
    raters: Ratings = field(default_factory=Ratings, compare=False)


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds session folders of IEMOCAP."""
    return any((session / "dialog" / "EmoEvaluation").is_dir() for session in _sessions(folder))


def read_iemocap(folder: Path) -> Corpus:
    """Read every labelled utterance that has audio.

    The speaker is the session and the letter of the utterance's *last* token ("Ses01M" for `Ses01F_impro01_M000`);
    the session is "Ses01". Columns: valence, arousal, dominance (NaN where missing), gender, dialogue, style
    ("improvised" or "scripted"), script ("script01_1", played in every session; empty where improvised), and those of
    every annotator (`rater_columns`). The task is four classes with excitement merged into happiness.

    Raises:
        CorpusError: labels or audio are missing altogether, or an evaluation file cannot be read.
    """
    audio = _find_audio(folder)
    labels = list(_read_labels(folder))
    known: dict[str, _Label] = {}
    repeated = [label.id for label in labels if known.setdefault(label.id, label) != label]
    named = {key: match for key, item in known.items() if item.code in LABELS and (match := _UTTERANCE.fullmatch(key))}
    raters = rater_columns({key: known[key].raters for key in named if key in audio})
    utterances = sort_utterances(
        _utterance(known[key], match, audio[key], raters.get(key, {})) for key, match in named.items() if key in audio
    )
    if not utterances:
        raise CorpusError(
            f"The IEMOCAP folder {str(folder)!r} has {len(named):,} labels and {len(audio):,} sentence files, but no "
            "labelled file; expected Session1/sentences/wav/<dialogue>/<utterance>.wav and "
            "Session1/dialog/EmoEvaluation/<dialogue>.txt."
        )
    notes = (
        *left_out_note([key for key in named if key not in audio], "label{s} without audio"),
        *left_out_note([key for key in audio if key not in known], "audio file{s} without a label"),
        *left_out_note([key for key in known if key not in named], "label{s} whose emotion or name is unknown"),
        *left_out_note(repeated, "label{s} that contradicts an earlier one"),
    )
    if (folder / DEMO_MARKER).is_file():
        return _corpus("demo", folder, utterances, (DEMO_NOTE, *notes))
    return _corpus("iemocap", folder, utterances, (*count_notes(utterances, TASK, files=len(audio)), *notes))


def _corpus(name: str, folder: Path, utterances: tuple[Utterance, ...], notes: tuple[str, ...]) -> Corpus:
    return Corpus(name=name, kind="iemocap", root=folder, utterances=utterances, task=TASK, notes=notes)


def _sessions(folder: Path) -> list[Path]:
    return [folder / name for name in list_names(folder) if _SESSION.fullmatch(name)]


def _find_audio(folder: Path) -> dict[str, str]:
    """Map the utterances that have a sentence file to its path relative to the corpus."""
    found: dict[str, str] = {}
    for session in _sessions(folder):
        wavs = session / "sentences" / "wav"
        for dialogue in list_names(wavs):
            for name in list_audio(wavs / dialogue):
                # Sorted names put ".flac" before ".wav"; the official file wins.
                found[name[: name.rindex(".")]] = f"{relative_path(folder, wavs)}/{dialogue}/{name}"
    return found


def _read_labels(folder: Path) -> Iterator[_Label]:
    for session in _sessions(folder):
        evaluation = session / "dialog" / "EmoEvaluation"
        for name in list_names(evaluation):
            path = evaluation / name
            if name.startswith(".") or not name.lower().endswith(".txt") or not path.is_file():
                continue
            try:
                text = read_text(path, errors="replace")
            except OSError as error:
                raise CorpusError(f"Cannot read the labels in {str(path)!r} ({error.strerror}).") from error
            yield from _read_lines(text)


def _read_lines(text: str) -> Iterator[_Label]:
    latest: _Label | None = None
    for line in text.splitlines():
        if match := _LINE.fullmatch(line.strip()):
            if latest is not None:
                yield latest
            latest = _Label(match["id"], match["code"].lower(), _ratings(match["ratings"]))
        elif latest is not None:
            latest.raters.add(line)
    if latest is not None:
        yield latest


def _ratings(text: str) -> tuple[float, float, float]:
    """Parse "2.5, 3.0, nan" as valence, arousal, dominance; whatever is no number is NaN."""
    parts = [part.strip() for part in text.split(",")][:3]
    numbers = [float(part) if _NUMBER.fullmatch(part) else math.nan for part in parts]
    valence, arousal, dominance = numbers + [math.nan] * (3 - len(numbers))
    return valence, arousal, dominance


def _utterance(label: _Label, match: re.Match[str], path: str, raters: Mapping[str, Value]) -> Utterance:
    valence, arousal, dominance = label.ratings
    return Utterance(
        id=label.id,
        path=path,
        label=LABELS[label.code],
        speaker=match["session"] + match["letter"],
        session=match["session"],
        columns={
            "valence": valence,
            "arousal": arousal,
            "dominance": dominance,
            "gender": "female" if match["letter"] == "F" else "male",
            "dialogue": match["dialogue"],
            "style": _style(match["dialogue"]),
            "script": found[1] if (found := _SCRIPT.search(match["dialogue"])) else "",
            **raters,
        },
    )


def _style(dialogue: str) -> str:
    for token, style in (("_impro", "improvised"), ("_script", "scripted")):
        if token in dialogue:
            return style
    return ""


READER = Reader(
    layout="IEMOCAP (Session1/dialog/EmoEvaluation and Session1/sentences/wav)",
    recognise=recognise,
    read=read_iemocap,
    apart=("Session*/dialog/*",),
)
