"""Classifiers as they are published: what hears for them, and the head that their checkpoint carries beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.encoders.base import LayerSink
from embedkit.encoders.checkpoint import load_model, quiet
from embedkit.encoders.conv_transformer import FAMILIES, ConvTransformerEncoder
from embedkit.encoders.emotion2vec import Emotion2vecEncoder
from embedkit.encoders.emotion2vec_weights import read_classifier
from embedkit.encoders.families import prepare, tell_assumed
from embedkit.encoders.generic import GenericEncoder
from embedkit.encoders.layout import CONFIG_FILE, Checkpoint, read_settings_file
from embedkit.encoders.pretrained import EncoderRequest, PretrainedEncoder
from embedkit.encoders.weights import Weights, read_weights
from embedkit.encoders.whisper import WhisperEncoder
from embedkit.errors import EncoderError
from embedkit.libraries import load_transformers
from embedkit.wording import list_some

EMOTION2VEC_LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")
"""Of emotion2vec+, in the order of its outputs (Ma et al., "emotion2vec", ACL 2024, and its model card)."""

LONGEST_LABEL = 80
MOST_LABELS = 2048
SHOWN_KEYS = 6
_DENSE = ("classifier.dense", "classifier.out_proj")


@dataclass(frozen=True, kw_only=True)
class PublishedHead:
    """The head of a published classifier, which reads the mean over frames of an encoder's layers.

    Attributes:
        layers: The last parts of the network, in fp32: what they give, `[labels]`, are logits or ratings.
        layer_weights: Shares `[layers]` of the encoder's layers; None where it reads the last one.
        labels: What the outputs stand for, as the checkpoint names them.
        rates: Whether outputs are ratings rather than classes.
        unit: Whether ratings lie from 0 to 1 by the model's card.
    """

    layers: nn.Module
    layer_weights: Tensor | None
    labels: tuple[str, ...]
    rates: bool
    unit: bool

    @torch.inference_mode()
    def __call__(self, means: Tensor) -> Tensor:
        """Return the outputs `[labels]` for means `[layers, dimensions]`.

        The projection that comes before the mean in transformers is linear, so that it may come after.
        """
        shares = self.layer_weights
        pooled = means[-1] if shares is None else (shares[:, None] * means).sum(0)
        outputs: Tensor = self.layers(pooled)
        return outputs


def load_classifier(
    name: str, source: str, *, device: str = "cpu", precision: str = "fp32"
) -> tuple[PretrainedEncoder, PublishedHead]:
    """Load a published classifier: what hears for it, and its head on the CPU.

    They are classifiers of transformers' audio families in the layout that it writes, those of audeering's form (Wagner
    et al., "Dawn of the transformer era in speech emotion recognition", TPAMI 2023: a dense layer, tanh and a linear
    layer on the mean of the last layer), and emotion2vec+.

    Raises:
        EncoderError: as `load_encoder`; or a checkpoint without a classifier, or one whose head does not fit.
    """
    request, network, assumed = prepare(
        name, source, layers="last", device=device, precision=precision, with_classifier=True
    )
    checkpoint, config = request.checkpoint, request.config
    if network is not None:
        return Emotion2vecEncoder(request, network), _read_emotion2vec(checkpoint)
    try:
        with quiet():
            weights = read_weights(checkpoint.folder)
    except Exception:
        # What is wrong with files of weights is told where an encoder is loaded.
        load_model(checkpoint, config)
        raise
    if config.model_type in FAMILIES and all(f"{part}.weight" in weights for part in _DENSE):
        encoder: PretrainedEncoder = ConvTransformerEncoder(request)
        head = _read_dense(checkpoint, config, weights)
    else:
        encoder, head = _load_sequence_classifier(request, weights)
    if assumed:
        tell_assumed(checkpoint, "the usual input of its family")
    return encoder, head


def _load_sequence_classifier(request: EncoderRequest, weights: Weights) -> tuple[PretrainedEncoder, PublishedHead]:
    checkpoint, config = request.checkpoint, request.config
    whole, part = _outline(checkpoint, config)
    weighted = bool(getattr(config, "use_weighted_layer_sum", False))
    request = replace(request, layers="all" if weighted else "last")
    wanted = {name: value for name, value in whole.named_parameters() if not name.startswith(f"{part}.")}
    state = _require_head(checkpoint, {name: value.shape for name, value in wanted.items()}, weights)
    for name, value in state.items():
        owner = whole.get_submodule(name.rpartition(".")[0]) if "." in name else whole
        setattr(owner, name.rpartition(".")[2], nn.Parameter(value, requires_grad=False))
    labels, rates = _read_labels(checkpoint, config, next(reversed(state.values())).shape[0])
    kind: dict[str, Any] = {"labels": labels, "rates": rates, "unit": False}
    if config.model_type not in (*FAMILIES, "whisper"):
        own = OwnForwardEncoder(request, whole, part, len(labels))
        return own, PublishedHead(layers=nn.Identity(), layer_weights=None, **kind)
    shares = torch.softmax(whole.layer_weights, dim=-1) if weighted else None
    head = PublishedHead(layers=nn.Sequential(whole.projector, whole.classifier), layer_weights=shares, **kind)
    if config.model_type == "whisper":
        return WholeWindowWhisper(request), head
    encoder = ConvTransformerEncoder(request)
    if weighted:
        encoder.leave_last_unnormed()
    return encoder, head


class WholeWindowWhisper(WhisperEncoder):
    """Whisper as its classifiers hear it: every clip is padded to the window or cut there, and all frames are handed
    over, those of the padding too.
    """

    def __init__(self, request: EncoderRequest) -> None:
        super().__init__(request)
        self._heard = int(self.largest_input or 0)
        self.largest_input = None

    @property
    def heard_seconds(self) -> float:
        """How long the window is."""
        return self._heard / self.sampling_rate

    def frame_count(self, samples: int) -> int:
        """Return the frames of the window, which all clips have."""
        return self._heard // self._hop

    def _window_samples(self, window: str | float, positions: int) -> int:
        return positions * self._hop

    def _own_lengths(self, clips: Sequence[Tensor]) -> list[int]:
        return [self.frame_count(len(clip)) for clip in clips]

    def _stretched(self, waveform: Tensor) -> Tensor:
        return super()._stretched(waveform[..., : self._heard])


class OwnForwardEncoder(GenericEncoder):
    """A classifier as transformers runs it, clips of one length at a time: what it gives is one vector of logits.

    Args:
        request: The encoder as asked for.
        whole: transformers' model, all of it but the encoder with its weights.
        part: Where the encoder is in it.
        labels: How many logits there are.
    """

    def __init__(self, request: EncoderRequest, whole: nn.Module, part: str, labels: int) -> None:
        super().__init__(request)
        setattr(whole, part, self._model)
        self._called = whole.to(self.device, self.dtype).eval()
        self.layers, self.dimensions, self.frame_rate = (0,), labels, 0.0
        # Its feature extractor cuts what is too long, and padding is marked as it marks it for a clip alone.
        self.equal_lengths, self.largest_input, self._strided_mask = True, None, False

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return super().identity() | {"last_layer": "logits"}

    def frame_count(self, samples: int) -> int:
        """Return 1."""
        return 1

    def _run(self, clips: list[Tensor], sink: LayerSink) -> None:
        output, *_ = self._outputs(clips)
        sink(0, output.logits.float()[:, None], torch.ones(len(clips), dtype=torch.long))


def _outline(checkpoint: Checkpoint, config: Any) -> tuple[Any, str]:
    """Return transformers' classifier of a family without weights, and the name of the encoder in it.

    Raises:
        EncoderError: there is none for the family, or not with these settings.
    """
    try:
        with quiet(), torch.device("meta"):
            whole = load_transformers("AutoModelForAudioClassification").from_config(config)
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:120] if "adapter" in str(error) else "transformers has none for it"
        raise EncoderError(
            f"{checkpoint.source!r} is a {config.model_type} model, which cannot be run as a classifier of audio "
            f"({reason.rstrip('.')}); expected a checkpoint with one, such as superb/hubert-base-superb-er: an encoder "
            "alone is for embedkit extract."
        ) from error
    model = load_transformers("PreTrainedModel")
    return whole.eval(), next(name for name, child in whole.named_children() if isinstance(child, model))


def _read_dense(checkpoint: Checkpoint, config: Any, weights: Weights) -> PublishedHead:
    pooling = (read_settings_file(checkpoint.folder / CONFIG_FILE) or {}).get("pooling_mode", "mean")
    if pooling != "mean":
        raise EncoderError(
            f"The classifier of {checkpoint.source!r} has pooling_mode {str(pooling)[:40]!r}, expected 'mean'."
        )
    size, wide = config.hidden_size, weights["classifier.dense.weight"].shape[0]
    outputs = weights["classifier.out_proj.weight"].shape[0]
    layers = nn.Sequential(nn.Linear(size, wide), nn.Tanh(), nn.Linear(wide, outputs))
    shapes = {
        f"{name}.{kind}": value.shape
        for name, part in zip(_DENSE, (layers[0], layers[2]), strict=True)
        for kind, value in part.named_parameters()
    }
    state = _require_head(checkpoint, shapes, weights)
    layers.load_state_dict(dict(zip(layers.state_dict(), state.values(), strict=True)))
    labels, rates = _read_labels(checkpoint, config, outputs)
    return PublishedHead(layers=layers.eval(), layer_weights=None, labels=labels, rates=rates, unit=rates)


def _read_emotion2vec(checkpoint: Checkpoint) -> PublishedHead:
    found = read_classifier(checkpoint)
    shape = getattr(found.get("proj.weight"), "shape", (0, 0))
    if len(shape) != 2:
        shape = (0, 0)
    wanted = {
        "proj.weight": torch.Size((len(EMOTION2VEC_LABELS), shape[1])),
        "proj.bias": torch.Size((len(EMOTION2VEC_LABELS),)),
    }
    state = _require_head(checkpoint, wanted, found)
    layers = nn.Linear(shape[1], len(EMOTION2VEC_LABELS))
    layers.load_state_dict({name.removeprefix("proj."): value for name, value in state.items()})
    return PublishedHead(layers=layers, layer_weights=None, labels=EMOTION2VEC_LABELS, rates=False, unit=False)


def _require_head(
    checkpoint: Checkpoint, wanted: Mapping[str, torch.Size], weights: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Return a head's weights in fp32.

    Raises:
        EncoderError: there are none, or some are missing, of another shape, or hold numbers that are not finite.
    """
    known = {name: value for name in wanted if isinstance(value := weights.get(name), Tensor)}
    if not known:
        raise EncoderError(
            f"The checkpoint {checkpoint.source!r} holds no classifier of audio (expected "
            f"{list_some(wanted, SHOWN_KEYS)}): it is an encoder, or has a head for another task; keep its embeddings "
            "with embedkit extract --encoder, and train heads on them with embedkit fit; a run that embedkit exported "
            "answers embedkit predict."
        )
    first = {name.partition(".")[0] for name in wanted}
    problems = {
        "missing": wanted.keys() - known.keys(),
        "unexpected": {name for name in weights if name.partition(".")[0] in (first | _OTHER_HEADS)} - wanted.keys(),
        "of another shape": {name for name, value in known.items() if value.shape != wanted[name]},
        "not finite": {name for name, value in known.items() if not bool(value.isfinite().all())},
    }
    told = [f"{word}: {list_some(sorted(names), SHOWN_KEYS)}" for word, names in problems.items() if names]
    if told:
        raise EncoderError(
            f"The classifier of {checkpoint.source!r} does not fit ({'; '.join(told)}); expected exactly "
            f"{list_some(wanted, SHOWN_KEYS)} for its config.json, all of them numbers: take a classifier of whole "
            "clips, or get the files again."
        )
    return {name: known[name].to(torch.float32, copy=True) for name in wanted}


