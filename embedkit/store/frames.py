"""A store as a table of one row an utterance: its columns, and its embeddings as further ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import StoreError
from embedkit.registry import import_extra

if TYPE_CHECKING:
    from embedkit.store.reader import Store

Statistic = Literal["mean", "std"]
Layer = int | Literal["average", "all"]


def as_frame(store: Store, embeddings: Statistic | None, layer: Layer) -> Any:
    """Make a data frame of pandas; see `Store.to_frame`."""
    pandas = import_extra("pandas", extra="tables", needed_by="A data frame", error=StoreError)
    columns = {name: store.column(name) for name in store.columns}
    # Texts are given as such: numbers are not looked for in them, so that a speaker 03 stays one.
    frame = pandas.DataFrame(
        {
            name: pandas.Series(values.tolist(), dtype="str") if values.dtype.kind == "U" else values
            for name, values in columns.items()
        }
    )
    if embeddings is None:
        return frame
    names, values = embedding_columns(store, embeddings, layer)
    return pandas.concat([frame, pandas.DataFrame(values, columns=names)], axis=1)


def embedding_columns(store: Store, statistic: Statistic, layer: Layer) -> tuple[list[str], NDArray[np.float32]]:
    """Return embeddings as columns, `[utterances, columns]`, with their names: "mean_0", or "mean_12_0" of layer 12.

    Raises:
        StoreError: the layer is not kept, or the statistic is neither "mean" nor "std".
    """
    if statistic not in ("mean", "std"):
        raise StoreError(f"embeddings is {statistic!r}, expected mean or std, or None for the columns alone.")
    values = (store.mean if statistic == "mean" else store.std)(layer)
    layers = store.layers if layer == "all" else ("",)
    names = [
        f"{statistic}_{'' if one == '' else f'{one}_'}{number}" for one in layers for number in range(store.dimensions)
    ]
    return names, values.reshape(len(store), -1)
