"""A store in several files reads like one in a single file, and is refused when a shard is not the right one."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import StoreError
from embedkit.store import Store, find_damage, open_store, write_store
from embedkit.store.split import cut_rows
from tests.cases import mark_cases
from tests.store.conftest import small_content
from tests.store.test_reader import read_in_child
from tests.store.test_roundtrip import stores
from tests.store.test_verify import damage_after, flip, raw_regions

MOST_BYTES = 150
"""Cuts the small store into three shards."""


@pytest.fixture
def split_store(tmp_path: Path) -> Store:
    write_store(tmp_path / "folder" / "split.h5", *small_content(), most_bytes=MOST_BYTES)
    return open_store(tmp_path / "folder" / "split.h5")


def assert_same(split: Store, single: Store) -> None:
    """Compare everything that can be read."""
    assert len(split) == len(single)
    assert split.columns == single.columns
    for name in single.columns:
        np.testing.assert_array_equal(split.column(name), single.column(name))
    assert split.failures == single.failures
    assert (split.fingerprint, split.encoder, split.levels) == (single.fingerprint, single.encoder, single.levels)
    for layer in ("all", "average", *single.layers):
        np.testing.assert_array_equal(split.mean(layer), single.mean(layer))  # type: ignore[arg-type]
        np.testing.assert_array_equal(split.std(layer), single.std(layer))  # type: ignore[arg-type]
    for index in range(len(single)):
        ours, theirs = split.rows(index), single.rows(index)
        np.testing.assert_array_equal(ours.mean, theirs.mean)
        np.testing.assert_array_equal(ours.std, theirs.std)
        if single.has_frames:
            np.testing.assert_array_equal(ours.frames, theirs.frames)
            np.testing.assert_array_equal(split.frames(index), single.frames(index))
    if single.has_frames:
        np.testing.assert_array_equal(split.frame_offsets, single.frame_offsets)
        np.testing.assert_array_equal(np.asarray(split.frame_values), single.frame_values)
        assert split.frame_dtype == single.frame_dtype


@settings(max_examples=40, deadline=None)
@given(stores(), st.integers(1, 400))
def test_it_reads_like_a_single_file(written: Any, most_bytes: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, most in (("split.h5", most_bytes), ("single.h5", None)):
            write_store(Path(folder) / name, *written, most_bytes=most)
        with open_store(Path(folder) / "split.h5") as split, open_store(Path(folder) / "single.h5") as single:
            assert_same(split, single)
            assert not find_damage(split)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30), st.integers(1, 200))
def test_no_shard_is_too_large_unless_one_utterance_is(sizes: list[int], most: int) -> None:
    cuts = list(cut_rows(sizes, most))
    assert [index for first, last in cuts for index in range(first, last)] == list(range(len(sizes)))
    for first, last in cuts:
        assert last > first
        assert sum(sizes[first:last]) <= most or last - first == 1


def test_only_a_store_that_is_too_large_is_split(tmp_path: Path) -> None:
    write_store(tmp_path / "small.h5", *small_content(), most_bytes=10_000)
    write_store(tmp_path / "plain.h5", *small_content())
    assert (tmp_path / "small.h5").read_bytes() == (tmp_path / "plain.h5").read_bytes()
    assert not open_store(tmp_path / "small.h5").shards


def test_frames_across_files_are_indexed_like_an_array(split_store: Store, small_store: Store) -> None:
    ours, array = split_store.frame_values, np.asarray(small_store.frame_values)
    assert len(split_store.shards) == 3
    assert (ours.shape, ours.dtype, ours.ndim, ours.nbytes, len(ours)) == (
        array.shape,
        array.dtype,
        3,
        array.nbytes,
        11,
    )
    for start in range(12):
        for stop in range(12):
            np.testing.assert_array_equal(ours[start:stop], array[start:stop])
    keys: list[Any] = [0, -1, 5, slice(None, None, 2), slice(-3, None), [1, 9, 4], (slice(2, 10), 1), (3, 0, 2)]
    for key in [*keys, array[:, 0, 0] > 0]:
        np.testing.assert_array_equal(ours[key], array[key])
    np.testing.assert_array_equal(list(ours), list(array))
    with pytest.raises(IndexError):
        ours[11]


@pytest.mark.parametrize("rows", [[], [0], [3, 1, 1, 2], [0, 1, 2, 3], [4, 0]])
def test_rows_are_taken_in_any_order_from_any_file(split_store: Store, small_store: Store, rows: list[int]) -> None:
    wanted = [row for row in rows if row < len(small_store)]
    for store in (split_store, small_store):
        np.testing.assert_array_equal(store.take("mean", np.array(wanted, dtype=np.int64)), store.mean("all")[wanted])
        np.testing.assert_array_equal(store.take("std", np.array(wanted, dtype=np.int64)), store.std("all")[wanted])


def test_a_file_that_was_cut_short_is_told(small_store: Store) -> None:
    every = np.arange(len(small_store))
    small_store.take("std", every)
    os.truncate(small_store.path, 100)
    with pytest.raises(StoreError, match="was cut short since it was opened"):
        small_store.take("std", every)


def test_another_program_reads_it_with_h5py_alone(split_store: Store, small_store: Store) -> None:
    with h5py.File(split_store.path) as split, h5py.File(small_store.path) as single:
        for name in ("utterance/mean", "utterance/std", "frame/values", "frame/offsets"):
            np.testing.assert_array_equal(split[name][...], single[name][...])
        assert split["frame/values"].is_virtual
        assert [name.decode() for name in split["shards/file"][...]] == [
            path.relative_to(split_store.path.parent).as_posix() for path in split_store.shards
        ]
        assert split.attrs["format_version"] == 2


def test_the_folder_can_move(split_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = split_store.mean("all")
    moved = tmp_path / "elsewhere [1]" / "é"
    moved.parent.mkdir()
    shutil.move(split_store.path.parent, moved)
    monkeypatch.chdir("/")
    store = open_store(moved / "split.h5")
    np.testing.assert_array_equal(store.mean("all"), before)
    assert not find_damage(store)
    with h5py.File(moved / "split.h5") as file:
        np.testing.assert_array_equal(file["utterance/mean"][...], before)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_store(tmp_path / name / "s.h5", *small_content(), most_bytes=MOST_BYTES)
    files = [sorted(path for path in (tmp_path / name).rglob("*") if path.is_file()) for name in ("a", "b")]
    assert len(files[0]) == 4
    assert [path.name for path in files[0]] == [path.name for path in files[1]]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


def remove(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def exchange(path: Path) -> None:
    """Put another store's shard of the same size in its place."""
    content, rows = small_content()
    others = [type(row)(row.mean + 1, row.std, row.frames) for row in rows]
    write_store(path.parents[1] / "other.h5", content, others, most_bytes=MOST_BYTES)
    number = open_store(path.parents[1] / "split.h5").shards.index(path)
    shutil.copy(open_store(path.parents[1] / "other.h5").shards[number], path)


