"""Maps of embeddings: every utterance a point, near those whose embeddings are alike."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import EmbedkitError, RunError
from embedkit.reporting.figures.chart import COLOURS, Chart, points_path
from embedkit.store.reader import open_store

if TYPE_CHECKING:
    from embedkit.reporting.predictions import Predictions
    from embedkit.training.runs import RunRecord

MOST_POINTS = 6000
SIDE, _MARGIN = 400, 10
KINDS = ("dots", "squares", "crosses")
"""How points look after the colours have been used up."""

CROWD = 1500
"""More points than these are drawn smaller."""

METHODS = ("t-SNE", "PCA")
COLOUR_BY = ("label", "speaker", "session")


@dataclass(frozen=True, kw_only=True)
class Map:
    """The embeddings of a store in two dimensions.

    Attributes:
        title: Of what.
        ids: Of the utterances shown.
        groups: Of every utterance its "label", "speaker", "session"; those that are known.
        points: By method, `[utterances, 2]` within a square of `SIDE`.
        note: How it was made.
    """

    title: str
    ids: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    points: Mapping[str, NDArray[np.float64]]
    note: str

    @property
    def kinds(self) -> tuple[str, ...]:
        """How points look, smaller where they are many."""
        return KINDS if len(self.ids) <= CROWD else tuple(f"{kind} small" for kind in KINDS)


def build_map(record: RunRecord, predictions: Predictions) -> Map:
    """Project the embeddings that a run was tested on.

    The mean over frames and layers is taken; every dimension is standardised; t-SNE (van der Maaten and Hinton 2008)
    starts from the first principal components.

    Raises:
        RunError: the store is gone, damaged, or not the one that the run was fitted on.
    """
    told = record.config.get("test_store") or record.config["store"]
    try:
        store = open_store(told["path"])
        if store.digest != told["digest"]:
            raise RunError(f"The store {told['path']} is not the one that was fitted on: it was extracted again.")
        rows = {name: row for row, name in enumerate(store.ids.tolist())}
        chosen = np.arange(len(predictions.ids))
        if len(chosen) > MOST_POINTS:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, MOST_POINTS, replace=False))
        values = store.mean()[[rows[predictions.ids[place]] for place in chosen]].astype(np.float64)
    except (EmbedkitError, KeyError) as error:
        raise RunError(f"{error}") from error
    columns = {"label": predictions.labels, "speaker": predictions.speakers, "session": predictions.sessions}
    groups = {name: tuple(column[place] for place in chosen) for name, column in columns.items()}
    points, note = _project(values)
    left_out = len(predictions.ids) - len(chosen)
    if left_out:
        note += f" {left_out:,} of {len(predictions.ids):,} utterances, drawn at random, are left out."
    return Map(
        title=f"{store.corpus}: {store.path.stem}",
        ids=tuple(predictions.ids[place] for place in chosen),
        groups={name: values for name, values in groups.items() if any(values) and name in COLOUR_BY},
        points=points,
        note=note,
    )


def draw_map(found: Map, method: str = "t-SNE", by: str = "label") -> Chart:
    """Draw a map, coloured by "label", "speaker" or "session"."""
    owners = found.groups[by]
    names = sorted(set(owners))
    place = {name: number for number, name in enumerate(names)}
    member = np.array([place[owner] for owner in owners])
    parts = [f'<rect class="grid" fill="none" x="1" y="1" width="{SIDE - 2}" height="{SIDE - 2}"/>']
    for number in range(len(names)):
        kind = found.kinds[number // len(COLOURS) % len(KINDS)]
        path = points_path(found.points[method][member == number], kind)
        parts.append(f'<path class="s{number % len(COLOURS)} {kind}" d="{path}"/>')
    return Chart(
        title=f"{found.title}, {method}, by {by}",
        body="".join(parts),
        width=SIDE,
        height=SIDE,
        legend=tuple(names),
        kinds=found.kinds,
    )


def _project(values: NDArray[np.float64]) -> tuple[dict[str, NDArray[np.float64]], str]:
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
    explained = 100 * pca.explained_variance_ratio_[:2].sum()
    note = (
        "Mean over frames and layers, every dimension standardised. "
        f"t-SNE: of the first {components.shape[1]} principal components, perplexity {perplexity:g}; only who is near "
        f"whom means something. PCA: the first two, with {explained:.0f} % of the variance."
    )
    return {"t-SNE": _fit(near), "PCA": _fit(components[:, :2])}, note


def _fit(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale both dimensions alike into the square."""
    low, high = points.min(0), points.max(0)
    scale = (SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    return np.asarray((points - (low + high) / 2) * scale * [1, -1] + SIDE / 2, dtype=np.float64)


def draw_maps(maps: Sequence[Map]) -> dict[str, Chart]:
    """Draw every map by every method, coloured by everything that is known."""
    return {
        f"map-{one.title.replace(': ', '-')}-{method}-{by}": draw_map(one, method, by)
        for one in maps
        for method in METHODS
        for by in one.groups
    }
