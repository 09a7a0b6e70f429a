"""Classifiers of scikit-learn as heads: fitted in one go, kept as arrays, and asked as every other head is.

Each reads the mean over layers of the standardised vectors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from embedkit.heads.base import LATER, Head, HeadInputs, HeadShape, Pool
from embedkit.heads.layers import require
from embedkit.heads.products import multiply

ABSENT = -1e9
"""The score of a class that a training set lacks."""

Arrays = dict[str, NDArray[Any]]


class Probe(Head):
    """A head that scikit-learn fits; nothing of it depends on a seed."""

    level = "utterance"
    fitted = True

    @classmethod
    @abstractmethod
    def fit(cls, values: NDArray[np.float64], targets: NDArray[np.int64], classes: int, options: Any) -> Arrays:
        """Fit `[utterances, dimensions]` to class indices `[utterances]`; return the head's parameters."""


class LinearProbe(Probe):
    """A probe whose scores are affine."""

    def __init__(self, shape: HeadShape, options: Any, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self.weight = nn.Parameter(torch.zeros(shape.groups, shape.members, shape.classes, shape.dimensions))
        self.bias = nn.Parameter(torch.zeros(shape.groups, shape.members, shape.classes))

    @classmethod
    def fit(cls, values: NDArray[np.float64], targets: NDArray[np.int64], classes: int, options: Any) -> Arrays:
        found = cls.estimator(options).fit(values, targets)
        weight, bias = found.coef_, found.intercept_
        if len(found.classes_) == 2:
            # Of two classes scikit-learn keeps the difference of their scores.
            weight, bias = (np.concatenate([-part, part]) / 2 for part in (weight, bias))
        whole = {"weight": np.zeros((classes, values.shape[1])), "bias": np.full(classes, ABSENT)}
        whole["weight"][found.classes_], whole["bias"][found.classes_] = weight, bias
        return whole

    @classmethod
    @abstractmethod
    def estimator(cls, options: Any) -> Any:
        """Return the estimator of scikit-learn that is fitted."""

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`."""
        return multiply(inputs.values.mean(2).unsqueeze(1), self.weight) + self.bias.unsqueeze(-2)


@dataclass(frozen=True, kw_only=True)
class Penalised:
    """Settings of a head with an L2 penalty.

    Attributes:
        C: Inverse strength of the penalty.
        pool: What it reads: "mean", or "mean+std" for the standard deviation over frames as well.
    """

    head: ClassVar[str]
    C: float
    pool: Pool = field(default="mean", metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse what is no strength."""
        require(self.head, {"C": (self.C, 0 < self.C < np.inf, "a number above 0")})


class LogregHead(LinearProbe):
    """Logistic regression over all classes, with an L2 penalty."""

    searched: ClassVar[Mapping[str, str]] = {"C": "0.01/0.1/1/10"}

    @dataclass(frozen=True, kw_only=True)
    class Options(Penalised):
        """Settings of the head."""

        head: ClassVar[str] = "logreg"
        C: float = 0.1

    @classmethod
    def estimator(cls, options: Any) -> Any:
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(C=options.C, max_iter=5000)


class LdaHead(LinearProbe):
    """Linear discriminant analysis with one covariance, shrunk towards its diagonal mean."""

    searched: ClassVar[Mapping[str, str]] = {"shrinkage": "0.03/0.1/0.3/0.6"}

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            shrinkage: How far the covariance is drawn to a multiple of the identity.
            pool: What it reads: "mean", or "mean+std" for the standard deviation over frames as well.
        """

        shrinkage: float = 0.3
        pool: Pool = field(default="mean", metadata=LATER)

        def __post_init__(self) -> None:
            require("lda", {"shrinkage": (self.shrinkage, 0 <= self.shrinkage <= 1, "a share from 0 to 1")})

    @classmethod
    def estimator(cls, options: Any) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=options.shrinkage)


class SvmHead(LinearProbe):
    """A linear support vector machine, one class against the rest, with squared hinge loss.

    The softmax of its margins stands for probabilities, which are not calibrated.
    """

    searched: ClassVar[Mapping[str, str]] = {"C": "0.001/0.01/0.1/1"}

    @dataclass(frozen=True, kw_only=True)
    class Options(Penalised):
        """Settings of the head."""

        head: ClassVar[str] = "svm"
        C: float = 0.01

    @classmethod
    def estimator(cls, options: Any) -> Any:
        from sklearn.svm import LinearSVC

        return LinearSVC(C=options.C, dual=False, max_iter=5000)


class KnnHead(Probe):
    """The share of each class among the nearest neighbours, by Euclidean distance; it keeps its training set."""

    searched: ClassVar[Mapping[str, str]] = {"k": "1/3/5/15"}

    @dataclass(frozen=True, kw_only=True)
    class Options:
        """Settings of the head.

        Attributes:
            k: Neighbours.
            pool: What it reads: "mean", or "mean+std" for the standard deviation over frames as well.
        """

        k: int = 5
        pool: Pool = field(default="mean", metadata=LATER)

        def __post_init__(self) -> None:
            require("knn", {"k": (self.k, self.k >= 1, "at least 1")})

    def __init__(self, shape: HeadShape, options: Any, generators: Sequence[Generator]) -> None:
        super().__init__(shape, options, generators)
        self._make_room(0)

    def _make_room(self, count: int) -> None:
        shape = self.shape
        self.vectors = nn.Parameter(torch.zeros(shape.groups, shape.members, count, shape.dimensions))
        self.votes = nn.Parameter(torch.zeros(shape.groups, shape.members, count, shape.classes))

    @classmethod
    def fit(cls, values: NDArray[np.float64], targets: NDArray[np.int64], classes: int, options: Any) -> Arrays:
        return {"vectors": values, "votes": np.eye(classes)[targets]}

    def prepare(self, states: Sequence[Sequence[Mapping[str, Tensor]]]) -> list[list[dict[str, Tensor]]]:
        count = max(len(state["vectors"]) for row in states for state in row)
        self._make_room(count)
        return [
            [
                {name: nn.functional.pad(part, (0, 0, 0, count - len(part))) for name, part in state.items()}
                for state in row
            ]
            for row in states
        ]

    def forward(self, inputs: HeadInputs) -> Tensor:
        """Score `[groups, batch, layers, dimensions]`: logarithms of shares, one vote more for every class."""
        asked = inputs.values.mean(2).unsqueeze(1).double()
        vectors = self.vectors.double()
        distances = vectors.square().sum(-1).unsqueeze(-2) - 2 * torch.matmul(asked, vectors.transpose(-1, -2))
        # Rows that fill up a smaller training set have no vote, and are nobody's neighbours.
        distances = distances.masked_fill((self.votes.sum(-1) == 0).unsqueeze(-2), torch.inf)
        k = min(self.options.k, self.vectors.shape[2])
        nearest = distances.topk(k, largest=False).indices
        weights = torch.zeros_like(distances).scatter(-1, nearest, 1.0)
        counts = torch.matmul(weights, self.votes.double())
        return (counts + 1.0).log().to(inputs.values.dtype)