def unseal(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["complete"] = np.bool_(False)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (remove, "lacks its shard"),
        (shorten, r"bytes, expected \d+"),
        (exchange, "has the digest '[0-9a-f]+', expected"),
        (unseal, "has the digest 'not complete'"),
        (lambda path: path.write_bytes(b"x" * path.stat().st_size), "damaged"),
    ],
)
@pytest.mark.parametrize("number", [0, 2])
def test_opening_checks_every_shard(split_store: Store, spoil: Callable[[Path], Any], words: str, number: int) -> None:
    spoil(split_store.shards[number])
    with pytest.raises(StoreError, match=words) as caught:
        open_store(split_store.path)
    assert "\n" not in str(caught.value)


def test_what_a_missing_shard_held_is_nan_to_other_programs(split_store: Store) -> None:
    split_store.shards[1].unlink()
    with h5py.File(split_store.path) as file:
        assert np.isnan(file["utterance/mean"][2]).all()
        assert np.isnan(file["frame/values"][4:9]).all()
        assert np.isfinite(file["utterance/mean"][0]).all()


def test_a_shard_that_leaves_later_is_noticed(split_store: Store) -> None:
    for path in split_store.shards:
        path.unlink()
    for read in (lambda: split_store.mean(), lambda: split_store.frames(0), lambda: split_store.rows(0)):
        with pytest.raises(StoreError, match=r"replaced or removed .* open it again"):
            read()


