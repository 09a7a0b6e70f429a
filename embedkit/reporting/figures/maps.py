"""Maps of embeddings: every utterance a point, near those whose embeddings are alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import EmbedkitError, RunError
from embedkit.reporting.figures.charts import SIDE, draw_points
from embedkit.reporting.figures.theme import Figure
from embedkit.reporting.predictions import find_tested

if TYPE_CHECKING:
    from embedkit.reporting.predictions import Predictions
    from embedkit.training.runs import RunRecord

MOST_POINTS = 6000
_MARGIN = 10
METHODS = ("t-SNE", "PCA")
COLOUR_BY = ("label", "predicted", "speaker", "session", "corpus")

_TOLD = {
    "id": "utterance",
    "label": "true label",
    "predicted": "predicted by most seeds",
    "right": "recognised",
    "speaker": "speaker",
    "session": "session",
    "corpus": "corpus",
}


@dataclass(frozen=True, kw_only=True)
class Map:
    """The embeddings of a store in two dimensions.

    Attributes:
        title: Of what.
        columns: Of every utterance its "id" and what is known of `COLOUR_BY`.
        points: By method, `[utterances, 2]` within a square of `SIDE`.
        axes: Titles of the axes by method.
        note: How it was made.
    """

    title: str
    columns: Mapping[str, tuple[str, ...]]
    points: Mapping[str, NDArray[np.float64]]
    axes: Mapping[str, tuple[str, str]]
    note: str

    @property
    def coloured_by(self) -> list[str]:
        """What colours may stand for."""
        return [name for name in COLOUR_BY if name in self.columns]

    @property
    def data(self) -> list[dict[str, Any]]:
        """The rows of its figures, the same for all of them."""
        places = {
            f"{side}{number}": np.round(self.points[method][:, axis], 1).tolist()
            for number, method in enumerate(METHODS)
            for axis, side in enumerate("xy")
        }
        columns = {**self.columns, **places}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def build_map(record: RunRecord, predictions: Predictions) -> Map:
    """Project the embeddings that a run was tested on.

    The mean over frames and layers is taken; every dimension is standardised; t-SNE (van der Maaten and Hinton 2008)
    starts from the first principal components.

    Raises:
        RunError: the store is gone, damaged, or not the one that the run was fitted on.
    """
    try:
        places = find_tested(record)
        chosen = np.arange(len(predictions.ids))
        if len(chosen) > MOST_POINTS:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_POINTS, replace=False))
        found = [places[predictions.ids[place]] for place in chosen]
        stores = list(dict.fromkeys(store for store, _ in found))
        values = np.empty((len(found), stores[0].dimensions))
        for store in stores:
            own = np.array([place for place, (other, _) in enumerate(found) if other is store])
            for part in filter(len, np.array_split(own, 16)):
                taken = store.take("mean", np.array([found[place][1] for place in part]))
                values[part] = taken.mean(axis=1, dtype=np.float32)
    except (EmbedkitError, KeyError) as error:
        raise RunError(f"{error}") from error
    columns = {
        name: [getattr(predictions, f"{name}s")[place] for place in chosen]
        for name in ("id", "label", "speaker", "session")
    }
    if len(predictions.truth):
        said = predictions.predicted.T[chosen]
        votes = [np.bincount(own, minlength=len(predictions.classes)).argmax() for own in said]
        columns["predicted"] = [predictions.classes[place] for place in votes]
    if len(stores) > 1:
        columns["corpus"] = [store.corpus for store, _ in found]
    points, axes, note = _project(values)
    left_out = len(predictions.ids) - len(chosen)
    if left_out:
        note += f" {left_out:,} of {len(predictions.ids):,} utterances, drawn at random, are left out."
    return Map(
        title=f"{'+'.join(one.corpus for one in stores)}: {'+'.join(dict.fromkeys(one.path.stem for one in stores))}",
        columns={name: tuple(told) for name, told in columns.items() if any(told)},
        points=points,
        axes=axes,
        note=note,
    )


def draw_map(found: Map, method: str = "t-SNE", by: str = "label") -> Figure:
    """Draw a map, coloured by one of `COLOUR_BY`."""
    number = METHODS.index(method)
    return draw_points(
        f"{found.title}, {method}, by {by}",
        found.data,
        by=by,
        places=(f"x{number}", f"y{number}"),
        axes=found.axes[method],
        fields={name: told for name, told in _TOLD.items() if name in found.columns},
    )


def _project(values: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.float64]], dict[str, tuple[str, str]], str]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    count = len(values)
    if count < 3:
        raise RunError(f"There are {count} utterances; a map needs at least 3.")
    pca = PCA(n_components=min(50, count, values.shape[1]), random_state=0, svd_solver="full")
    components = pca.fit_transform(StandardScaler().fit_transform(values))
    if components.shape[1] < 2:
        components = np.pad(components, ((0, 0), (0, 1)))
    perplexity = min(30.0, (count - 1) / 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        near = TSNE(init=components[:, :2], perplexity=perplexity, random_state=0).fit_transform(components)
    first, second = 100 * pca.explained_variance_ratio_[:2] if components.any() else (0, 0)
    note = (
        "Mean over frames and layers, every dimension standardised. "
        f"t-SNE: of the first {components.shape[1]} principal components, perplexity {perplexity:g}; only who is near "
        "whom means something. PCA: the first two, with their shares of the variance."
    )
    axes = {
        "t-SNE": ("t-SNE 1 (no unit)", "t-SNE 2 (no unit)"),
        "PCA": (f"component 1 ({first:.0f} % of the variance)", f"component 2 ({second:.0f} % of the variance)"),
    }
    return {"t-SNE": _fit(near), "PCA": _fit(components[:, :2])}, axes, note


def _fit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale both dimensions alike into the square."""
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    return np.asarray((points - (low + high) / 2) * scale + SIDE / 2, dtype=np.float64)


def draw_maps(maps: Sequence[Map]) -> dict[str, Figure]:
    """Draw every map by every method, coloured by everything that is known; those of one title are numbered."""
    titles = [one.title.replace(": ", "-") for one in maps]
    again = [titles[:place].count(title) for place, title in enumerate(titles)]
    return {
        f"map-{title}{f'-{number + 1}' if number else ''}-{method}-{by}": draw_map(one, method, by)
        for one, title, number in zip(maps, titles, again, strict=True)
        for method in METHODS
        for by in one.coloured_by
    }
