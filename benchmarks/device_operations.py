"""How many operations a device starts, by family and by the clips of a batch.
    python -m benchmarks.device_operations

No card is needed: what lies on it are fake CUDA tensors, which know shapes alone, while the host computes as it does.
Gradients are counted with tensors of the device `meta`, for fake CUDA tensors go through no backward pass without a
driver. An operation is one of ATen's that starts work: views start none, composite ones are taken apart, and operators
of Python code are run as what they do. Checkpoints are as deep as the published base models and very narrow: how many
operations there are does not depend on widths.
"""

from __future__ import annotations

import copy
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from torch._library.custom_ops import _maybe_get_opdef
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from embedkit import devices
from embedkit.encoders import load_encoder
from embedkit.encoders.vggish import UntrainedVggish, VggishShape
from embedkit.extraction.pooling import Pool
from embedkit.heads import resolve_head
from embedkit.losses import build_loss
from embedkit.training.data.features import Standardiser, UtteranceFeatures
from embedkit.training.data.targets import ClassTargets
from embedkit.training.live.features import LiveFeatures
from embedkit.training.stacks.stack import Group, Member, Stack, TrainingConfig
from tests.encoders.checkpoints import SHAPE, write_conv_checkpoint, write_pair, write_whisper_checkpoint
from tests.encoders.emotion2vec import random_weights, write_published

CLIPS = (8, 32)


class Counted(TorchDispatchMode):
    """Counts, while it is entered, what is started on a device and on the host.

    Attributes:
        device: Names of operations on anything but the CPU, and how often.
        host: Those on the CPU.
        waits: Those for which the host waits for the device: values that are read, copies to unpinned memory.
    """

    def __init__(self) -> None:
        super().__init__()
        self.device: Counter[str] = Counter()
        self.host: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()

    @property
    def all(self) -> tuple[Counter[str], ...]:
        """On the device, on the host, and waits."""
        return self.device, self.host, self.waits

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload) or func.namespace == "prim":
            return func(*args, **kwargs)
        inside = _inside(func, args)
        if inside is not None:
            with self:
                return inside(*args, **kwargs)
        asked = kwargs.get("device")
        read = {one.device.type for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)}
        places = read | ({torch.device(asked).type} if asked is not None else set())
        away = bool(places - {"cpu"})
        if not func.is_view and func._schema.name != "aten::detach_":
            (self.device if away else self.host)[str(func)] += 1
            to_host = asked is not None and torch.device(asked).type == "cpu" and read - {"cpu"}
            if away and (to_host or "_local_scalar_dense" in str(func) or "nonzero" in str(func)):
                self.waits[str(func)] += 1
        if away:
            return func(*args, **kwargs)
        with unset_fake_temporarily():
            return func(*args, **kwargs)


def _inside(func: OpOverload, args: Sequence[Any]) -> Callable[..., Any] | None:
    """Return what an operator consists of; None for one that is started as a whole."""
    own = _maybe_get_opdef(func)
    if own is not None:
        kernels = own._backend_fns
        place = next((one.device.type for one in tree_leaves(args) if isinstance(one, Tensor)), "cpu")
        return kernels.get(place) or kernels[None]
    return func.decompose if func._can_decompose() else None


def _unpinned(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *sizes, pin_memory=False, **options: make(*sizes, **options)


class Place:
    """A device that knows shapes alone: a CUDA card's tensors ("cuda"), or those of the device `meta`."""

    def __init__(self, kind: str) -> None:
        self.kind, self.device = kind, torch.device(kind)
        self._fake = FakeTensorMode(allow_non_fake_inputs=True) if kind == "cuda" else nullcontext()

    def copy(self, value: Any) -> Any:
        """Return a copy of any object, the tensors in it on the device; an encoder computes there."""

        def moved(tensor: Tensor, memo: dict[int, Any]) -> Tensor:
            if id(tensor) not in memo:
                size = (tensor.size(), tensor.stride())
                empty = torch.empty_strided(*size, dtype=tensor.dtype, device=self.device)
                own = isinstance(tensor, nn.Parameter)
                memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if own else empty
            return memo[id(tensor)]

        patches = [mock.patch.object(kind, "__deepcopy__", moved) for kind in (Tensor, nn.Parameter)]
        names = {torch.device: lambda device, memo: self.device, torch.Generator: lambda one, memo: one}
        with self._fake, patches[0], patches[1], mock.patch.dict(copy._deepcopy_dispatch, names):
            return copy.deepcopy(value)

    @contextmanager
    def count(self) -> Iterator[Counted]:
        """Count what runs inside; streams and pinned memory of a card that is not there do nothing."""
        stream = mock.MagicMock()
        with ExitStack() as stack:
            for owner, name, instead in (
                (torch.cuda, "current_stream", lambda device=None: stream),
                (torch.cuda, "stream", lambda one: nullcontext()),
                (Tensor, "pin_memory", lambda tensor: tensor),
                (Tensor, "record_stream", lambda tensor, one: None),
                (torch, "autocast", lambda *_, **__: nullcontext()),
                # A card has it; what is in it is never read.
                (torch, "empty", _unpinned(torch.empty)),
            ):
                stack.enter_context(mock.patch.object(owner, name, instead))
            stack.enter_context(mock.patch("embedkit.encoders.device_copies._side_stream", return_value=stream))
            stack.enter_context(self._fake)
            counted = stack.enter_context(Counted())
            yield counted


NARROW: dict[str, Any] = {key: SHAPE[key] for key in list(SHAPE)[:4] if key != "num_hidden_layers"}
MOONSHINE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "encoder_num_attention_heads": 4,
    "decoder_num_hidden_layers": 1,
    "decoder_num_attention_heads": 4,
    "vocab_size": 20,
}
UNMASKED: dict[str, Any] = {"do_normalize": False, "return_attention_mask": True}
WAVE = "Wav2Vec2FeatureExtractor"


