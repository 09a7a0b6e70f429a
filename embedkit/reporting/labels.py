"""Labels that tell rows and columns of a table apart: settings only where they differ."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a run stands in a table."""

    encoder: str
    head: str
    loss: str


def place_rows(rows: Sequence[Row]) -> list[Place]:
    """Label the runs of one protocol, so that no two of them share a place.

    Settings of heads and losses are shown where runs differ in them, as they are written on the command line
    (`focal:gamma=1.5`); then mode, precision and the store's fingerprint; runs that are alike in all that are numbered.
    """
    heads = label_parts(rows, "head")
    losses = label_parts(rows, "loss")
    encoders = [name_encoder(row) for row in rows]
    for key in ("mode", "precision", "store_fingerprint"):
        encoders = _tell_apart(
            encoders, heads, losses, [str(row.get(key))[: 6 if key == "store_fingerprint" else None] for row in rows]
        )
    counts: Counter[tuple[str, str, str]] = Counter()
    places = []
    for encoder, head, loss in zip(encoders, heads, losses, strict=True):
        counts[encoder, head, loss] += 1
        number = counts[encoder, head, loss]
        name = encoder if number == 1 else f"{encoder} #{number}"
        places.append(Place(encoder=name, head=head, loss=loss))
    return places


def name_encoder(row: Row) -> str:
    """Name the encoder of a run, with its layer and the noise that it was tested on."""
    layer, snr = row.get("layer"), row.get("noise_snr")
    name = str(row["encoder"]) if layer is None else f"{row['encoder']} layer {layer}"
    return name if snr is None else f"{name} at {snr:g} dB{f' {noise}' if (noise := row.get('noise')) else ''}"


def label_parts(rows: Sequence[Row], kind: str) -> list[str]:
    """Label heads or losses: the name, and those settings in which runs of the same name differ."""
    seen: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        for key in {key for other in rows if other[kind] == row[kind] for key in _options(other, kind)}:
            seen[row[kind]][key].add(repr(_options(row, kind).get(key)))
    varying = {name: [key for key, values in keys.items() if len(values) > 1] for name, keys in seen.items()}
    return [
        _label(row[kind], {key: value for key, value in _options(row, kind).items() if key in varying[row[kind]]})
        for row in rows
    ]


def _options(row: Row, kind: str) -> Mapping[str, Any]:
    return row.get(f"{kind}_options") or {}


def _label(name: str, settings: Mapping[str, Any]) -> str:
    texts = [key if value is True else f"{key}={_write(value)}" for key, value in sorted(settings.items())]
    return f"{name}:{','.join(texts)}" if texts else name


def _write(value: Any) -> str:
    """Write a setting as on the command line; values that were searched stand between slashes."""
    if isinstance(value, list | tuple):
        return "/".join(map(_write, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tell_apart(
    encoders: Sequence[str], heads: Sequence[str], losses: Sequence[str], values: Sequence[str]
) -> list[str]:
    """Add a value to the encoders of each row of the table in which a place is taken twice."""
    lines: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, line in enumerate(zip(encoders, heads, strict=True)):
        lines[line].append(index)
    labels = list(encoders)
    for indices in lines.values():
        crowded = len({losses[index] for index in indices}) < len(indices)
        if crowded and len({values[index] for index in indices}) > 1:
            for index in indices:
                labels[index] = f"{encoders[index]} {values[index]}"
    return labels


def shorten_names(names: Sequence[str], width: int) -> dict[str, str]:
    """Shorten names to a width, keeping different names different.

    Paths and ids lose their folders where the last part is enough; what is still too long loses its middle.
    """
    unique = list(dict.fromkeys(names))
    last = {name: _last_part(name) or name for name in unique}
    taken = Counter(last.values())
    short = {name: _cut(last[name] if taken[last[name]] == 1 else name, width) for name in unique}
    doubles = Counter(short.values())
    return {
        name: text if doubles[text] == 1 else f"{text[: width - 3].rstrip()} {index + 1}"
        for index, (name, text) in enumerate(short.items())
    }


def _last_part(name: str) -> str:
    # Only paths of Windows: elsewhere a backslash begins a character that is written escaped.
    path = PureWindowsPath(name) if PureWindowsPath(name).drive else PurePosixPath(name)
    return path.name


def _cut(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    left = (width - 1) // 2
    return f"{text[:left]}…{text[len(text) - (width - 1 - left) :]}"
