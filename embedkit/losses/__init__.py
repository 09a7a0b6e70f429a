"""Losses, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedkit.registry import Part, Registry, build_options, parse_spec

if TYPE_CHECKING:
    from embedkit.losses.base import Loss

OWN = "own"
"""The loss of heads that are fitted under an objective of their own."""

LOSSES = Registry(
    "loss",
    [
        ("ce", Part("embedkit.losses.cross_entropy:CrossEntropy", "cross-entropy")),
        (
            "label-smoothing",
            Part(
                "embedkit.losses.label_smoothing:LabelSmoothing",
                "cross-entropy on softened labels",
                cites=("szegedy2016",),
            ),
        ),
        (
            "focal",
            Part("embedkit.losses.focal:Focal", "cross-entropy that down-weights easy utterances", cites=("lin2017",)),
        ),
        (
            "aam",
            Part(
                "embedkit.losses.aam:AdditiveAngularMargin",
                "additive angular margin on cosines (ArcFace)",
                cites=("deng2019",),
            ),
        ),
        (
            "ccc",
            Part(
                "embedkit.losses.ccc:ConcordanceCorrelation",
                "1 - concordance correlation with the labels",
                cites=("lin1989",),
            ),
        ),
        (
            "class-balanced",
            Part(
                "embedkit.losses.class_balanced:ClassBalanced",
                "cross-entropy weighted by effective numbers (not in all)",
                in_all=False,
                cites=("cui2019",),
            ),
        ),
        (
            "supcon",
            Part(
                "embedkit.losses.supcon:SupervisedContrastive",
                "supervised contrast of representations, plus a linear probe (not in all)",
                in_all=False,
                cites=("khosla2020",),
            ),
        ),
        (
            "soft-ce",
            Part(
                "embedkit.losses.soft_cross_entropy:SoftCrossEntropy",
                "cross-entropy with the shares of annotators who named each class (not in all)",
                in_all=False,
                cites=("fayek2016", "ando2018"),
            ),
        ),
        (
            "ccc-regression",
            Part(
                "embedkit.losses.ccc_regression:ConcordanceRegression",
                "1 - concordance correlation with ratings (for --targets)",
                in_all=False,
                cites=("lin1989",),
            ),
        ),
        (
            "ce+ccc",
            Part(
                "embedkit.losses.ce_ccc:CrossEntropyAndConcordance",
                "cross-entropy, and 1 - concordance correlation with ratings as a second task (not in all)",
                in_all=False,
                cites=("lin1989",),
            ),
        ),
        (OWN, Part("embedkit.losses.own:OwnObjective", "what logreg, lda, svm and knn minimise", in_all=False)),
    ],
)


def build_loss(spec: str) -> Loss:
    """Build a loss from `name`, `name:key=value,...` or a user's own `module:MyLoss:key=value`.

    Raises:
        UnknownNameError: no such loss, or the user's module or class does not exist.
        ConfigError: a setting the loss does not have or cannot use, or what is neither a `Loss` nor callable as one.
    """
    from embedkit.losses.base import Loss
    from embedkit.losses.plain import plain_loss

    name, settings = parse_spec(spec, LOSSES)
    cls = LOSSES.load(name)
    if not (isinstance(cls, type) and issubclass(cls, Loss)):
        cls = plain_loss(cls, name)
    loss: Loss = cls(build_options(cls.Options, settings, owner=f"the loss {name!r}"))
    loss.spec, loss.name = spec, name
    return loss
