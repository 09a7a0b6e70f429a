"""What is written is what is read, and equal content gives equal bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import StoreError
from embedkit.store import Store, StoreContent, UtteranceEmbedding, find_damage, open_store, write_store
from embedkit.store.described import check_corpus_name

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
NUMBER = st.floats(allow_nan=True, allow_infinity=True)


def is_name(text: str) -> bool:
    try:
        check_corpus_name(text)
    except ValueError:
        return False
    return True


@st.composite
def stores(draw: st.DrawFn) -> tuple[StoreContent, list[UtteranceEmbedding]]:
    count, layers, dimensions = draw(st.integers(1, 5)), draw(st.integers(1, 3)), draw(st.integers(1, 4))
    dtype = draw(st.sampled_from([None, "float16", "float32"]))
    counts = draw(st.lists(st.integers(1, 4), min_size=count, max_size=count)) if dtype else None
    generator = np.random.default_rng(draw(st.integers(0, 9)))
    rows = [
        UtteranceEmbedding(
            *generator.normal(size=(2, layers, dimensions)).astype("float32"),
            generator.normal(size=(counts[index], layers, dimensions)).astype(dtype) if counts else None,
        )
        for index in range(count)
    ]
    many = {"min_size": count, "max_size": count}
    columns: dict[str, Any] = {
        "id": draw(st.lists(TEXT, unique=True, **many)),
        **draw(st.dictionaries(TEXT.filter(bool), st.lists(TEXT, **many), max_size=3)),
        **draw(st.dictionaries(TEXT.filter(bool), st.lists(NUMBER, **many).map(np.array), max_size=3)),
    }
    columns["id"] = columns["id"] if len(set(columns["id"])) == count else list(map(str, range(count)))
    content = StoreContent(
        corpus=draw(TEXT.filter(is_name)),
        corpus_info={"task": {"classes": draw(st.lists(TEXT, max_size=2))}},
        encoder={"layers": list(range(layers)), "dimensions": dimensions, "frame_rate": 50},
        fingerprint="f",
        columns=columns,
        frame_dtype=dtype,
        frame_counts=counts,
        failures=draw(st.dictionaries(TEXT, TEXT, max_size=2)),
    )
    return content, rows


@settings(max_examples=60, deadline=None)
@given(stores())
def test_reading_returns_what_was_written(written: tuple[StoreContent, list[UtteranceEmbedding]]) -> None:
    content, rows = written
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.h5"
        write_store(path, content, rows)
        with open_store(path) as store:
            assert len(store) == len(rows)
            assert set(store.columns) == set(content.columns)
            for name, values in content.columns.items():
                np.testing.assert_array_equal(
                    store.column(name), [v.rstrip("\0") for v in values] if name == "id" else values
                )
            np.testing.assert_array_equal(store.mean("all"), [row.mean for row in rows])
            np.testing.assert_array_equal(store.std("all"), [row.std for row in rows])
            assert store.failures == content.failures
            assert store.corpus == content.corpus
            assert store.task["classes"] == content.corpus_info["task"]["classes"]
            assert store.has_frames == (content.frame_dtype is not None)
            for index, row in enumerate(rows):
                if row.frames is not None:
                    np.testing.assert_array_equal(store.frames(index), row.frames)
                    assert store.frames(index).dtype == content.frame_dtype
            assert not find_damage(store)


def test_equal_content_gives_equal_bytes(tmp_path: Path, content: Any) -> None:
    for name in ("one.h5", "two.h5"):
        write_store(tmp_path / name, *content())
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.h5", "two.h5"]


@pytest.mark.parametrize("name", ["%", "%2F", "%2E", "a/b", ".", "..", "x.y", "é [1]", "%25"])
def test_any_column_name_comes_back(tmp_path: Path, content: Any, name: str) -> None:
    made, rows = content(columns={"id": ["a", "b", "c", "d"], name: ["1", "2", "3", "4"]})
    write_store(tmp_path / "store.h5", made, rows)
    store = open_store(tmp_path / "store.h5")
    assert store.columns == ("id", name)
    assert store.column(name).tolist() == ["1", "2", "3", "4"]
    assert not find_damage(store)


def test_no_times_are_stored(small_store: Store) -> None:
    times: dict[str, int] = {}
    with h5py.File(small_store.path) as file:
        file.visit(lambda name: times.update({name: h5py.h5g.get_objinfo(file.id, name.encode()).mtime}))
    assert len(times) > 15
    assert set(times.values()) == {0}


def test_another_program_reads_it_with_h5py_alone(tmp_path: Path, content: Any) -> None:
    made, rows = content()
    write_store(tmp_path / "store.h5", made, rows)
    with h5py.File(tmp_path / "store.h5") as file:
        assert file.attrs["format"] == "embedkit"
        assert file["utterances/label"].asstr()[:].tolist() == ["joy", "fear", "joy", "Ärger"]
        assert file["frame/values"].chunks is None
        offsets = file["frame/offsets"][:]
        for index, row in enumerate(rows):
            np.testing.assert_array_equal(file["frame/values"][offsets[index] : offsets[index + 1]], row.frames)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": {"id": ["a", "a", "b", "c"]}}, "unique ids"),
        ({"columns": {"id": []}}, "unique ids"),
        ({"columns": {"id": ["a", "b", "c", "d"], "label": ["joy"]}}, "Column 'label' has 1 values"),
        ({"columns": {"id": ["a", "b", "c", "d\0"]}}, "without NUL"),
        ({"columns": {"id": ["a", "b", "c", "\udcff"]}}, "UTF-8"),
        ({"frame_counts": None}, "both their counts and their type"),
        ({"frame_counts": (3, 1, 5, 3)}, "has the shape"),
        ({"frame_counts": (3, 1, 0, 3)}, "at least 1"),
        ({"frame_dtype": "float64"}, "float64"),
        ({"encoder": {"layers": [0], "dimensions": 3}}, "has the shape"),
    ],
)
def test_content_that_does_not_fit_together_is_refused(
    tmp_path: Path, content: Any, changes: dict[str, Any], words: str
) -> None:
    made, rows = content(**changes)
    with pytest.raises(StoreError, match=words):
        write_store(tmp_path / "store.h5", made, rows)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [3, 5])
def test_too_few_or_too_many_rows_are_refused(tmp_path: Path, content: Any, number: int) -> None:
    made, rows = content()
    with pytest.raises(StoreError, match="utterances have embeddings"):
        write_store(tmp_path / "store.h5", made, (rows * 2)[:number])
    assert list(tmp_path.iterdir()) == []
