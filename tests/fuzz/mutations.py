"""Spoil what embedkit reads, each number in its own way: bytes, JSON, tables, safetensors, stores, audio."""

from __future__ import annotations

import csv
import io
import json
import random
import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from embedkit.store import layout

SECRET = "the-secret-0d4f8a"


def odd_value(chance: random.Random, folder: Path) -> Any:
    """Draw a value that nobody expects; `folder` holds a secret, and code in evil.py."""
    return chance.choice(
        [
            *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**39, 1e308, -1e-308, 0.5, 3.0, 5e-324),
            *("", "x", "nan", "evil:Head", "mfcc+evil:Head", "evil:Head:x=1", str(folder / "secret.txt"), "/dev/zero"),
            *("../secret.txt", "../../../../etc/passwd", "\x1b[31mred", "a\nb", "=cmd()", "x" * 5000, "\0", "%s{0}"),
            *("<script>", "[bold]", "\u202e", "-1", "1e999", ":", "a:b=c", ".", "..", "/", "linear:dropout=-3"),
            *([], {}, [[]], [None], [1, "a"], ["evil:Head"] * 3, {"name": "evil:Head"}, {"": {}}, {"a": [1]}),
            *(list(range(3000)), nested(chance.randint(2, 70))),
        ]
    )


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if depth % 2 else {"a": value}
    return value


def places(data: Any) -> list[tuple[Any, Any]]:
    """List every container and key in JSON."""
    found, waiting = [], [data]
    while waiting:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            found.append((value, key))
            waiting.append(value[key])
    return found


def spoil_json(data: Any, chance: random.Random, folder: Path) -> Any:
    """Change some places: other values, gone, twice, exchanged, scaled."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if not (known := places(data)):
            return odd_value(chance, folder)
        holder, key = chance.choice(known)
        match chance.randrange(6):
            case 0:
                del holder[key]
            case 1:
                other, place = chance.choice(known)
                holder[key] = json.loads(json.dumps(other[place])) if place in keys_of(other) else None
            case 2 if isinstance(holder[key], int | float):
                holder[key] = chance.choice((-1, 0, 2, 1000, 10**7, 1e-9)) * holder[key]
            case 3 if isinstance(holder[key], list | str):
                holder[key] = holder[key] * chance.choice((0, 2, 50))
            case _:
                holder[key] = odd_value(chance, folder)
    return data


def keys_of(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def spoil_bytes(data: bytes, chance: random.Random, most: int | None = None) -> bytes:
    """Flip, cut, insert and repeat, by chance within the first `most` bytes."""
    spoiled = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        end = min(len(spoiled), most or len(spoiled)) or 1
        place, length = chance.randrange(end), chance.choice((1, 1, 2, 4, 8, 64))
        match chance.randrange(5):
            case 0:
                del spoiled[place : place + length]
            case 1:
                del spoiled[place:]
            case 2:
                spoiled[place:place] = chance.randbytes(length)
            case 3:
                spoiled[place : place + length] = chance.choice((b"\0", b"\xff", b"\x7f", b"\x80")) * length
            case _:
                spoiled[place : place + length] = chance.randbytes(length)
    return bytes(spoiled)


def spoil_text_file(path: Path, chance: random.Random, folder: Path) -> None:
    """Spoil a file of JSON or CSV: its values mostly, now and then its bytes."""
    data = path.read_bytes()
    if chance.random() < 0.2:
        path.write_bytes(spoil_bytes(data, chance))
    elif path.suffix == ".json":
        text = json.dumps(spoil_json(json.loads(data), chance, folder))
        path.write_text(text.replace('"nan"', chance.choice(("NaN", "1e999", '"nan"', "1" * 5000))))
    else:
        path.write_bytes(spoil_csv(data, chance, folder))


def spoil_csv(data: bytes, chance: random.Random, folder: Path) -> bytes:
    rows = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(chance.choice((1, 1, 3))):
        row = chance.randrange(len(rows)) if chance.random() < 0.6 else 0
        if not rows[row]:
            continue
        column = chance.randrange(len(rows[row]))
        match chance.randrange(7):
            case 0:
                rows[row].pop(column)
            case 1:
                rows.append(list(rows[row]))
            case 2:
                rows.pop(row)
            case 3:
                for one in rows:
                    one[column:] = one[column + 1 :]
            case 4:
                rows[row][column] = rows[chance.randrange(len(rows) or 1)][0] if rows else ""
            case _:
                rows[row][column] = str(odd_value(chance, folder))
        if not rows:
            return b""
    stream = io.StringIO(newline="")
    csv.writer(stream).writerows(rows)
    return stream.getvalue().encode(errors="replace")


def spoil_tensors(path: Path, chance: random.Random, folder: Path) -> None:
    """Spoil a safetensors file: its header's JSON, its values, or its bytes."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header, values = json.loads(data[8 : 8 + size]), data[8 + size :]
    match chance.randrange(4):
        case 0:
            path.write_bytes(spoil_bytes(data, chance, most=8 + size if chance.random() < 0.7 else None))
            return
        case 1:
            number = chance.choice((np.nan, np.inf, -np.inf, 3e38, 0.0, -1e30))
            values = np.full(len(values) // 4, number, "<f4").tobytes().ljust(len(values), b"\0")
        case 2:
            name = chance.choice(sorted(header.keys() - {"__metadata__"}))
            match chance.randrange(3):
                case 0:
                    header[chance.choice((name + "x", "0/0/evil", "../x", ""))] = header.pop(name)
                case 1:
                    shape = header[name]["shape"]
                    header[name]["shape"] = shape[::-1] if chance.random() < 0.5 else [1, *shape]
                case _:
                    kinds = {"F32": "I32", "F64": "I64"}
                    header[name]["dtype"] = kinds.get(header[name]["dtype"], "BF16")
        case _:
            header = spoil_json(header, chance, folder)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + values)


