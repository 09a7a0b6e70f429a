"""Tables of the report beside the main one: scores with intervals, stores and versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from embedkit.reporting.comparison import GAIN
from embedkit.reporting.figures.panels import Panel, is_cached
from embedkit.reporting.figures.recall import Read
from embedkit.reporting.labels import Place, Row, place_rows
from embedkit.reporting.marks import RANKED
from embedkit.reporting.metrics import METRICS, SCORES, task_of
from embedkit.reporting.published import last_part
from embedkit.wording import count_noun

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
    """List every score of every run with its interval, and its distance to annotators where there were any."""
    known = [run.metrics for one in panels for run in one.runs.values()]
    names = list(dict.fromkeys(name for row in known for name in SCORES[task_of(row)]))
    names += [name for name in ("kl_calibrated", "js_calibrated") if any(row.get(name) is not None for row in known)]
    rows = []
    for panel in panels:
        for loss, record in panel.runs.items():
            rows.append(
                (last_part(panel.encoder), panel.head, loss, *(_write_interval(record.metrics, name) for name in names))
            )
    labels = [METRICS[name].label for name in names]
    return Listing(headers=("encoder", "head", "loss", *labels), rows=tuple(rows), labels=3)


def list_recalls(panels: Sequence[Panel], read: Read) -> Listing | None:
    """List the recall of every class of every run with its interval, and how many speakers a class has."""
    rows, headers = [], {}
    for panel in panels:
        for loss, record in panel.runs.items():
            found = read(record)
            ends = record.metrics.get("recall_ci") or [None] * len(found.classes)
            speakers, hits = np.array(found.speakers), found.hits
            cells = []
            for place, (name, one) in enumerate(zip(found.classes, ends, strict=False)):
                own = found.truth == place
                recall = float(hits[:, own].mean()) if own.any() else None
                cells.append(_write_interval({"ua": recall, "ua_ci": one}, "ua"))
                headers[name] = f"{name} ({count_noun(len(set(speakers[own].tolist()) - {''}), 'speaker')})"
            if cells:
                rows.append((last_part(panel.encoder), panel.head, loss, *cells))
    told = ("encoder", "head", "loss", *headers.values())
    return Listing(headers=told, rows=tuple(rows), labels=3) if rows else None


def list_differences(rows: Sequence[Row]) -> Listing | None:
    """List every tested difference of the runs of one table once, from the better one, with its interval and both p."""
    lines = []
    for row, place in zip(rows, place_rows(rows), strict=True):
        for test in row.get("tests") or ():
            mirrored = test["family"] in RANKED and (test["difference"], _name(test["against"])) < (0, _name(place))
            if test["ci"] and not mirrored:
                difference = {test["metric"]: test["difference"], f"{test['metric']}_ci": test["ci"]}
                lines.append(
                    (
                        COMPARED[test["family"]],
                        ", ".join(_name(place)),
                        ", ".join(_name(test["against"])),
                        _write_interval(difference, test["metric"], "+"),
                        f"{test['p']:.2g}",
                        f"{test['p_adjusted']:.2g}",
                        f"{100 * test['power']:.0f} %",
                    )
                )
    size = f"power at {100 * GAIN:g} points" if rows and task_of(rows[0]) == "classes" else f"power at {GAIN}"
    headers = ("compared", "run", "against", "difference", "p", "p after Holm", size)
    return Listing(headers=headers, rows=tuple(lines), labels=3) if lines else None


COMPARED: Mapping[str, str] = {
    "losses": "losses",
    "encoders": "encoders",
    "heads": "heads",
    "probes": "fitted with trained heads",
    "best": "best loss with others",
}
"""What is said of families."""


def _name(place: Place | Mapping[str, str]) -> tuple[str, str, str]:
    names = asdict(place) if isinstance(place, Place) else place
    return last_part(names["encoder"]), names["head"], names["loss"]


def _write_interval(row: Mapping[str, Any], name: str, sign: str = "") -> str:
    factor, decimals = METRICS[name].factor, METRICS[name].decimals
    if row.get(name) is None:
        return "-"
    told, ends = f"{factor * row[name]:{sign}.{decimals}f}", row.get(f"{name}_ci")
    if not ends:
        return told
    return f"{told} [{', '.join(f'{factor * end:{sign}.{decimals}f}' for end in ends)}]"


def list_stores(records: Sequence[RunRecord]) -> Listing:
    """List where the embeddings came from."""
    told = {}
    for record in records:
        for name in ("store", "test_store"):
            if name in record.config:
                mode = f"{'' if record.is_zero_shot else '--mode '}{record.config['mode']}"
                for store in record.config[name].get("stores", [record.config[name]]):
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