class Generic(NamedTuple):
    """A model without code of its own: transformers' classes begin with `prefix`."""

    prefix: str
    settings: dict[str, Any]
    extractor: str = WAVE
    extraction: Mapping[str, Any] = {}
    depth: str = "num_hidden_layers"


GENERIC: dict[str, Generic] = {
    "w2v-bert": Generic("Wav2Vec2Bert", NARROW | {"feature_projection_input_dim": 160}, "SeamlessM4TFeatureExtractor"),
    "conformer": Generic("Wav2Vec2Conformer", NARROW | {"conv_dim": (32,) * 7}),
    "sew-d": Generic("SEWD", NARROW | {"conv_dim": (32,) * 13}),
    "moonshine": Generic("Moonshine", MOONSHINE, WAVE, UNMASKED, "encoder_num_hidden_layers"),
    "ast": Generic("AST", NARROW, "ASTFeatureExtractor"),
}
CONV = ("wav2vec2", "wav2vec2-large", "hubert", "hubert-large", "distilhubert", "wavlm", "wavlm-large")
FAMILIES = (*CONV, "unispeech-sat", "data2vec-audio", "emotion2vec", "whisper-base", *GENERIC, "vggish-scratch")
DEPTHS = {"whisper-base": 6, "wav2vec2-large": 24, "hubert-large": 24, "wavlm-large": 24, "distilhubert": 2}


def write_family(folder: Path, name: str, depth: int) -> str:
    """Write a narrow checkpoint of random weights and return what loads it."""
    folder.mkdir(parents=True)
    if name == "emotion2vec":
        write_published(folder / "model.pt", random_weights())
    elif name == "whisper-base":
        write_whisper_checkpoint(folder, encoder_layers=depth, max_source_positions=1500)
    elif name in GENERIC:
        one = GENERIC[name]
        config = getattr(transformers, f"{one.prefix}Config")(**one.settings, **{one.depth: depth})
        model = getattr(transformers, f"{one.prefix}Model")(config)
        write_pair(folder, model, getattr(transformers, one.extractor)(**one.extraction))
    else:
        write_conv_checkpoint(folder, "hubert" if name == "distilhubert" else name, num_hidden_layers=depth)
    return str(folder)


def load(folder: Path, name: str, depth: int | None = None, **options: Any) -> Any:
    """Load a narrow encoder as a device would have it: no weights in the order of a CPU's kernels."""
    with mock.patch("embedkit.encoders.kernels.has_onednn", return_value=False), all_at_once():
        if name == "vggish-scratch":
            encoder: Any = UntrainedVggish(name, shape=VggishShape(channels=(4, 4, 4, 4), hidden=8, dimensions=4))
        else:
            source = write_family(folder, name, DEPTHS.get(name, 12) if depth is None else depth)
            encoder = load_encoder(source, **options)
        # What is computed once is not counted.
        encoder.encode(clips_of(1), lambda *_: None)
    return encoder


@contextmanager
def all_at_once() -> Iterator[None]:
    """Let the CPU compute as a device does: what concerns one clip for all of them."""
    with mock.patch.object(devices, "ALONE", frozenset()):
        yield