def spoil_store(path: Path, chance: random.Random, folder: Path) -> None:
    """Spoil a store: attributes, columns, links, values, with its checksums made right again; or its bytes."""
    if chance.random() < 0.2:
        path.write_bytes(spoil_bytes(path.read_bytes(), chance, most=chance.choice((None, 3000))))
        return
    with h5py.File(path, "r+") as file:
        for _ in range(chance.choice((1, 1, 2))):
            chance.choice((_attribute, _json_attribute, _json_attribute, _column, _column, _member, _values))(
                file, chance, folder
            )
        if chance.random() < 0.85:
            _seal(file)


def _attribute(file: Any, chance: random.Random, folder: Path) -> None:
    name = chance.choice(sorted(file.attrs))
    value = odd_value(chance, folder)
    if chance.random() < 0.15:
        del file.attrs[name]
    elif isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**62):
        file.attrs[name] = value
    else:
        file.attrs[name] = (value if isinstance(value, str) else json.dumps(value)).replace("\0", "?")


def _json_attribute(file: Any, chance: random.Random, folder: Path) -> None:
    name = chance.choice(layout.JSON_ATTRIBUTES)
    try:
        file.attrs[name] = json.dumps(spoil_json(json.loads(file.attrs[name]), chance, folder))
    except (KeyError, TypeError, ValueError):
        return


def _column(file: Any, chance: random.Random, folder: Path) -> None:
    if not isinstance(file.get("utterances"), h5py.Group) or not len(file["utterances"]):
        return
    name = f"utterances/{chance.choice(sorted(file['utterances']))}"
    known = isinstance(file.get(name), h5py.Dataset) and file[name].size < 10_000
    values = file[name][...].reshape(-1) if known else np.zeros(24)
    file.pop(name, None)
    match chance.randrange(6):
        case 0:
            file[name] = values[: chance.randrange(len(values))]
        case 1:
            file[name] = np.roll(values, 1) if values.dtype.kind != "S" else np.full(len(values), values[0])
        case 2:
            texts = [str(odd_value(chance, folder))[:900].replace("\0", "") for _ in values]
            file[name] = np.array([text.encode(errors="replace") for text in texts])
        case 3:
            file[name] = np.full(len(values), chance.choice((np.nan, np.inf, -1.0, 1e308)))
        case 4:
            file[name] = np.full(len(values), chance.choice((-1, 0, 2**62, -(2**62))))
        case _:
            file[name.replace("utterances/", "utterances/%2E%25")] = values


