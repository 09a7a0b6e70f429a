"""Every flipped byte of the raw data is found, and the damaged utterances are named."""

from __future__ import annotations

import random
from pathlib import Path

import h5py
import numpy as np
import pytest

from embedkit.errors import StoreError
from embedkit.store import Damage, Store, find_damage, open_store
from embedkit.store.verify import intact_rows, require_undamaged

FLIPS = 200


def raw_regions(path: Path) -> list[tuple[str, int, int]]:
    """Return name, offset and size of every dataset's raw data."""
    regions: list[tuple[str, int, int]] = []

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.size:
            regions.append((name, item.id.get_offset(), item.size * item.dtype.itemsize))

    with h5py.File(path) as file:
        file.visititems(visit)
    return regions


def flip(path: Path, offset: int, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def damage_after(path: Path) -> Damage | None:
    """What is found; None where opening is refused already."""
    try:
        return find_damage(open_store(path))
    except StoreError:
        return None


def test_flips_at_random_places_of_the_raw_data_are_all_caught(small_store: Store) -> None:
    path = small_store.path
    whole = path.read_bytes()
    regions = raw_regions(path)
    generator = random.Random(3)
    for _ in range(FLIPS):
        name, offset, size = generator.choice(regions)
        place = offset + generator.randrange(size)
        flip(path, place, generator.randrange(8))
        damage = damage_after(path)
        assert damage is None or damage, f"a flip at {place} in {name} was not noticed"
        path.write_bytes(whole)
    assert not find_damage(open_store(path))


@pytest.mark.parametrize(
    ("region", "skip", "expected"),
    [
        ("frame/values", 2 * 3 * 2 * 5, Damage(utterances=("c",))),
        ("utterance/mean", 2 * 3 * 4 * 3, Damage(utterances=("d",))),
        ("utterance/std", 0, Damage(utterances=("a",))),
        ("utterances/label", 1, Damage(parts=("utterances/label",))),
        ("utterances/audio_size", 2, Damage(parts=("utterances/audio_size",))),
        ("failures/reason", 0, Damage(parts=("failures/reason",))),
        ("checksums/parts", 0, Damage(parts=("failures/id", "checksums"))),
    ],
)
def test_the_damaged_part_is_named(small_store: Store, region: str, skip: int, expected: Damage) -> None:
    offset = next(offset for name, offset, _ in raw_regions(small_store.path) if name == region)
    flip(small_store.path, offset + skip, 2)
    found = damage_after(small_store.path)
    assert found is not None
    assert (found.utterances, set(found.parts)) == (expected.utterances, set(expected.parts))


def test_a_changed_attribute_is_found(small_store: Store) -> None:
    with h5py.File(small_store.path, "r+") as file:
        file.attrs["corpus"] = "other"
    assert find_damage(open_store(small_store.path)).parts == ("attributes",)


def test_progress_counts_utterances(small_store: Store) -> None:
    seen: list[tuple[int, int]] = []
    find_damage(small_store, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def spoil(store: Store, region: str) -> Store:
    offset = next(offset for name, offset, _ in raw_regions(store.path) if name == region)
    flip(store.path, offset, 2)
    return open_store(store.path)


def test_a_damaged_store_is_refused_in_one_sentence(small_store: Store) -> None:
    require_undamaged(small_store)
    store = spoil(small_store, "utterance/mean")
    with pytest.raises(StoreError, match=r"is damaged \(a\); extract again with --overwrite\.$"):
        require_undamaged(store)


def test_large_embeddings_are_not_read_but_columns_are(small_store: Store) -> None:
    store = spoil(small_store, "utterance/mean")
    require_undamaged(store, most_bytes=store.size_bytes - 1)
    with pytest.raises(StoreError, match="is damaged"):
        require_undamaged(store, most_bytes=store.size_bytes)
    store = spoil(store, "utterances/label")
    assert find_damage(store, embeddings=False) == Damage(parts=("utterances/label",))
    with pytest.raises(StoreError, match=r"is damaged \(utterances/label\)"):
        require_undamaged(store, most_bytes=0)


def test_rows_are_compared_with_their_digests_as_they_are_read(small_store: Store) -> None:
    store = spoil(small_store, "frame/values")
    read = intact_rows(store)
    with pytest.raises(StoreError, match=r"is damaged \(a\)"):
        read(0)
    np.testing.assert_array_equal(read(2).mean, store.mean("all")[2])
