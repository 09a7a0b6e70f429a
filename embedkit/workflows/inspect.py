"""Inspect: say what is in a store."""

from __future__ import annotations

import os
import textwrap
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.store import Store, open_store
from embedkit.store.noise import describe_noise
from embedkit.wording import count_noun, escape_controls, format_bytes

WIDTH = 80
_LABEL_WIDTH = 13
_SHOWN_FAILURES = 5


@dataclass(frozen=True, kw_only=True)
class StoreDescription:
    """What is in a store; `str()` writes it in 80 columns.

    Attributes:
        path, size: The file and its bytes.
        corpus, corpus_kind, corpus_root: Where the utterances come from.
        encoder: Everything that determines the numbers.
        layers, dimensions, frame_rate, levels, frame_dtype: What is kept of an utterance.
        utterances, hours, speakers, sessions: Counts, and the duration of all audio.
        labels: Utterances of each label, most frequent first.
        columns: Names of the columns.
        padded: Utterances that were shorter than the encoder's smallest input.
        failures: Utterances that could not be used: id -> reason.
        extraction: Plan, threads, device and options that it was made with.
        fingerprint, digest: Of what determines the numbers; of everything in the file.
    """

    path: Path
    size: int
    corpus: str
    corpus_kind: str
    corpus_root: str
    encoder: dict[str, Any]
    layers: tuple[int, ...]
    dimensions: int
    frame_rate: float
    levels: tuple[str, ...]
    frame_dtype: str | None
    utterances: int
    hours: float
    speakers: int
    sessions: int
    labels: dict[str, int]
    columns: tuple[str, ...]
    padded: int
    failures: dict[str, str]
    extraction: dict[str, Any]
    fingerprint: str
    digest: str

    def __str__(self) -> str:
        return self.render()

    def render(self) -> str:
        """Write the description as text, at most 80 columns wide."""
        lines = [escape_controls(self.path.name if len(str(self.path)) > WIDTH else str(self.path))]
        for name, value in self._rows():
            lines += textwrap.wrap(
                escape_controls(value),
                WIDTH,
                initial_indent=f"  {name:<{_LABEL_WIDTH}}",
                subsequent_indent=" " * (_LABEL_WIDTH + 2),
                break_on_hyphens=False,
            )
        return "\n".join(lines)

    def _rows(self) -> list[tuple[str, str]]:
        encoder = self.encoder
        frames = f"frames as {self.frame_dtype}" if self.frame_dtype else "no frames"
        labels = ", ".join(f"{label or '(none)'} {count}" for label, count in self.labels.items())
        counts = f"{self.utterances} of {count_noun(self.speakers, 'speaker')}"
        rate = f"{self.frame_rate:g} frames a second" if self.frame_rate else "one vector an utterance"
        layers = f"{_numbers(self.layers)}, {self.dimensions} dimensions each, {rate}"
        options = self.extraction.get("options", {})
        changed = ", rescaled (--rescale)" if options.get("rescale") else ""
        changed += f", with {describe_noise(options['noise'])}" if "noise" in options else ""
        rows = [
            ("corpus", f"{self.corpus} ({self.corpus_kind}), {self.corpus_root}"),
            ("encoder", f"{encoder.get('name', '?')} ({encoder.get('family', 'unknown family')})"),
            ("source", f"{encoder.get('source') or '-'}, revision {encoder.get('revision') or '-'}"),
            ("layers", layers),
            ("levels", f"{', '.join(self.levels)} ({frames})"),
            ("precision", f"{encoder.get('precision', '?')} on {self.extraction.get('device', '?')}{self._error()}"),
            ("utterances", f"{counts}, {count_noun(self.sessions, 'session')}" if self.sessions else counts),
            ("audio", f"{self.hours:.2f} hours{changed}"),
            ("labels", labels),
            ("columns", ", ".join(self.columns)),
            ("size", format_bytes(self.size)),
            ("padded", f"{count_noun(self.padded, 'utterance')}, to the encoder's smallest input"),
            ("failures", str(len(self.failures)) if self.failures else "none"),
        ]
        shown = list(self.failures.items())[:_SHOWN_FAILURES]
        rows += [("", f"{name}: {reason}") for name, reason in shown]
        if len(self.failures) > len(shown):
            rows.append(("", f"and {len(self.failures) - len(shown)} more, in /failures"))
        return rows

    def _error(self) -> str:
        """Say what the precision changes, where that was measured."""
        error = self.extraction.get("precision", {}).get("relative_error")
        return f" ({error:.1e} from fp32, by a few seconds)" if error else ""


def describe_store(path: str | os.PathLike[str]) -> StoreDescription:
    """Describe a store; no embeddings are read.

    Raises:
        StoreError: there is no such store, or it is damaged.
    """
    with open_store(path) as store:
        info = store.corpus_info
        return StoreDescription(
            path=store.path,
            size=store.size_bytes,
            corpus=store.corpus,
            corpus_kind=info.get("kind", "?"),
            corpus_root=info.get("root", "?"),
            encoder=store.encoder,
            layers=store.layers,
            dimensions=store.dimensions,
            frame_rate=store.frame_rate,
            levels=store.levels,
            frame_dtype=store.frame_dtype,
            utterances=len(store),
            hours=float(_column(store, "duration", 0.0).sum()) / 3600,
            speakers=len(set(store.speakers.tolist()) - {""}),
            sessions=len(set(store.sessions.tolist()) - {""}),
            labels=dict(Counter(store.labels.tolist()).most_common()),
            columns=store.columns,
            padded=int(_column(store, "padded", 0.0).sum()),
            failures=dict(store.failures),
            extraction=store.extraction,
            fingerprint=store.fingerprint,
            digest=store.digest,
        )


def _column(store: Store, name: str, missing: float) -> Any:
    import numpy as np

    return store.column(name) if name in store.columns else np.full(len(store), missing)


def _numbers(layers: tuple[int, ...]) -> str:
    """Write layer numbers, ranges shortened ("0-12")."""
    if len(layers) > 2 and layers == tuple(range(layers[0], layers[-1] + 1)):
        return f"{layers[0]}-{layers[-1]}"
    return ", ".join(map(str, layers))
