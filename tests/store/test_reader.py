"""Reading: what scikit-learn gets, what is refused, and readers in other processes."""

from __future__ import annotations

import multiprocessing
import shutil
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from embedkit.errors import StoreError
from embedkit.store import Store, open_store, write_store


def test_mean_and_labels_go_straight_into_scikit_learn(small_store: Store) -> None:
    X, y = small_store.mean(), small_store.labels
    assert X.shape == (4, 3)
    assert X.dtype == np.float32
    assert LogisticRegression().fit(X, y).predict(X).shape == (4,)


def test_layers_are_chosen_by_their_number(small_store: Store) -> None:
    everything = small_store.mean("all")
    assert everything.shape == (4, 2, 3)
    np.testing.assert_array_equal(small_store.mean(4), everything[:, 1])
    np.testing.assert_allclose(small_store.mean(), everything.mean(1), rtol=1e-6)
    np.testing.assert_array_equal(small_store.std(1), small_store.std("all")[:, 0])
    with pytest.raises(StoreError, match=r"no layer 2; expected one of 1, 4, average, all"):
        small_store.mean(2)


def test_columns_have_types_and_an_order(small_store: Store) -> None:
    assert small_store.columns[:3] == ("id", "label", "speaker")
    assert small_store.columns[-1] == "text/en"
    assert small_store.column("padded").dtype == bool
    assert small_store.column("start").dtype == np.float64
    assert small_store.column("audio_size").dtype == np.int64
    assert small_store.speakers.dtype.kind == "U"
    with pytest.raises(StoreError, match=r"Unknown column 'lable'. Did you mean 'label'\?"):
        small_store.column("lable")


def test_frames_are_rows_between_offsets(small_store: Store) -> None:
    offsets = small_store.frame_offsets
    assert offsets.tolist() == [0, 3, 4, 9, 11]
    np.testing.assert_array_equal(small_store.frames(-1), small_store.frame_values[9:])
    assert small_store.frame_values.shape == (11, 2, 3)
    assert small_store.frame_values.flags.aligned
    with pytest.raises(IndexError):
        small_store.frames(4)
    with pytest.raises(ValueError, match="read-only"):
        small_store.frames(0)[0, 0, 0] = 1


def test_asking_for_frames_that_are_not_kept_names_the_option(tmp_path: Path, content: Any) -> None:
    write_store(tmp_path / "store.h5", *content(framed=False))
    with open_store(tmp_path / "store.h5") as store:
        assert store.levels == ("utterance",)
        assert store.frame_dtype is None
        with pytest.raises(StoreError, match="--level"):
            store.frames(0)


def spoil(path: Path, how: str) -> None:
    """Make a file that must be refused."""
    data = path.read_bytes()
    if how == "text":
        path.write_text("id,label\n")
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(data[:-100])
    elif how == "half":
        path.write_bytes(data[: len(data) // 2])
    else:
        with h5py.File(path, "r+") as file:
            if how == "foreign":
                del file.attrs["format"]
            elif how == "newer":
                file.attrs["format_version"] = 3
            elif how == "incomplete":
                file.attrs["complete"] = False
            elif how == "offsets":
                file["frame/offsets"][1] = 99
            elif how == "attribute":
                file.attrs["encoder"] = "{"
            elif how == "shape":
                file.attrs["encoder"] = '{"layers": [0], "dimensions": 3, "frame_rate": 50}'


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("text", "not an HDF5 file"),
        ("empty", "not an HDF5 file"),
        ("truncated", "truncated"),
        ("half", "truncated"),
        ("foreign", "not a store of embedkit"),
        ("newer", "format version 3, .* up to version 2; update embedkit"),
        ("incomplete", "not complete"),
        ("offsets", "do not ascend"),
        ("attribute", "damaged"),
        ("shape", "has the shape"),
    ],
)
def test_a_file_that_is_no_whole_store_is_refused_in_one_sentence(small_store: Store, how: str, words: str) -> None:
    spoil(small_store.path, how)
    with pytest.raises(StoreError, match=words) as caught:
        open_store(small_store.path)
    assert "\n" not in str(caught.value)


def test_a_store_that_this_program_has_open_with_locks_is_not_called_damaged(small_store: Store) -> None:
    path = small_store.path
    small_store.close()
    with h5py.File(path, "r"), pytest.raises(StoreError, match=r"is open in this program with locks.*locking=False"):
        open_store(path)
    with h5py.File(path, "r", locking=False):
        assert len(open_store(path)) == 4


def test_a_missing_store_is_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="There is no store"):
        open_store(tmp_path / "none.h5")


def test_a_store_that_was_replaced_is_not_mixed_with_the_old_one(small_store: Store, content: Any) -> None:
    labels = small_store.labels
    write_store(small_store.path, *content(corpus="another"))
    assert small_store.labels is labels
    with pytest.raises(StoreError, match="open it again"):
        small_store.mean()


def test_a_copied_store_reads_the_same(small_store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "with [brackets] and\nnewline é.h5"
    shutil.copy(small_store.path, copy)
    np.testing.assert_array_equal(open_store(copy).mean(), small_store.mean())


def test_a_relative_path_keeps_its_meaning(small_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small_store.path.parent)
    store = open_store("small.h5")
    monkeypatch.chdir("/")
    assert store.path == Path("small.h5")
    assert len(store.labels) == len(store.mean()) == len(store)
    assert store.rows(0).mean.shape == (2, 3)


def read_in_child(store: Store, index: int) -> tuple[float, str]:
    return float(store.frames(index).astype("float64").sum()), str(store.labels[index])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_readers_survive_fork_and_spawn(small_store: Store, method: str) -> None:
    expected = [read_in_child(small_store, index) for index in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(read_in_child, [(small_store, index) for index in range(4)]) == expected


def test_rows_are_copies_of_everything_kept(small_store: Store) -> None:
    rows = small_store.rows(2)
    assert rows.frames is not None
    np.testing.assert_array_equal(rows.frames, small_store.frames(2))
    np.testing.assert_array_equal(rows.mean, small_store.mean("all")[2])
    np.testing.assert_array_equal(rows.std, small_store.std("all")[2])
