"""Heads: small networks from embeddings to class scores, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.errors import ConfigError
from embedkit.registry import Part, Registry, build_options, load_object, parse_spec

if TYPE_CHECKING:
    from embedkit.heads.base import Head

HEADS = Registry(
    "head",
    [
        ("linear", Part("embedkit.heads.linear:LinearHead", "learned layer weights, then one affine layer")),
        ("superb", Part("embedkit.heads.superb:SuperbHead", "SUPERB's emotion head: layer weights, projection, mean")),
        ("mlp", Part("embedkit.heads.mlp:MlpHead", "learned layer weights, then hidden layers with dropout")),
        ("attentive", Part("embedkit.heads.attentive:AttentiveHead", "attentive statistics pooling over frames")),
        ("lstm", Part("embedkit.heads.lstm:LstmHead", "the study's LSTM over frames")),
        ("cnn", Part("embedkit.heads.cnn:CnnHead", "the study's VGG-style network over log-mel frames")),
    ],
)


def resolve_head(spec: str) -> tuple[str, type[Head], Any]:
    """Find the head behind `name`, `name:key=value,...` or a user's own `package.module:MyHead:key=value`.

    Returns:
        The name without settings, the class, and its options.

    Raises:
        UnknownNameError: no such head, or the user's module or class does not exist.
        ConfigError: a setting the head does not have or cannot use, or a class that is no `Head`.
    """
    from embedkit.heads.base import Head

    name, settings = parse_spec(spec)
    cls = load_object(name) if ":" in name else HEADS.load(name)
    if not (isinstance(cls, type) and issubclass(cls, Head)):
        raise ConfigError(f"The head {name!r} is {cls!r}, expected a subclass of embedkit.heads.base.Head.")
    return name, cls, build_options(cls.Options, settings, owner=f"the head {name!r}")
