"""Stores of every format version are read back; the present writer still writes the present version's bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedkit.store import find_damage, open_store, write_store
from tests.store.golden.write import golden_content, golden_rows

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = [(1, GOLDEN / "version-1.h5", None), (2, GOLDEN / "version-2" / "split.h5", 60)]


@pytest.mark.parametrize(("version", "path", "most_bytes"), VERSIONS)
def test_every_version_is_read_back(version: int, path: Path, most_bytes: float | None) -> None:
    content, rows = golden_content(), golden_rows()
    with open_store(path) as store:
        assert store.attributes["format_version"] == version
        assert len(store.shards) == (3 if most_bytes else 0)
        assert store.corpus == "golden"
        assert store.corpus_info == content.corpus_info
        assert store.task["merge"] == {"excitement": "happiness"}
        assert store.encoder == content.encoder
        assert store.layers == (0, 6)
        assert store.extraction == content.extraction
        assert store.trained_on == content.trained_on
        assert store.fingerprint == content.fingerprint
        assert set(store.columns) == set(content.columns)
        for name, values in content.columns.items():
            np.testing.assert_array_equal(store.column(name), values)
        np.testing.assert_array_equal(store.mean("all"), [row.mean for row in rows])
        np.testing.assert_array_equal(store.std("all"), [row.std for row in rows])
        for index, row in enumerate(rows):
            np.testing.assert_array_equal(store.frames(index), row.frames)
        assert store.failures == content.failures
        assert not find_damage(store)


@pytest.mark.parametrize(("version", "path", "most_bytes"), VERSIONS)
def test_the_format_has_not_changed_unnoticed(
    tmp_path: Path, version: int, path: Path, most_bytes: float | None
) -> None:
    write_store(tmp_path / path.name, golden_content(), golden_rows(), most_bytes=most_bytes)
    with open_store(tmp_path / path.name) as now, open_store(path) as golden:
        assert now.digest == golden.digest
        assert now.attributes == golden.attributes
