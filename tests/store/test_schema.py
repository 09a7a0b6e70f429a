"""Whatever a file declares: a store is what the format says, or it is refused in one sentence before it is read."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from embedkit.errors import StoreError
from embedkit.store import Store, find_damage, open_store, write_store
from embedkit.store.verify import require_undamaged

Change = Callable[[Any, Path], object]


def external_storage(file: Any, folder: Path) -> None:
    del file["utterances/label"]
    file["utterances"].create_dataset("label", (4,), "S8", external=[(str(folder / "secret"), 0, 32)])


def replace(name: str, values: Any, **options: Any) -> Change:
    def change(file: Any, folder: Path) -> None:
        del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def declare(name: str, shape: tuple[int, ...], kind: str) -> Change:
    """Declare far more than is there: chunks that were never written take no room."""

    def change(file: Any, folder: Path) -> None:
        del file[name]
        file.create_dataset(name, shape, kind, chunks=tuple(min(side, 64) for side in shape))

    return change


def link(name: str, made: Callable[[Path], Any]) -> Change:
    def change(file: Any, folder: Path) -> None:
        file.pop(name, None)
        file[name] = made(folder)

    return change


def virtual(file: Any, folder: Path) -> None:
    del file["utterances/label"]
    whole = h5py.VirtualLayout((4,), "S8")
    whole[:] = h5py.VirtualSource(str(folder / "secret.h5"), "label", (4,))
    file.create_virtual_dataset("utterances/label", whole)


def circle(file: Any, folder: Path) -> None:
    file["utterances/again"] = file["/"]


def attribute(name: str, value: Any) -> Change:
    return lambda file, folder: file.attrs.__setitem__(name, value)


def told(name: str, key: str, value: Any) -> Change:
    """Change a key of a JSON attribute."""

    def change(file: Any, folder: Path) -> None:
        file.attrs[name] = json.dumps({**json.loads(file.attrs[name]), key: value})

    return change


def overflowing(file: Any, folder: Path) -> None:
    file["frame/offsets"][...] = [0, 2**63 - 1, -(2**63), -(2**63) + 1, 11]


TEXTS = np.array([b"joy"] * 4, "S8")
CASES: dict[str, tuple[Change, str]] = {
    "an external link": (link("utterances/label", lambda folder: h5py.ExternalLink(folder / "s.h5", "/x")), "leads"),
    "a soft link": (link("utterances/label", lambda folder: h5py.SoftLink("/utterances/id")), "leads elsewhere"),
    "a link that leads nowhere": (link("utterances/x", lambda folder: h5py.SoftLink("/none")), "leads elsewhere"),
    "a linked group": (link("failures", lambda folder: h5py.SoftLink("/utterances")), "leads elsewhere"),
    "a linked array": (link("utterance/std", lambda folder: h5py.SoftLink("/utterance/mean")), "leads elsewhere"),
    "external storage": (external_storage, "outside the file"),
    "a virtual column": (virtual, "outside the file"),
    "a circle of groups": (circle, "no dataset"),
    "a packed column": (replace("utterances/label", TEXTS, compression="gzip"), "packed"),
    "packed embeddings": (replace("utterance/mean", np.zeros((4, 2, 3), "<f4"), compression="gzip"), "contiguous"),
    "chunks": (replace("utterance/mean", np.zeros((4, 2, 3), "<f4"), chunks=(1, 2, 3)), "contiguous"),
    "big-endian": (replace("utterance/mean", np.zeros((4, 2, 3), ">f4")), "expected float32"),
    "float64": (replace("utterance/std", np.zeros((4, 2, 3))), "expected float32"),
    "texts of any size": (replace("utterances/label", ["joy"] * 4, dtype=h5py.string_dtype()), "text of fixed size"),
    "a table": (replace("utterances/label", np.zeros((4, 2))), "in one dimension"),
    "one row too few": (replace("utterances/label", TEXTS[:3]), "3 to 4 rows"),
    "numbers for labels": (replace("utterances/label", np.zeros(4)), "holds float64, expected text"),
    "text for times": (replace("utterances/start", TEXTS), "expected float64"),
    "float32": (replace("utterances/audio_size", np.zeros(4, "f4")), "int64, float64"),
    "ids twice": (replace("utterances/id", np.array([b"a", b"a", b"b", b"c"])), "of its 4 ids 3 differ"),
    "a million rows of nothing": (declare("utterances/id", (10**12,), "S100"), "claims"),
    "embeddings of nothing": (declare("utterance/mean", (4, 2, 10**12), "<f4"), "contiguous"),
    "offsets of nothing": (declare("frame/offsets", (10**15,), "<i8"), "claims"),
    "offsets that overflow": (overflowing, "do not ascend"),
    "offsets of floats": (replace("frame/offsets", np.arange(5.0)), "expected int64"),
    "reasons without ids": (replace("failures/id", np.array([b"a", b"b"])), "1 to 2 rows"),
    "no checksums": (lambda file, folder: file.__delitem__("checksums"), "no /checksums"),
    "checksums of others": (replace("checksums/utterances", np.array([b"0" * 32] * 3)), "one row for each"),
    "version 0": (attribute("format_version", 0), "format version 0"),
    "version -7": (attribute("format_version", -7), "format version -7"),
    "version 1.0": (attribute("format_version", 1.0), "format version 1.0"),
    "version True": (attribute("format_version", np.True_), "format version True"),
    "version 2 in one file": (attribute("format_version", 2), "no shards"),
    "a list of attributes": (attribute("more", np.arange(9)), "one text or number"),
    "many attributes": (lambda file, folder: [attribute(f"a{n}", n)(file, folder) for n in range(300)], "at most 256"),
    "a corpus that climbs": (attribute("corpus", "a/../../b"), "leads out of a folder"),
    "a corpus of the root": (attribute("corpus", "/etc/cron.d/x"), "leads out of a folder"),
    "a long corpus": (attribute("corpus", "x" * 300), "1 to 255 characters"),
    "a corpus of bells": (attribute("corpus", "\x1b[31mred"), "without control characters"),
    "a number for a corpus": (attribute("corpus", 3), "damaged"),
    "a digest that is none": (attribute("digest", "../" * 5), "its digest is"),
    "an encoder of bells": (told("encoder", "name", "a\nb"), "without control characters"),
    "layers that are text": (told("encoder", "layers", "14"), "layers is of another type"),
    "layers twice": (told("encoder", "layers", [1, 1]), "different layers"),
    "no dimension": (told("encoder", "dimensions", 0), "one dimension"),
    "dimensions of truth": (told("encoder", "dimensions", True), "dimensions is of another type"),
    "an endless rate": (lambda file, folder: file.attrs.__setitem__("encoder", ENDLESS), "at most"),
    "classes that are none": (told("corpus_info", "task", {"classes": [1]}), "classes is of another type"),
    "merging into numbers": (told("corpus_info", "task", {"merge": {"a": 1}}), "is of another type"),
    "a root that is none": (told("corpus_info", "root", ["/"]), "root is of another type"),
    "speakers that are none": (told("trained_on", "speakers", 3), "speakers is of another type"),
    "a study without a fold": (told("trained_on", "study", "x"), "is missing"),
    "options that are none": (told("extraction", "options", []), "options is of another type"),
    "JSON of lists": (attribute("extraction", "[]"), "no JSON object"),
    "JSON too deep": (attribute("extraction", '{"a":' * 9000), "levels deep"),
    "JSON of NaN": (attribute("extraction", '{"a": NaN}'), "NaN"),
    "a name that is no column's": (link("utterances/a%zz%", lambda folder: TEXTS), "no name of a column"),
}
ENDLESS = '{"layers": [1, 4], "dimensions": 3, "frame_rate": 1e999}'


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_store_is_refused_in_one_sentence(small_store: Store, name: str) -> None:
    change, words = CASES[name]
    with h5py.File(small_store.path, "r+") as file:
        change(file, small_store.path.parent)
    with pytest.raises(StoreError, match=words) as caught:
        open_store(small_store.path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_more_than_the_format_knows_is_ignored(small_store: Store) -> None:
    with h5py.File(small_store.path, "r+") as file:
        file["own/table"] = np.zeros((3, 3))
        file["alone"] = np.arange(4)
        file["own/again"] = file["own"]
        file.attrs["own"] = "text"
    store = open_store(small_store.path)
    assert len(store) == 4
    assert find_damage(store).parts == ("attributes",)


def test_parts_that_the_file_names_are_checked_as_well(small_store: Store, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    with h5py.File(small_store.path, "r+") as file:
        file.create_group("own").create_dataset("x", (1,), "S6", external=[(str(tmp_path / "secret"), 0, 6)])
        names = [*file["checksums/part_names"][...].tolist()[:-1], b"own/x"]
        dataset = file["checksums/part_names"]
        dataset[...] = np.array(names).astype(dataset.dtype)
    store = open_store(small_store.path)
    assert "own/x" in find_damage(store).parts
    with pytest.raises(StoreError, match="outside the file"):
        store.raw_part("own/x")


@pytest.mark.skipif(os.name != "posix", reason="there are no pipes in folders here")
@pytest.mark.parametrize(("kind", "words"), [("pipe", "a named pipe"), ("loop", "links"), ("dangling", "nowhere")])
def test_no_store_is_waited_for(tmp_path: Path, kind: str, words: str) -> None:
    path = tmp_path / "a.h5"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("a.h5" if kind == "loop" else "none")
    with pytest.raises(StoreError, match=words):
        open_store(path)


@pytest.mark.parametrize("place", ["mean", "std", "frames"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named_and_refused(
    tmp_path: Path, content: Any, place: str, value: float
) -> None:
    made, rows = content()
    getattr(rows[2], place).flat[1] = value
    write_store(tmp_path / "a.h5", made, rows)
    store = open_store(tmp_path / "a.h5")
    damage = find_damage(store)
    assert (damage.utterances, damage.parts, damage.not_finite) == ((), (), ("c",))
    with pytest.raises(StoreError, match=r"not finite \(c\)"):
        require_undamaged(store)


@pytest.mark.parametrize("change", [{"corpus": "a/../b"}, {"corpus": ""}, {"encoder": {"layers": [0, 0]}}])
def test_nothing_is_written_that_could_not_be_opened(tmp_path: Path, content: Any, change: dict[str, Any]) -> None:
    made, rows = content(**change)
    with pytest.raises(StoreError, match="could be opened"):
        write_store(tmp_path / "a.h5", made, rows)
    assert not list(tmp_path.iterdir())


OPEN = """
import resource, sys
from embedkit.store import open_store
from embedkit.errors import StoreError
limit = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
try:
    open_store(sys.argv[1])
except StoreError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - limit)
"""


@pytest.mark.parametrize("name", ["a million rows of nothing", "offsets of nothing", "embeddings of nothing"])
def test_what_is_declared_takes_no_memory(small_store: Store, name: str) -> None:
    with h5py.File(small_store.path, "r+") as file:
        CASES[name][0](file, small_store.path.parent)
    command = [sys.executable, "-c", OPEN, str(small_store.path)]
    limit = 4 * 1024**3
    grown = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
    )
    assert int(grown.stdout) < 64e6


def test_many_members_are_refused(small_store: Store) -> None:
    with h5py.File(small_store.path, "r+") as file:
        for number in range(1 << 14):
            file[f"utterances/x{number}"] = h5py.SoftLink("/none")
    with pytest.raises(StoreError, match="members, expected at most"):
        open_store(small_store.path)
