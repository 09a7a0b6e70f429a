"""Losses, one file each."""

from embedkit.registry import Part, Registry

LOSSES = Registry(
    "loss",
    [
        ("ce", Part("embedkit.losses.cross_entropy:CrossEntropy", "cross-entropy")),
        ("label-smoothing", Part("embedkit.losses.label_smoothing:LabelSmoothing", "cross-entropy on softened labels")),
        ("focal", Part("embedkit.losses.focal:Focal", "cross-entropy that looks away from easy utterances")),
        ("aam", Part("embedkit.losses.aam:AdditiveAngularMargin", "additive angular margin on cosines (ArcFace)")),
        ("ccc", Part("embedkit.losses.ccc:ConcordanceCorrelation", "1 - concordance correlation with the labels")),
    ],
)
