"""What must be said of users' plain modules and functions before they are trained."""

from __future__ import annotations

from embedkit.errors import ConfigError
from embedkit.heads import ResolvedHead
from embedkit.heads.plain import ModuleHead
from embedkit.losses.base import Loss
from embedkit.losses.plain import FunctionLoss


def describe_plain_parts(head: ResolvedHead, loss: Loss) -> list[str]:
    """Name the parts that are trained one by one, one sentence each.

    Raises:
        ConfigError: a plain head under a loss that needs cosines (with classes, or between utterances).
    """
    if head.cls.fitted:
        return [
            f"The head {head.name!r} is fitted by scikit-learn, deterministically: it is the same under every seed."
        ]
    is_plain = issubclass(head.cls, ModuleHead)
    if is_plain and loss.classifier != "affine":
        raise ConfigError(
            f"The head {head.name!r} is a plain module that gives logits, but the loss {loss.spec!r} needs cosines; "
            "choose another loss, or write the head as a subclass of embedkit.heads.base.Head."
        )
    slower = "trained one by one, which gives the same result in more time"
    sentences = [f"The head {head.name!r} is a plain torch module: its heads are {slower}."] if is_plain else []
    if isinstance(loss, FunctionLoss):
        sentences.append(f"The loss {loss.spec!r} is a plain function of one head's scores: its heads are {slower}.")
    return sentences
