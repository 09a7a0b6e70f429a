"""wav2vec 2.0, HuBERT, WavLM and relatives: a batch gives every clip what the bare model gives it alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from embedkit.encoders import load_encoder
from embedkit.encoders.base import Encoder
from embedkit.errors import EncoderError
from tests.encoders.checkpoints import (
    CONV_FAMILIES,
    bare_model,
    bare_states,
    collect,
    pooled,
    relative_error,
    speechlike,
    write_conv_checkpoint,
)

SMALLEST = 400
LENGTHS = st.lists(st.integers(1, 9_000), min_size=2, max_size=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {family: write_conv_checkpoint(tmp_path_factory.mktemp(family), family) for family in CONV_FAMILIES}


@pytest.fixture(scope="module")
def encoders(checkpoints: dict[str, Path]) -> dict[str, Encoder]:
    return {family: load_encoder(str(folder)) for family, folder in checkpoints.items()}


@pytest.mark.parametrize("family", CONV_FAMILIES)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=LENGTHS)
def test_batched_equals_alone(
    family: str, lengths: list[int], checkpoints: dict[str, Path], encoders: dict[str, Encoder]
) -> None:
    encoder = encoders[family]
    clips = [speechlike(length, seed) for seed, length in enumerate(lengths)]
    for clip, layers in zip(clips, collect(encoder, clips), strict=True):
        alone = bare_states(checkpoints[family], pad(clip, (0, max(0, SMALLEST - len(clip)))))
        assert len(layers) == len(alone) == len(encoder.layers)
        for values, reference in zip(layers, alone, strict=True):
            assert len(values) == len(reference) == encoder.frame_count(len(clip))
            assert values.dtype == torch.float32
            assert relative_error(values, reference) <= 1e-5
            assert relative_error(pooled(values), pooled(reference)) <= 1e-5


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "wavlm", "hubert-batch-norm"])
def test_naive_padding_would_fail(family: str, checkpoints: dict[str, Path]) -> None:
    clips = [speechlike(4_000, 0), speechlike(9_000, 1)]
    with torch.inference_mode():
        model = bare_model(checkpoints[family])
        alone = model(clips[0][None]).last_hidden_state[0]
        padded = model(pad_sequence(clips, batch_first=True)).last_hidden_state[0, : len(alone)]
    assert relative_error(padded, alone) > 1e-2


@pytest.mark.parametrize("family", ["hubert", "hubert-large", "wavlm-large"])
@pytest.mark.parametrize(("spec", "kept"), [("2", (2,)), ("last", (3,)), ("0-1", (0, 1)), ("0", (0,)), ("1,3", (1, 3))])
def test_layers_equal_those_of_the_full_run(
    family: str, spec: str, kept: tuple[int, ...], checkpoints: dict[str, Path], encoders: dict[str, Encoder]
) -> None:
    clips = [speechlike(5_000, 0), speechlike(8_000, 1)]
    full = collect(encoders[family], clips)
    some = load_encoder(str(checkpoints[family]), layers=spec)
    assert some.layers == kept
    for chosen, everything in zip(collect(some, clips), full, strict=True):
        for values, layer in zip(chosen, kept, strict=True):
            assert relative_error(values, everything[layer]) <= 1e-6


@pytest.fixture
def layers_run(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clips of every run of one of HuBERT's transformer layers."""
    from transformers.models.hubert.modeling_hubert import HubertEncoderLayer

    calls: list[int] = []
    original = HubertEncoderLayer.forward

    def counted(self: HubertEncoderLayer, hidden: torch.Tensor, *arguments: object, **options: object) -> object:
        calls.append(len(hidden))
        return original(self, hidden, *arguments, **options)

    monkeypatch.setattr(HubertEncoderLayer, "forward", counted)
    return calls


def test_layers_above_the_last_kept_one_never_run(checkpoints: dict[str, Path], layers_run: list[int]) -> None:
    collect(load_encoder(str(checkpoints["hubert"]), layers="2"), [speechlike(5_000, 0)])
    assert layers_run == [1, 1]


def test_a_batch_is_one_pass_and_layerdrop_is_off(encoders: dict[str, Encoder], layers_run: list[int]) -> None:
    clips = [speechlike(4_000 + 100 * row, row) for row in range(8)]
    first, second = collect(encoders["hubert"], clips), collect(encoders["hubert"], clips)
    assert layers_run == [8] * 6
    assert all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_layers_arrive_one_by_one_with_lengths_on_the_cpu(encoders: dict[str, Encoder]) -> None:
    seen: list[tuple[int, tuple[int, ...], list[int]]] = []
    encoders["hubert"].encode(
        [speechlike(720, 0), speechlike(1_040, 1)],
        lambda position, values, lengths: seen.append((position, tuple(values.shape), lengths.tolist())),
    )
    assert seen == [(position, (2, 3, 64), [2, 3]) for position in range(4)]


def test_waveforms_are_used_as_they_are_without_normalisation(tmp_path: Path) -> None:
    from transformers import Wav2Vec2FeatureExtractor

    write_conv_checkpoint(tmp_path, "wav2vec2-large")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
    encoder = load_encoder(str(tmp_path))
    clip = 0.1 * speechlike(6_000, 3)
    [layers] = collect(encoder, [clip])
    assert all(
        relative_error(ours, theirs) <= 1e-5 for ours, theirs in zip(layers, bare_states(tmp_path, clip), strict=True)
    )
    assert encoder.identity()["normalisation"] == "none"


@pytest.mark.parametrize("family", ["hubert", "wavlm-large"])
def test_bf16_is_near_fp32_and_handed_over_as_float32(
    family: str, checkpoints: dict[str, Path], encoders: dict[str, Encoder]
) -> None:
    clips = [speechlike(5_000, 0), speechlike(8_000, 1)]
    half = load_encoder(str(checkpoints[family]), precision="bf16")
    for rough, exact in zip(collect(half, clips), collect(encoders[family], clips), strict=True):
        for values, reference in zip(rough, exact, strict=True):
            assert values.dtype == torch.float32
            assert 1e-5 < relative_error(values, reference) < 0.05
    assert half.identity()["precision"] == "bf16"


def test_identity_tells_what_determines_the_numbers(checkpoints: dict[str, Path], encoders: dict[str, Encoder]) -> None:
    identity = encoders["hubert"].identity()
    assert identity["source"] == str(checkpoints["hubert"].resolve())
    assert identity["revision"] is None
    assert identity["layers"] == [0, 1, 2, 3]
    assert (identity["sampling_rate"], identity["frame_rate"], identity["dimensions"]) == (16_000, 50.0, 64)
    assert (
        identity["weights_digest"] == load_encoder(str(checkpoints["hubert"]), layers="1").identity()["weights_digest"]
    )
    assert identity["weights_digest"] != encoders["hubert-large"].identity()["weights_digest"]


def test_a_window_is_refused(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(EncoderError, match="only Whisper encoders have a window"):
        load_encoder(str(checkpoints["hubert"]), window=30)


def test_a_stereo_clip_is_refused(encoders: dict[str, Encoder]) -> None:
    with pytest.raises(EncoderError, match="mono"):
        collect(encoders["hubert"], [torch.zeros(2, 4_000)])
