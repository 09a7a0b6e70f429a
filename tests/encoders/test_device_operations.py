"""A device starts as much for many clips as for few, waits for nothing, and gives what each clip gives alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.device_operations import (
    CLIPS,
    FAMILIES,
    Counted,
    Layers,
    Place,
    all_at_once,
    count_mean,
    count_pass,
    count_step,
    count_training,
    load,
)
from embedkit.encoders import load_encoder
from embedkit.encoders.pooling import mean_frames
from tests.encoders.checkpoints import collect, relative_error, speechlike, write_conv_checkpoint

MOST = 1.1
EVERYDAY = ("hubert", "whisper-base", "w2v-bert", "conformer", "vggish-scratch")
"""Those that differ in what happens clip by clip on a CPU; the others share their code."""
TABLE = [pytest.param(name, marks=() if name in EVERYDAY else pytest.mark.heavy) for name in FAMILIES]
# transformers' code for SEW-D does not run on the device `meta`.
TRAINED = [
    pytest.param(name, marks=() if name in ("hubert", "whisper-base") else pytest.mark.heavy)
    for name in FAMILIES
    if name != "sew-d"
]
Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Load:
    folder = tmp_path_factory.mktemp("narrow")
    # How deep a model is changes how many operations there are, and not by how many clips change that.
    return cache(lambda name: load(folder / name, name, 1))


def grown(few: Counted, many: Counted) -> tuple[float, float]:
    """Return by how much operations on the device and on the host grow, and require that there are some."""
    assert few.device.total() > 0
    return many.device.total() / few.device.total(), many.host.total() / max(few.host.total(), 1)


@pytest.mark.parametrize("name", TABLE)
def test_a_pass_and_its_pooling_start_as_much_for_many_clips(name: str, loaded: Load) -> None:
    place = Place("cuda")
    encoder = place.copy(loaded(name))
    few, many = (count_pass(place, encoder, clips, pooled=True) for clips in CLIPS)
    assert max(grown(few, many)) <= MOST
    assert not many.waits


@pytest.mark.parametrize("name", TRAINED)
def test_a_step_of_training_starts_as_much_for_many_clips(name: str, loaded: Load) -> None:
    encoder = loaded(name)
    # As if it had been loaded to be trained: its parts are its network.
    parts = [value for value in vars(encoder).values() if isinstance(value, nn.Module)]
    encoder.network = encoder.network or nn.ModuleList(parts)
    few, many = (count_training(encoder, clips) for clips in CLIPS)
    for one, other in zip(few, many, strict=True):
        assert max(grown(one, other)) <= MOST
        assert not other.waits


def test_means_of_layers_and_a_step_of_heads_start_as_much_for_many_clips() -> None:
    place = Place("meta")
    for few, many in (
        *zip(*(count_mean(place, Layers(place), clips) for clips in CLIPS), strict=True),
        tuple(count_step(clips) for clips in CLIPS),
    ):
        assert max(grown(few, many)) <= MOST


def test_what_an_operator_of_python_code_does_is_counted() -> None:
    @torch.library.custom_op("embedkit_tests::clip_by_clip", mutates_args=())
    def clip_by_clip(values: Tensor) -> Tensor:
        return torch.stack([clip.mean(0) for clip in values])

    place, counts = Place("cuda"), []
    for clips in CLIPS:
        values = place.copy(torch.ones(clips, 4, 3))
        with place.count() as counted:
            clip_by_clip(values)
        counts.append(counted)
    assert grown(*counts)[0] > 3


def draw_clips(encoder: Any, seed: int) -> list[Tensor]:
    """Draw clips of unequal lengths, one of them as short as an encoder takes."""
    shortest = encoder.smallest_input
    if getattr(encoder, "family", "") == "wav2vec2-bert":
        # Its extractor norms bands over time in fp32, which over two mel frames is itself wrong by 1e-5.
        shortest = 2000
    sizes = np.random.default_rng(seed).integers(shortest, shortest + 12_000, 4).tolist()
    return [speechlike(size, number) for number, size in enumerate([*sizes, shortest])]


@pytest.mark.parametrize("name", TABLE)
def test_all_clips_at_once_are_each_clip_alone(name: str, loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = loaded(name)
    if encoder.equal_lengths:
        pytest.skip("its batches are of equal lengths")
    for seed in range(2):
        clips = draw_clips(encoder, seed)
        with all_at_once():
            together = collect(encoder, clips)
        with monkeypatch.context() as patch:
            patch.setattr(encoder, "_batched", None, raising=False)
            alone = [collect(encoder, [clip])[0] for clip in clips]
        for found, expected in zip(together, alone, strict=True):
            for one, other in zip(found, expected, strict=True):
                assert one.shape == other.shape
                assert relative_error(one, other) < 1e-5


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_means_of_all_clips_at_once_and_their_gradients_are_those_of_each(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        own = torch.randint(1, 40, (5,), generator=generator).tolist()
        values = torch.randn(5, max(own) + 2, 3, generator=generator) + offset
        for row, length in enumerate(own):
            values[row, length:] = torch.nan
        found = []
        for at_once in (True, False):
            leaf = values.clone().requires_grad_()
            with all_at_once() if at_once else nullcontext():
                means = mean_frames(leaf, own)
            means.square().sum().backward()
            assert leaf.grad is not None
            found.append((means.detach(), leaf.grad))
        for one, other in zip(*found, strict=True):
            torch.testing.assert_close(one, other, rtol=2e-6, atol=1e-6)


def test_gradients_of_a_norm_over_time_are_those_of_each_clip(tmp_path: Path) -> None:
    encoder = load_encoder(str(write_conv_checkpoint(tmp_path, "hubert", num_hidden_layers=1)), trainable=True)
    encoder.network.requires_grad_(True)
    clips, found = draw_clips(encoder, 0), []
    means: list[Tensor] = []

    def sink(position: int, values: Tensor, own: Tensor) -> None:
        means.append(mean_frames(values, own.tolist()))

    for at_once in (True, False):
        encoder.network.zero_grad()
        with all_at_once() if at_once else nullcontext():
            encoder.forward(clips, sink)
        means[-1].square().sum().backward()
        first = encoder.network.feature_extractor.conv_layers[0]
        found.append([value.grad for value in (first.conv.weight, first.layer_norm.weight, first.layer_norm.bias)])
    for one, other in zip(*found, strict=True):
        assert relative_error(one, other) < 1e-5
