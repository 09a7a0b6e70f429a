"""Tables of the report beside the main one: scores with intervals, stores and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedkit.reporting.figures.panels import Panel, is_cached
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.published import last_part

if TYPE_CHECKING:
    from embedkit.training.runs import RunRecord


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A table of texts.

    Attributes:
        headers, rows: Its texts.
        labels: How many columns are no numbers, the first ones.
        marks: Of every row what a script knows it by: its speaker, class, and clip.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int = 1
    marks: tuple[Mapping[str, str], ...] = ()


def list_intervals(panels: Sequence[Panel]) -> Listing:
    """List every score of every run with its interval."""
    names = list(
        dict.fromkeys(name for one in panels for run in one.runs.values() for name in SCORES[task_of(run.metrics)])
    )
    rows = []
    for panel in panels:
        for loss, record in panel.runs.items():
            rows.append(
                (last_part(panel.encoder), panel.head, loss, *(_write_interval(record.metrics, name) for name in names))
            )
    labels = [METRICS[name].label for name in names]
    return Listing(headers=("encoder", "head", "loss", *labels), rows=tuple(rows), labels=3)


def _write_interval(row: Mapping[str, Any], name: str) -> str:
    factor, decimals = (1, 3) if name == "ccc" else (100, 1)
    if row.get(name) is None:
        return "-"
    told = f"{factor * row[name]:.{decimals}f}"
    ends = row.get(f"{name}_ci")
    return f"{told} [{factor * ends[0]:.{decimals}f}, {factor * ends[1]:.{decimals}f}]" if ends else told


def list_stores(records: Sequence[RunRecord]) -> Listing:
    """List where the embeddings came from."""
    told = {}
    for record in records:
        for name in ("store", "test_store"):
            if name in record.config:
                store = record.config[name]
                mode = f"{'' if record.is_zero_shot else '--mode '}{record.config['mode']}"
                place = store["path"] if is_cached(record) else f"none, {mode}"
                told[place, store["digest"]] = store
    rows = []
    for (place, digest), store in told.items():
        encoder = store["encoder"]
        source = "@".join(str(encoder[name]) for name in ("source", "revision") if encoder.get(name))
        versions = ", ".join(f"{name} {version}" for name, version in (encoder.get("versions") or {}).items())
        weights = str(encoder.get("weights_digest") or "-")[:12]
        precision = str(encoder.get("precision", "-"))
        layers = ", ".join(map(str, encoder.get("layers", ())))
        rows.append((str(place), source, layers, weights, precision, versions, str(digest)[:12]))
    headers = (
        "store",
        "encoder's source",
        "layers",
        "digest of the weights",
        "precision",
        "versions",
        "digest of the data",
    )
    return Listing(headers=headers, rows=tuple(rows), labels=len(headers))


def list_versions(records: Sequence[RunRecord]) -> list[str]:
    """Tell with which versions runs were trained."""
    told = [
        ", ".join(f"{name} {version}" for name, version in (record.config.get("versions") or {}).items())
        for record in records
    ]
    return [text for text in dict.fromkeys(told) if text]