def clips_of(count: int) -> list[Tensor]:
    """Return clips of unequal lengths, 1 to 1.3 s."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(16_000 + 4999 * number % 4800, generator=generator) for number in range(count)]


def measure(folder: Path) -> Iterator[tuple[str, list[Counted]]]:
    """Yield what is counted and the counts for few clips and for many, pass after pass."""
    card = Place("cuda")
    for name in FAMILIES:
        encoder = card.copy(load(folder / name, name))
        yield f"{name}, a pass", [count_pass(card, encoder, clips) for clips in CLIPS]
        if name in ("hubert", "whisper-base"):
            yield f"{name}, a pass and its pooling", [count_pass(card, encoder, clips, pooled=True) for clips in CLIPS]
    place = Place("meta")
    forward, backward = zip(*(count_mean(place, Layers(place), clips) for clips in CLIPS), strict=True)
    yield "the training means of 13 layers", list(forward)
    yield "their gradient", list(backward)
    for name in ("hubert", "whisper-base"):
        encoder = load(folder / f"{name}, trained", name, trainable=True)
        forward, backward = zip(*(count_training(encoder, clips) for clips in CLIPS), strict=True)
        yield f"{name}, a pass in training", list(forward)
        yield f"{name}, its gradient", list(backward)
    yield "a step of 240 linear heads", [count_step(clips) for clips in CLIPS]


def main() -> None:
    """Print the table of all families."""
    print(f"torch {torch.__version__}, transformers {transformers.__version__}; operations for {CLIPS} clips")
    print("| | on the device | on the host | waits |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for what, (few, many) in measure(Path(folder)):
            pairs = ((one.total(), other.total()) for one, other in zip(few.all, many.all, strict=True))
            print("|", what, "|", " | ".join(f"{one:,} and {other:,}" for one, other in pairs), "|", flush=True)


def waves_for(encoder: Any, clips: int) -> list[Tensor]:
    """Return clips for an encoder, which has counted the frames of each length before."""
    waves = clips_of(clips)
    waves = [waves[0]] * clips if encoder.equal_lengths else waves
    for wave in waves:
        encoder.frame_count(len(wave))
    return waves


def count_pass(place: Place, encoder: Any, clips: int, *, pooled: bool = False) -> Counted:
    """Count a pass of an encoder that `Place.copy` gave, and nothing after it, or the pooling for a store."""
    waves, pool = waves_for(encoder, clips), Pool()
    with place.count() as counted:
        encoder.encode(waves, pool if pooled else lambda *_: None)
        if pooled:
            pool.close()
    return counted


def count_training(encoder: Any, clips: int) -> tuple[Counted, Counted]:
    """Count, on the device `meta`, a pass in training with the mean of every layer, and its gradient."""
    place = Place("meta")
    encoder = place.copy(encoder)
    encoder.network.requires_grad_(True)
    return count_mean(place, encoder, clips)


def count_mean(place: Place, encoder: Any, clips: int) -> tuple[Counted, Counted]:
    """Count what live features take from an encoder to their standardised means, and its gradient."""
    waves = waves_for(encoder, clips)
    features = LiveFeatures(encoder, lambda row: waves[row], np.full(clips, 100), "utterance", threads=1)
    features.tuned = mock.Mock(parts=1, change=lambda wave: wave)
    features.training = True
    ones = torch.ones(1, len(encoder.layers), encoder.dimensions)
    plain = place.copy(Standardiser(mean=ones, scale=ones))
    with place.count() as forward:
        values = features.gather(np.arange(clips)[None], plain).values
    with place.count() as backward:
        if place.kind == "meta":
            values.sum().backward()
    return forward, backward


class Layers:
    """An encoder whose layers are there already: what is counted is what happens to them."""

    equal_lengths, reentrant = False, True
    layers = tuple(range(13))
    dimensions, sampling_rate = 32, 16_000

    def __init__(self, place: Place) -> None:
        self.device, self.place = place.device, place

    def frame_count(self, samples: int) -> int:
        """Return a frame for each 320 samples."""
        return samples // 320

    def forward(self, waves: Sequence[Tensor], sink: Any) -> None:
        """Hand over layers of so many clips."""
        own = torch.tensor([self.frame_count(len(wave)) for wave in waves])
        for position in self.layers:
            sink(position, torch.empty(len(waves), int(own.max()), 32, device=self.device, requires_grad=True), own)

    encode = forward


def count_step(clips: int, heads: int = 240) -> Counted:
    """Count a step of a stack of heads on a mini-batch of clips, on the device `meta`."""
    values = np.random.default_rng(0).standard_normal((4 * clips, 13, 32), dtype=np.float32)
    classes = np.arange(4 * clips) % 4
    config = TrainingConfig(head=resolve_head("linear"), classes=4, batch_size=clips)
    members = tuple(Member(loss=build_loss("ce"), seed=n, learning_rate=1e-3, epochs=1) for n in range(heads // 10))
    group = Group(train=np.arange(3 * clips), validate=np.arange(3 * clips, 4 * clips), seed=0, members=members)
    features = UtteranceFeatures(values)
    made = Stack(features, ClassTargets(classes, 4), [group] * 10, config, keep_best=False, dtype=torch.float32)
    place = Place("meta")
    stack = place.copy(made)
    with place.count() as counted:
        stack.train_batch(np.tile(np.arange(clips), (10, 1)), np.ones((10, clips), dtype=bool), 0.0)
    return counted


if __name__ == "__main__":
    main()