def _member(file: Any, chance: random.Random, folder: Path) -> None:
    names: list[str] = []
    file.visit(names.append)
    if not names:
        return
    name = chance.choice(names)
    del file[name]
    secret = str(folder / "secret.txt")
    match chance.randrange(6):
        case 0:
            file[name] = h5py.ExternalLink(str(folder / "other.h5"), "/x")
        case 1:
            file[name] = h5py.SoftLink(chance.choice(("/none", "/", f"/{name}", "/utterances/id")))
        case 2:
            file.create_dataset(name, (24,), "S1", external=[(secret, 0, h5py.h5f.UNLIMITED)])
        case 3:
            kind = chance.choice(("S100", "<i8", "<f4"))
            file.create_dataset(name, (10**9,) * chance.choice((1, 3)), kind, chunks=True)
        case 4:
            source = h5py.VirtualLayout((24,), "<i8")
            source[:] = h5py.VirtualSource(str(folder / "other.h5"), "x", (24,))
            file.create_virtual_dataset(name, source)
        case _:
            return


def _values(file: Any, chance: random.Random, folder: Path) -> None:
    name = chance.choice(("utterance/mean", "utterance/std", "frame/values", "frame/offsets"))
    if not isinstance(file.get(name), h5py.Dataset) or file[name].size > 1_000_000:
        return
    values = file[name][...]
    match chance.randrange(4):
        case 0:
            odd = chance.choice((-1, 0, 3)) if values.dtype.kind == "i" else np.nan
            values.reshape(-1)[chance.randrange(values.size)] = odd
            file[name][...] = values
        case 1 if values.dtype.kind == "f":
            file[name][...] = chance.choice((np.inf, 0.0, 3e38, -1e-40))
        case 2:
            del file[name]
            file[name] = values[: len(values) // 2]
        case _:
            del file[name]
            file[name] = np.repeat(values, 2, axis=-1)


def _seal(file: Any) -> None:
    """Compute the checksums of what is there now, as far as it can be read."""
    try:
        if any(file[name].size > 1_000_000 for name in (layout.MEAN, layout.STD)):
            return
        mean, std = file[layout.MEAN][...], file[layout.STD][...]
        frames = file[layout.FRAME_VALUES][...] if layout.FRAME_VALUES in file else None
        offsets = file[layout.FRAME_OFFSETS][...] if frames is not None else None
        rows = []
        for number in range(len(mean)):
            own = [mean[number].tobytes(), std[number].tobytes()]
            if frames is not None and offsets is not None:
                own.append(frames[offsets[number] : offsets[number + 1]].tobytes())
            rows.append(layout.digest_bytes(*own))
        parts = [*(f"utterances/{layout.column_name(name)}" for name in file["utterances"])]
        parts += [
            *(f"failures/{name}" for name in file.get("failures", ())),
            *([layout.FRAME_OFFSETS] if frames is not None else []),
        ]
        digests = [layout.digest_column(_dataset(file, part)[...]) for part in parts]
        parts.append("attributes")
        digests.append(layout.digest_attributes(dict(file.attrs)))
        for name, texts in (
            (layout.UTTERANCE_CHECKSUMS, rows),
            (layout.PART_NAMES, parts),
            (layout.PART_CHECKSUMS, digests),
        ):
            del file[name]
            file[name] = layout.encode_texts(name, texts)
        file.attrs["digest"] = layout.digest_store(rows, digests)
    except (LookupError, TypeError, ValueError, OSError, AttributeError, RuntimeError):
        return  # What cannot be sealed is left as it is.


def _dataset(file: Any, part: str) -> Any:
    folder, _, column = part.partition("/")
    dataset = file[folder][layout.link_name(column)]
    if dataset.size > 1_000_000:
        raise ValueError(part)
    return dataset
