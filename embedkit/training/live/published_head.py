"""The head of a published classifier as the one that training begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from embedkit.corpora.base import Corpus
from embedkit.corpora.emotions import map_labels, tell_map
from embedkit.encoders import ENCODERS, PRETRAINED
from embedkit.encoders.classifiers import load_classifier
from embedkit.encoders.published import PUBLISHED, RATED, TRAINED_ON, names_corpus
from embedkit.errors import EncoderError, FitError
from embedkit.imports import looks_like_target
from embedkit.store.layout import canonical_json, digest_bytes
from embedkit.training.data.task import TaskData
from embedkit.training.stacks.initial import InitialHead
from embedkit.wording import list_words

Ends: TypeAlias = tuple[tuple[float, float], ...]
"""What 0 and 1 of each rating are."""


@dataclass(frozen=True, kw_only=True)
class HeadStart:
    """A published head, as a head of ours has its weights.

    Attributes:
        spec: The head of ours.
        layers: What of the encoder it reads.
        state: Its weights, as a head of ours names them.
        labels: What its outputs stand for.
        rates: Whether they are ratings.
        unit: Whether ratings lie from 0 to 1.
        trained_on: The corpora it was trained on by its model card; empty where that is not known.
    """

    spec: str
    layers: tuple[int, ...]
    state: Mapping[str, Tensor]
    labels: tuple[str, ...]
    rates: bool
    unit: bool
    trained_on: str

    def begin(self, outputs: Sequence[str], mapped: Mapping[str, str], ends: Ends | None) -> InitialHead:
        """Return what heads begin with.

        Args:
            outputs: Classes or ratings of the heads, in order.
            mapped: Which published labels stand for them; of several of one class the mean of their weights is taken.
            ends: What 0 and 1 of published ratings are in the corpus's unit; None where that is not known.
        """
        state = dict(self.state)
        for name in ("classifier.weight", "classifier.bias"):
            published = state[name]
            rows = [[self.labels.index(label) for label, new in mapped.items() if new == one] for one in outputs]
            state[name] = torch.stack(
                [published[own].mean(0) if own else torch.full_like(published[0], torch.nan) for own in rows]
            )
        return InitialHead(state=state, ends=ends if self.unit else ((0.0, 1.0),) * len(outputs))

    @property
    def digest(self) -> str:
        """Tells published heads apart."""
        weights = b"".join(self.state[name].numpy().tobytes() for name in sorted(self.state))
        return digest_bytes(canonical_json([self.spec, list(self.labels)]).encode() + weights)


def read_head_start(name: str, sources: Mapping[str, str]) -> HeadStart:
    """Read the head that an encoder's checkpoint carries.

    Raises:
        EncoderError: there is none, or none that a head of ours can go on with.
    """
    if looks_like_target(name) or (name in ENCODERS and name not in ENCODERS.names_of(PRETRAINED)):
        raise EncoderError(
            f"The encoder {name!r} has no published head; leave out --init-head, or name the checkpoint of a "
            "classifier such as superb/hubert-base-superb-er."
        )
    encoder, head = load_classifier(name, sources.get(name) or PUBLISHED.get(name) or name)
    parts = list(head.layers) if isinstance(head.layers, nn.Sequential) else [head.layers]
    linear = [part for part in parts if isinstance(part, nn.Linear)]
    first = linear[0].out_features if linear else 0
    if len(parts) == 1 and linear:
        spec, names = "linear", ["classifier"]
    elif len(parts) == len(linear) == 2:
        spec, names = f"superb:hidden={first}", ["projection", "classifier"]
    elif len(linear) == 2:
        spec, names = f"mlp:hidden={first},activation=tanh", ["hidden.0", "classifier"]
    else:
        raise EncoderError(
            f"The head of {name!r} runs inside of transformers' own forward pass, and cannot be trained on from here; "
            "leave out --init-head."
        )
    state = {
        f"{own}.{kind}": value.detach().float().clone()
        for own, part in zip(names, linear, strict=True)
        for kind, value in part.named_parameters()
    }
    if head.layer_weights is not None:
        state["mix.layer_weights"] = head.layer_weights.detach().float().clamp_min(1e-12).log()
    return HeadStart(
        spec=spec,
        layers=encoder.layers,
        state=state,
        labels=head.labels,
        rates=head.rates,
        unit=head.unit,
        trained_on=TRAINED_ON.get(encoder.checkpoint.source, ""),
    )


@dataclass(frozen=True, kw_only=True)
class BegunHead:
    """A published head made ready for the classes, or ratings, of a corpus.

    Attributes:
        initial: What heads begin with.
        kept: What sets a run apart: which labels stand for what, and the digest of the published head.
        notes: What is said of it.
        leak: Whether it was trained on the corpus by its model card.
    """

    initial: InitialHead
    kept: Mapping[str, Any]
    notes: tuple[str, ...]
    leak: bool


def begin_published(start: HeadStart, data: TaskData, given: Mapping[str, str], corpus: Corpus) -> BegunHead:
    """Make a published head ready for the utterances of a corpus.

    Published ratings from 0 to 1 span the scale of a corpus that is known, else the ratings of each training set.

    Raises:
        FitError: ratings where classes are learned, or classes where ratings are; too few in common.
        ConfigError: a label that the head does not have.
    """
    rates = bool(data.dimensions)
    if start.rates != rates:
        found, learned = ("ratings", "classes") if start.rates else ("classes", "ratings")
        raise FitError(
            f"The published head gives {found} ({list_words(start.labels, 'and')}), but {learned} are to be learned; "
            f"{'name columns with --targets' if start.rates else 'leave out --targets'}, or leave out --init-head."
        )
    outputs = data.dimensions or data.classes
    mapped = map_labels(start.labels, given, outputs, corpus.name, least=1 if rates else 2)
    notes = tell_map(start.labels, outputs, mapped, "column" if rates else "class", without="and drawn anew")
    known = RATED.get(corpus.kind)
    ends = None if known is None else (known,) * len(outputs)
    if start.unit:
        told = (
            "the lowest and the highest rating of each training set"
            if known is None
            else "{:g} and {:g}".format(*known)
        )
        notes.append(f"Published ratings of 0 and 1 are taken for {told}.")
    leak = names_corpus(start.trained_on, corpus.name)
    if leak:
        notes.append(f"LEAK: the published model was trained on {start.trained_on}, and so on test speakers.")
    kept = {"kind": "published", "map": dict(mapped), "digest": start.digest}
    return BegunHead(initial=start.begin(outputs, mapped, ends), kept=kept, notes=tuple(notes), leak=leak)
