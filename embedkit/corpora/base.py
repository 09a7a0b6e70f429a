"""What every corpus reader returns: utterances with labels, speakers and sessions, and the standard task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from embedkit.showing import draw_facts
from embedkit.wording import count_noun, list_some

Value: TypeAlias = str | float


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One labelled stretch of speech: a whole file, or a segment of one.

    Attributes:
        id: Unique within the corpus.
        path: The audio file, relative to the corpus root where it lies below it (POSIX), else absolute.
        label: The emotion, in words ("anger"); never empty.
        speaker: Who is speaking; empty where unknown.
        session: The recording session; empty where the corpus has none.
        split: "train", "dev" or "test" where the corpus gives one, else empty.
        start, end: Segment in seconds within the file; None means the file's start or end.
        columns: Further columns (text, gender, ...); the same keys in every utterance of a corpus. Texts, whatever they
            look like: only ratings of a corpus that says so (valence, ...) are numbers.
    """

    id: str
    path: str
    label: str
    speaker: str = ""
    session: str = ""
    split: str = ""
    start: float | None = None
    end: float | None = None
    columns: Mapping[str, Value] = field(default_factory=dict)

    def value(self, column: str) -> Value | None:
        """Return a column by name, standard or further; None where there is no such column or value."""
        if column in STANDARD_COLUMNS:
            value: Value | None = getattr(self, column)
            return value
        return self.columns.get(column)


IDENTIFIERS = ("label", "speaker", "session", "split")
"""Standard columns of names, which stay texts whatever they look like, as ids and paths do."""

STANDARD_COLUMNS = ("id", "path", "label", "speaker", "session", "split", "start", "end")


@dataclass(frozen=True, kw_only=True)
class Task:
    """The standard classification task of a corpus.

    Attributes:
        classes: Labels that take part, after merging; empty means every label.
        merge: Labels that count as another ("excitement" -> "happiness").
    """

    classes: tuple[str, ...] = ()
    merge: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, repr=False)
class Corpus:
    """Utterances of one corpus, sorted by id.

    Attributes:
        name: Short name used in paths and tables ("iemocap", "emodb", the manifest's stem or folder, "demo").
        kind: The reader that made it ("iemocap", "emodb", "ravdess", "crema-d", "manifest").
        root: Folder that relative paths start from.
        utterances: All of them, also those outside the standard task.
        task: What `fit` takes as default.
        notes: What a user must be told, one sentence each (counts that differ from the published ones, ...).
        uses: What the columns of its table are used as ("emotion" -> "label"), in their order; those that are kept
            under their name are not among them.
        unread: Notes on audio files in its folders that were not read; a store does not keep them.
    """

    name: str
    kind: str
    root: Path
    utterances: tuple[Utterance, ...]
    task: Task = field(default_factory=Task)
    notes: tuple[str, ...] = ()
    uses: Mapping[str, str] = field(default_factory=dict)
    unread: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"<Corpus {self.name}: {count_noun(len(self.utterances), 'utterance')}>"

    def _repr_html_(self) -> str:
        labels = Counter(one.label for one in self.utterances)
        facts = {
            "kind": self.kind,
            "root": self.root,
            "utterances": f"{len(self.utterances):,}",
            "speakers": len({one.speaker for one in self.utterances} - {""}),
            "labels": list_some((f"{label} {count:,}" for label, count in labels.most_common()), 20),
            "notes": " ".join(self.notes),
        }
        return draw_facts(f"Corpus {self.name}", facts)

    def audio_path(self, utterance: Utterance) -> Path:
        """Return where the utterance's audio file lies."""
        return self.root / utterance.path
