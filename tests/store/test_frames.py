"""A store as a data frame: texts stay texts, embeddings are columns."""

import numpy as np
import pytest

from embedkit.errors import StoreError
from embedkit.store import Store


def test_columns_of_a_store(small_store: Store) -> None:
    pytest.importorskip("pandas")
    frame = small_store.to_frame()
    assert tuple(frame.columns) == small_store.columns
    assert frame["speaker"].tolist() == ["1", "1", "2", "2"]
    assert frame["text/en"].tolist() == ["one", "", "three [3]", "four\nlines"]
    assert (frame["audio_size"].dtype, frame["padded"].dtype) == (np.int64, np.bool_)
    assert frame["start"].isna().tolist() == [True, False, True, True]


def test_embeddings_of_a_store(small_store: Store) -> None:
    pytest.importorskip("pandas")
    frame = small_store.to_frame("mean")
    added = [name for name in frame.columns if name not in small_store.columns]
    assert added == ["mean_0", "mean_1", "mean_2"]
    np.testing.assert_array_equal(frame[added].to_numpy(), small_store.mean())
    whole = small_store.to_frame("std", layer="all")
    np.testing.assert_array_equal(whole[["std_4_0", "std_4_1", "std_4_2"]].to_numpy(), small_store.std(4))


def test_what_is_not_there(small_store: Store) -> None:
    pytest.importorskip("pandas")
    with pytest.raises(StoreError, match="has no layer 2; expected one of 1, 4"):
        small_store.to_frame("mean", layer=2)
    with pytest.raises(StoreError, match="embeddings is 'max', expected mean or std"):
        small_store.to_frame("max")  # type: ignore[arg-type]
