"""Heads: small networks from embeddings to class scores, one file each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, get_type_hints

from embedkit.errors import ConfigError
from embedkit.registry import Part, Registry, build_options, parse_spec

if TYPE_CHECKING:
    from embedkit.heads.base import Head, Pool

HEADS = Registry(
    "head",
    [
        ("linear", Part("embedkit.heads.linear:LinearHead", "learned layer weights, then one affine layer")),
        (
            "superb",
            Part(
                "embedkit.heads.superb:SuperbHead",
                "SUPERB's emotion head: layer weights, projection, mean",
                cites=("yang2021",),
            ),
        ),
        ("mlp", Part("embedkit.heads.mlp:MlpHead", "learned layer weights, then hidden layers with dropout")),
        (
            "attentive",
            Part(
                "embedkit.heads.attentive:AttentiveHead",
                "attentive statistics pooling over frames",
                cites=("okabe2018",),
            ),
        ),
        ("lstm", Part("embedkit.heads.lstm:LstmHead", "the study's LSTM over frames", cites=("hochreiter1997",))),
        (
            "cnn",
            Part(
                "embedkit.heads.cnn:CnnHead",
                "the study's VGG-style network over log-mel frames",
                cites=("simonyan2015",),
            ),
        ),
        (
            "logreg",
            Part(
                "embedkit.heads.probes:LogregHead",
                "scikit-learn's logistic regression, C searched",
                cites=("pedregosa2011",),
            ),
        ),
        (
            "lda",
            Part(
                "embedkit.heads.probes:LdaHead",
                "scikit-learn's linear discriminants, shrinkage searched",
                cites=("pedregosa2011",),
            ),
        ),
        (
            "svm",
            Part(
                "embedkit.heads.probes:SvmHead",
                "scikit-learn's linear support vectors, C searched",
                cites=("pedregosa2011",),
            ),
        ),
        (
            "knn",
            Part(
                "embedkit.heads.probes:KnnHead",
                "votes of the nearest neighbours, their number searched",
                cites=("pedregosa2011",),
            ),
        ),
    ],
)


@dataclass(frozen=True)
class ResolvedHead:
    """A head with settings that leave nothing open: how it is written, its name alone, its class and its options."""

    spec: str
    name: str
    cls: type[Head] = field(compare=False)
    options: Any = field(compare=False)


def resolve_heads(spec: str) -> list[ResolvedHead]:
    """Find all heads of which one is to be chosen: `mlp:hidden=64/256` is two of them, most others are one."""
    return [resolve_head(variant) for variant in expand_head(spec)]


def resolve_head(spec: str) -> ResolvedHead:
    """Find the head behind `name`, `name:key=value,...` or a user's own `module:MyHead:key=value`.

    Raises:
        UnknownNameError: no such head, or the user's module or class does not exist.
        ConfigError: a setting the head does not have or cannot use, or a class that is neither a `Head` nor a
            torch module.
    """
    name, settings = parse_spec(spec, HEADS)
    cls = _load_class(name)
    return ResolvedHead(spec, name, cls, build_options(cls.Options, settings, owner=f"the head {name!r}"))


def complete_head(spec: str, pool: Pool) -> str:
    """Write out what a head reads where it leaves that open, and the embeddings have another default than the mean.

    Raises:
        UnknownNameError: no such head.
    """
    name, settings = parse_spec(spec, HEADS)
    if pool == "mean" or "pool" in settings or "pool" not in get_type_hints(_load_class(name).Options):
        return spec
    return f"{spec}{',' if settings else ':'}pool={pool}"


def is_fitted(spec: str) -> bool:
    """Tell whether a head is fitted in one go, under an objective of its own, instead of trained under a loss.

    Raises:
        UnknownNameError: no such head.
    """
    return _load_class(parse_spec(spec, HEADS)[0]).fitted


def widest_pool(heads: Iterable[ResolvedHead]) -> Pool:
    """Return what is read by the one of some heads that reads most."""
    return "mean+std" if any(head.cls.pool(head.options) == "mean+std" for head in heads) else "mean"


def expand_head(spec: str) -> list[str]:
    """Write out what a head's settings leave open: `mlp:hidden=64/256` is `mlp:hidden=64` and `mlp:hidden=256`.

    Values that are texts keep their slashes. What a head searches by itself is searched unless it is named.

    Raises:
        UnknownNameError: no such head.
        ConfigError: a value that is missing or named twice.
    """
    name, settings = parse_spec(spec, HEADS)
    cls = _load_class(name)
    hints, settings = get_type_hints(cls.Options), {**cls.searched, **settings}
    choices = {
        key: [value] if hints.get(key.replace("-", "_")) is str else value.split("/") for key, value in settings.items()
    }
    for key, values in choices.items():
        if not all(values) or len(set(values)) < len(values):
            raise ConfigError(
                f"The head {name!r}: {key} is {settings[key]!r}, expected different values between the slashes."
            )
    if all(len(values) == 1 for values in choices.values()):
        return [spec]
    return [
        f"{name}:{','.join(f'{key}={value}' for key, value in zip(choices, values, strict=True))}"
        for values in product(*choices.values())
    ]


def _load_class(name: str) -> type[Head]:
    from torch.nn import Module

    from embedkit.heads.base import Head
    from embedkit.heads.plain import plain_head

    cls = HEADS.load(name)
    if isinstance(cls, type) and issubclass(cls, Head):
        return cls
    if isinstance(cls, type) and issubclass(cls, Module):
        return plain_head(cls)
    raise ConfigError(
        f"The head {name!r} is {cls!r}, expected a subclass of embedkit.heads.base.Head or of torch.nn.Module."
    )