@pytest.mark.parametrize("name", ["../{}", "/{}", "a/../../{}"])
def test_shards_outside_the_folder_are_refused(split_store: Store, name: str) -> None:
    with h5py.File(split_store.path, "r+") as file:
        names = file["shards/file"][...].astype("S80")
        names[0] = name.format(names[0].decode()).encode()
        del file["shards/file"]
        file["shards/file"] = names
    with pytest.raises(StoreError, match="below its own folder"):
        open_store(split_store.path)


def test_virtual_arrays_that_lead_elsewhere_are_refused(split_store: Store) -> None:
    with h5py.File(split_store.path, "r+") as file:
        shape = file["utterance/mean"].shape
        del file["utterance/mean"]
        file["utterance/mean"] = np.zeros(shape, "<f4")
    with pytest.raises(StoreError, match="does not lead to its shards"):
        open_store(split_store.path)


def test_a_shard_is_not_a_store(split_store: Store) -> None:
    with pytest.raises(StoreError, match="is a shard of a store"):
        open_store(split_store.shards[0])


def test_flips_at_random_places_of_all_files_are_caught(split_store: Store) -> None:
    generator = random.Random(4)
    files = [split_store.path, *split_store.shards]
    whole = {path: path.read_bytes() for path in files}
    regions = [(path, *region) for path in files for region in raw_regions(path) if region[1] is not None]
    for _ in range(100):
        path, name, offset, size = generator.choice(regions)
        place = offset + generator.randrange(size)
        flip(path, place, generator.randrange(8))
        damage = damage_after(split_store.path)
        assert damage is None or damage, f"a flip at {place} of {name} in {path.name} was not noticed"
        path.write_bytes(whole[path])


def test_the_damaged_utterance_is_named(split_store: Store) -> None:
    offset = next(offset for name, offset, _ in raw_regions(split_store.shards[1]) if name == "frame/values")
    flip(split_store.shards[1], offset, 2)
    damage = find_damage(open_store(split_store.path))
    assert (damage.utterances, damage.parts) == (("c",), ())


def test_a_new_store_leaves_the_old_one_whole_until_it_has_its_name(
    split_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, rows = small_content()
    others = [type(row)(row.mean + 1, row.std, row.frames) for row in rows]
    replace = os.replace

    def fail_at_the_end(source: Any, target: Any) -> None:
        if str(target).endswith(".h5"):
            raise OSError(28, "No space left on device")
        replace(source, target)

    before = sorted(split_store.path.parent.rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", fail_at_the_end)
        with pytest.raises(StoreError, match="Too little room"):
            write_store(split_store.path, content, others, most_bytes=MOST_BYTES)
    assert sorted(split_store.path.parent.rglob("*")) == before
    assert not find_damage(open_store(split_store.path))

    write_store(split_store.path, content, others, most_bytes=MOST_BYTES)
    changed = open_store(split_store.path)
    assert not set(changed.shards) & set(split_store.shards)
    assert sorted(changed.shards) == sorted((split_store.path.parent / "split.h5.shards").iterdir())
    write_store(split_store.path, content, others)
    assert [path.name for path in split_store.path.parent.iterdir()] == ["split.h5"]


def test_other_files_in_the_folder_are_left_alone(split_store: Store) -> None:
    note = split_store.shards[0].parent / "notes.txt"
    note.write_text("mine")
    write_store(split_store.path, *small_content())
    assert list(note.parent.iterdir()) == [note]


@pytest.mark.parametrize("number", [3, 5])
def test_too_few_or_too_many_rows_are_refused(tmp_path: Path, number: int) -> None:
    content, rows = small_content()
    with pytest.raises(StoreError, match="utterances have embeddings"):
        write_store(tmp_path / "store.h5", content, (rows * 2)[:number], most_bytes=MOST_BYTES)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", mark_cases(["fork", "spawn"], {"fork"}.__contains__))
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_readers_survive_fork_and_spawn(split_store: Store, method: str) -> None:
    expected = [read_in_child(split_store, index) for index in range(4)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.starmap(read_in_child, [(split_store, index) for index in range(4)]) == expected