_OTHER_HEADS = frozenset({"tdnn", "objective", "lm_head"})
"""What models for x-vectors and for recognition hold beside a classifier's own names."""


def _read_labels(checkpoint: Checkpoint, config: Any, outputs: int) -> tuple[tuple[str, ...], bool]:
    """Read what outputs stand for from config.json, and whether they are ratings.

    Raises:
        EncoderError: labels that are no texts, too many, too few, or alike; or several at once for a clip.
    """
    settings = read_settings_file(checkpoint.folder / CONFIG_FILE) or {}
    told = settings.get("id2label")
    if told is None:
        told = {str(number): f"LABEL_{number}" for number in range(min(outputs, MOST_LABELS))}
    problem = ""
    if not isinstance(told, dict) or set(map(str, told)) != set(map(str, range(min(outputs, MOST_LABELS)))):
        problem = f"it does not name the {outputs:,} outputs from '0' to '{outputs - 1}'"
    elif odd := [label for label in told.values() if not _is_label(label)]:
        problem = f"it holds {str(odd[0])[:LONGEST_LABEL]!r}"
    elif len({label.strip().casefold() for label in told.values()}) < outputs:
        problem = "it names two outputs alike"
    if problem:
        raise EncoderError(
            f"The id2label in {CONFIG_FILE} of {checkpoint.source!r} cannot be used: {problem}; expected a label of "
            f"printable text, of at most {LONGEST_LABEL} characters, for each output."
        )
    kind = settings.get("problem_type")
    if kind == "multi_label_classification":
        raise EncoderError(
            f"The classifier {checkpoint.source!r} gives a clip several labels at once (problem_type {kind}); expected "
            "one that gives one label, or ratings."
        )
    labels = {str(number): label.strip() for number, label in told.items()}
    return tuple(labels[str(number)] for number in range(outputs)), kind == "regression"


def _is_label(label: object) -> bool:
    return isinstance(label, str) and 0 < len(label.strip()) <= LONGEST_LABEL and label.isprintable()
