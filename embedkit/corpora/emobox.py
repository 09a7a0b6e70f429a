"""EmoBox's metadata of 32 corpora (Ma et al., Interspeech 2024, https://github.com/emo-box/EmoBox), with its folds.

Layout: `data/<corpus>/fold_1/<corpus>_train_fold_1.jsonl` and `..._test_fold_1.jsonl` (and `..._valid_...`), with
`label_map.json` beside the folds (EMOVO's is `label_dict.json`); `.json` is read where `.jsonl` is missing. Audio: as
the lines say, below the folder that holds `data` ("downloads/<corpus>/...").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.corpora.base import Corpus, Reader, Task, Utterance, left_out_note, list_names, sort_utterances
from embedkit.corpora.spelled_paths import SpelledPaths
from embedkit.errors import CorpusError
from embedkit.received import MOST_TEXT, parse_json, read_object, read_text
from embedkit.wording import count_noun

WORDS = {
    "angry": "anger",
    "fearful": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
}
"""What its label maps call emotions, in the words of the other corpora."""

_MAPS = ("label_map.json", "label_dict.json")
_FOLD = re.compile(r"fold_(\d+)")
_SPEAKER = re.compile(r"<id=(?P<key>[^,>]*)[^>]*?,spk=(?P<speaker>[^,>]*)")
_SIDES = {"train": "train", "valid": "dev", "test": "test"}
_LEVELS_UP = 3


@dataclass(frozen=True)
class _Row:
    path: str
    code: str
    start: float | None
    end: float | None


def recognise(folder: Path) -> bool:
    """Tell whether a folder holds the folds of one corpus of EmoBox."""
    return _find_map(folder).is_file() and any(map(_FOLD.fullmatch, list_names(folder)))


def read_emobox(folder: Path) -> Corpus:
    """Read one corpus of EmoBox; labels are those of its label map, in the words of the other readers.

    With several folds the column `fold` is the one whose test set holds an utterance, for `--folds fold`; with one, the
    split is that of the fold, for `--folds split`, and what it trains on is without what it tests (PAVOQUE has 60
    stretches in both, under two keys). Speakers are those of `data.seg.wrd.stm`, where it is there and does not give
    every utterance one of its own (RESD, MER2023).

    Raises:
        CorpusError: a file that cannot be read, audio files that are missing, an utterance in the test sets of two
            folds, or on both sides of one.
    """
    dataset = folder.name
    folds = {found[1]: folder / name for name in list_names(folder) if (found := _FOLD.fullmatch(name))}
    sides = {
        number: {side: _read_side(place, dataset, side, number) for side in _SIDES} for number, place in folds.items()
    }
    shared = _leave_out_shared(next(iter(sides.values()))) if len(sides) == 1 else []
    rows = {key: row for parts in sides.values() for part in parts.values() for key, row in part.items()}
    if not rows:
        raise CorpusError(
            f"The folds in {str(folder)!r} name no utterance; expected {dataset}_train_fold_1.jsonl in them."
        )
    labels = _read_labels(_find_map(folder), {row.code for row in rows.values()})
    unknown = [key for key, row in rows.items() if row.code not in labels]
    known = {key: row for key, row in rows.items() if row.code in labels}
    tested = _find_tested(sides, folder)
    single = next(iter(sides.values())) if len(sides) == 1 else {}
    split = {key: _SIDES[side] for side, part in single.items() for key in part}
    root = _find_root(folder, next(iter(rows.values())).path)
    spelled = SpelledPaths(root)
    paths = {key: spelled.find(row.path) for key, row in known.items()}
    _require_audio(root, folder, paths.values())
    speakers = _read_speakers(folder)
    own = {key for key in known if key == f"{dataset}-{speakers.get(key)}"}
    speakers |= dict.fromkeys(own, "")
    utterances = sort_utterances(
        Utterance(
            id=key,
            path=paths[key],
            label=labels[row.code],
            speaker=speakers.get(key, ""),
            split=split.get(key, ""),
            start=row.start,
            end=row.end,
            columns={} if single else {"fold": tested.get(key, "")},
        )
        for key, row in known.items()
    )
    return Corpus(
        name=f"emobox-{dataset}",
        kind="emobox",
        root=root,
        utterances=utterances,
        task=Task(classes=tuple(sorted({one.label for one in utterances}))),
        notes=(
            f"EmoBox's own test sets: fit --folds {'split' if single else 'fold'}.",
            *left_out_note(unknown, f"utterance{{s}} whose label is not in {_find_map(folder).name}"),
            *left_out_note(shared, "utterance{s} to train on whose audio is in the test set, too"),
            *left_out_note(
                sorted(own), "speaker{s} that data.seg.wrd.stm calls by the utterance's own name", verb="Did not take"
            ),
            *left_out_note(
                [key for key in known if not speakers.get(key) and key not in own],
                "speaker{s} in data.seg.wrd.stm",
                verb="Did not find",
            ),
            *left_out_note(_find_other_files(folds, dataset), "file{s} in the folds", verb="Did not read"),
        ),
    )


def _find_map(folder: Path) -> Path:
    return next((file for name in _MAPS if (file := folder / name).is_file()), folder / _MAPS[0])


def _find_other_files(folds: Mapping[str, Path], dataset: str) -> list[str]:
    """List the tables in folds that are none of its sides, without those that are there in both forms."""
    found: dict[str, str] = {}
    for number, place in folds.items():
        read = {f"{dataset}_{side}_fold_{number}" for side in _SIDES}
        for name in list_names(place):
            if name.endswith((".json", ".jsonl")) and (stem := Path(name).stem) not in read:
                found[f"{place.name}/{stem}"] = f"{place.name}/{name}"
    return list(found.values())


def _leave_out_shared(parts: Mapping[str, dict[str, _Row]]) -> list[str]:
    """Take what is tested under another key out of what is trained on; return its keys."""
    tested = {(row.path, row.start, row.end) for row in parts["test"].values()}
    shared = [
        (side, key)
        for side in ("train", "valid")
        for key, row in parts[side].items()
        if (row.path, row.start, row.end) in tested and key not in parts["test"]
    ]
    return [key for side, key in shared if parts[side].pop(key)]


def _read_side(place: Path, dataset: str, side: str, number: str) -> dict[str, _Row]:
    stem = place / f"{dataset}_{side}_fold_{number}"
    for suffix in (".jsonl", ".json"):
        if (file := Path(f"{stem}{suffix}")).is_file():
            try:
                found = _read_lines(file) if suffix == ".jsonl" else read_object(file, MOST_TEXT)
                return {key: _read_row(row) for key, row in found.items()}
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                raise CorpusError(f"The split {str(file)!r} cannot be read ({_reason(error)}).") from error
    if side == "valid":
        return {}
    raise CorpusError(f"The fold {str(place)!r} has no {stem.name}.jsonl; copy the whole of EmoBox's data folder.")


def _read_lines(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for line in (parse_json(line) for line in read_text(file, MOST_TEXT).splitlines() if line.strip()):
        if line["key"] in found:
            raise ValueError(f"the key {line['key']!r} stands in two lines")
        found[line["key"]] = line
    return found


def _read_row(row: Mapping[str, Any]) -> _Row:
    start, end = (None if (value := row.get(name)) is None else float(value) for name in ("start_time", "end_time"))
    path, code = row["wav"], row["emo"]
    if not (isinstance(path, str) and isinstance(code, str)) or "\0" in path or ".." in path.split("/"):
        raise ValueError("a line has no text as wav or emo, or a path that leads elsewhere")
    if start is not None and end is not None and not start < end:
        raise ValueError(f"a segment of {path!r} ends at {end:g} s, before it starts at {start:g} s")
    return _Row(path, code, start, end)


def _reason(error: Exception) -> str:
    return f"a line has no {error}" if isinstance(error, KeyError) else str(error)


def _read_labels(file: Path, codes: Collection[str]) -> dict[str, str]:
    """Read the label of each code; one that the map spells in another case alone counts as that (EmoDB's neutral)."""
    try:
        found = read_object(file)
    except (OSError, ValueError) as error:
        raise CorpusError(f"The label map {str(file)!r} cannot be read ({error}).") from error
    words = {code: str(word).lower() for code, word in found.items() if word}
    folded: dict[str, set[str]] = defaultdict(set)
    for code, word in words.items():
        folded[code.lower()].add(word)
    words |= {code: min(folded[code.lower()]) for code in codes if code not in words and len(folded[code.lower()]) == 1}
    return {code: WORDS.get(word, word) for code, word in words.items()}


def _find_tested(sides: Mapping[str, Mapping[str, Mapping[str, _Row]]], folder: Path) -> dict[str, str]:
    """Say in which fold each utterance is tested; what is on both sides of a fold, or tested twice, is refused."""
    tested: dict[str, str] = {}
    for number, parts in sides.items():
        if not parts["test"]:
            raise CorpusError(f"Fold {number} in {str(folder)!r} tests no utterance; take EmoBox's own folds.")
        learned = {(row.path, row.start, row.end) for side in ("train", "valid") for row in parts[side].values()}
        both = {key for key, row in parts["test"].items() if (row.path, row.start, row.end) in learned}
        both |= parts["test"].keys() & (parts["train"].keys() | parts["valid"].keys())
        twice = both or parts["test"].keys() & tested.keys()
        if twice:
            told = (
                f"on both sides of fold {number}"
                if both
                else f"in the test sets of folds {tested[min(twice)]} and {number}"
            )
            raise CorpusError(
                f"The folds in {str(folder)!r} hold {count_noun(len(twice), 'utterance')} {told}, such as "
                f"{min(twice)!r}; take EmoBox's own."
            )
        tested |= dict.fromkeys(parts["test"], number)
    return tested


def _find_root(folder: Path, path: str) -> Path:
    """Return the folder that paths start from: the nearest above the corpus's that has their first part."""
    above = [folder, *folder.parents][: _LEVELS_UP + 1]
    first = path.split("/")[0]
    return next((place for place in above if (place / first).is_dir()), above[min(2, len(above) - 1)])


def _require_audio(root: Path, folder: Path, paths: Collection[str]) -> None:
    listed: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        inner, _, name = path.rpartition("/")
        if inner not in listed:
            listed[inner] = set(list_names(root / inner))
        if name not in listed[inner]:
            missing.append(path)
    if missing:
        raise CorpusError(
            f"The folds in {str(folder)!r} name {count_noun(len(missing), 'audio file')} of {len(paths):,} that "
            f"{'is' if len(missing) == 1 else 'are'} not below {str(root)!r}, such as {min(missing)!r}; put the corpus "
            "there."
        )


def _read_speakers(folder: Path) -> dict[str, str]:
    try:
        text = read_text(folder / "data.seg.wrd.stm", MOST_TEXT, errors="replace")
    except (OSError, ValueError):
        return {}
    return {found["key"]: found["speaker"] for found in _SPEAKER.finditer(text)}


READER = Reader(
    layout="EmoBox (label_map.json and fold_1)",
    recognise=recognise,
    read=read_emobox,
)
