"""VGGish against an independent numpy computation of its front end and network, and its weight files."""

import json
import math
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from embedkit.encoders import vggish
from embedkit.encoders.vggish import VggishEncoder, VggishShape, log_mel_examples
from embedkit.encoders.vggish_weights import PUBLISHED_URL
from embedkit.errors import EncoderError
from tests.encoders.single_layer import encode

SMALL = VggishShape(channels=(4, 6, 8, 10), hidden=12, dimensions=7)
CONVOLUTIONS = {"0": (None, 0), "3": (0, 1), "6": (1, 2), "8": (2, 2), "11": (2, 3), "13": (3, 3)}


def random_state(shape: VggishShape, seed: int = 0) -> dict[str, Tensor]:
    """Draw weights with torchvggish's names, scaled so that the input's variance survives every layer."""
    generator = torch.Generator().manual_seed(seed)
    sizes: dict[str, tuple[int, ...]] = {}
    for name, (inputs, outputs) in CONVOLUTIONS.items():
        channels = 1 if inputs is None else shape.channels[inputs]
        sizes[f"features.{name}"] = (shape.channels[outputs], channels, 3, 3)
    sizes["embeddings.0"] = (shape.hidden, shape.channels[3] * 6 * 4)
    sizes["embeddings.2"] = (shape.hidden, shape.hidden)
    sizes["embeddings.4"] = (shape.dimensions, shape.hidden)
    state = {}
    for name, size in sizes.items():
        scale = math.sqrt(2 / math.prod(size[1:]))
        state[f"{name}.weight"] = torch.randn(size, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(size[0], generator=generator) * 0.1
    return state


def naive_examples(waveform: np.ndarray) -> np.ndarray:
    """Follow the published description window by window, band by band."""

    def mel(hertz: float) -> float:
        return 1127.0 * math.log(1.0 + hertz / 700.0)

    window = np.array([0.5 - 0.5 * math.cos(2 * math.pi * i / 400) for i in range(400)])
    edges = [mel(125) + i * (mel(7500) - mel(125)) / 65 for i in range(66)]
    bands = np.zeros((257, 64))
    for k in range(257):
        for band in range(64):
            low, centre, high = edges[band : band + 3]
            m = mel(k * 16_000 / 512)
            bands[k, band] = max(0.0, min((m - low) / (centre - low), (high - m) / (high - centre)))
    rows = []
    start = 0
    while start + 400 <= len(waveform):
        spectrum = np.fft.rfft(np.concatenate([waveform[start : start + 400] * window, np.zeros(112)]))
        rows.append(np.log(np.abs(spectrum) @ bands + 0.01))
        start += 160
    return np.array([rows[96 * i : 96 * (i + 1)] for i in range(len(rows) // 96)])


def naive_network(state: dict[str, Tensor], example: np.ndarray) -> np.ndarray:
    """Compute one embedding: NCHW convolutions as nine shifted products, flattened as height, width, channel."""
    maps = example[None]
    for name in CONVOLUTIONS:
        weight, bias = state[f"features.{name}.weight"].numpy(), state[f"features.{name}.bias"].numpy()
        height, width = maps.shape[1:]
        padded = np.pad(maps, ((0, 0), (1, 1), (1, 1)))
        maps = np.zeros((len(bias), height, width)) + bias[:, None, None]
        for row in range(3):
            for column in range(3):
                shifted = padded[:, row : row + height, column : column + width]
                maps += np.tensordot(weight[:, :, row, column], shifted, axes=1)
        maps = np.maximum(maps, 0)
        if name in ("0", "3", "8", "13"):
            maps = maps.reshape(len(bias), height // 2, 2, width // 2, 2).max(axis=(2, 4))
    vector = maps.transpose(1, 2, 0).ravel().astype(np.float32)
    for name in ("0", "2", "4"):
        weight, bias = state[f"embeddings.{name}.weight"].numpy(), state[f"embeddings.{name}.bias"].numpy()
        vector = np.maximum(weight @ vector + bias, 0)
    return vector


def naive_embeddings(state: dict[str, Tensor], waveform: Tensor) -> np.ndarray:
    padded = np.pad(waveform.numpy().astype(np.float64), (0, max(0, 15_600 - len(waveform))))
    return np.array([naive_network(state, example) for example in naive_examples(padded)])


def relative_error(values: np.ndarray, expected: np.ndarray) -> float:
    assert values.shape == expected.shape
    return float(np.linalg.norm(values - expected) / np.linalg.norm(expected))


def noise(samples: int, seed: int = 0) -> Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vggish") / "small.pth"
    torch.save(random_state(SMALL), path)
    return path


@pytest.fixture(scope="module")
def encoder(weights: Path) -> VggishEncoder:
    return VggishEncoder("vggish", weights, shape=SMALL)


@pytest.mark.parametrize("samples", [15_600, 30_959, 30_960, 50_000])
def test_front_end_is_the_published_one(samples: int) -> None:
    clip = noise(samples)
    examples = log_mel_examples(clip)
    expected = naive_examples(clip.numpy().astype(np.float64))
    assert examples.shape == expected.shape
    assert examples.shape[1:] == (96, 64)
    np.testing.assert_allclose(examples.numpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("samples", [1, 160, 15_599, 15_600, 30_959, 30_960, 47_000])
def test_embeddings_are_those_of_the_naive_computation(encoder: VggishEncoder, samples: int) -> None:
    clip = noise(samples)
    (values,) = encode(encoder, [clip])
    assert len(values) == encoder.frame_count(samples)
    assert relative_error(values, naive_embeddings(random_state(SMALL), clip)) < 1e-5


def test_the_network_of_true_size_is_the_published_one(tmp_path: Path) -> None:
    state = random_state(VggishShape())
    assert sum(value.numel() for value in state.values()) == 72_141_184
    save_file(state, tmp_path / "vggish.safetensors")
    encoder = VggishEncoder("vggish", tmp_path / "vggish.safetensors")
    clip = noise(31_000)
    (values,) = encode(encoder, [clip])
    assert values.shape == (2, 128)
    assert relative_error(values, naive_embeddings(state, clip)) < 1e-5


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 60_000), min_size=1, max_size=6))
def test_a_clip_never_depends_on_its_batch(encoder: VggishEncoder, lengths: list[int]) -> None:
    clips = [noise(samples, seed) for seed, samples in enumerate(lengths)]
    for clip, values in zip(clips, encode(encoder, clips), strict=True):
        assert len(values) == encoder.frame_count(len(clip))
        assert relative_error(values, encode(encoder, [clip])[0]) <= 1e-5


def test_all_examples_of_a_batch_run_together_and_memory_is_bounded(
    encoder: VggishEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    hook = encoder.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    clips = [noise(15_600 * (1 + seed % 3), seed) for seed in range(32)]
    together = encode(encoder, clips)
    monkeypatch.setattr(vggish, "EXAMPLES_PER_FORWARD", 5)
    capped = encode(encoder, clips[:6])
    hook.remove()
    assert sizes == [sum(map(len, together)), 5, 5, 2]
    for one, other in zip(capped, together[:6], strict=True):
        assert relative_error(one, other) <= 1e-5


def test_silence_is_finite(encoder: VggishEncoder) -> None:
    (values,) = encode(encoder, [torch.zeros(20_000)])
    assert np.isfinite(values).all()


def torchaudio_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.replace("features.", "features_network.").replace("embeddings.", "embedding_network."): value
        for name, value in state.items()
    }


def with_post_processing(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {**state, "pproc.pca_matrix": torch.eye(7), "pproc.pca_means": torch.zeros(7, 1)}


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("layout", [dict, torchaudio_layout, with_post_processing])
def test_published_layouts_give_the_same_encoder(encoder: VggishEncoder, layout, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"copy{suffix}"
    state = layout(random_state(SMALL))
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    other = VggishEncoder("vggish", str(path), shape=SMALL)
    assert other.identity()["weights_digest"] == encoder.identity()["weights_digest"]
    np.testing.assert_array_equal(encode(other, [noise(20_000)])[0], encode(encoder, [noise(20_000)])[0])


def test_other_weights_have_another_digest(encoder: VggishEncoder, tmp_path: Path) -> None:
    torch.save(random_state(SMALL, seed=1), tmp_path / "other.pth")
    other = VggishEncoder("vggish", tmp_path / "other.pth", shape=SMALL)
    assert other.identity()["weights_digest"] != encoder.identity()["weights_digest"]


def test_missing_unexpected_and_misshapen_weights_are_named(tmp_path: Path) -> None:
    state = random_state(SMALL)
    del state["features.6.bias"]
    state["classifier.weight"] = torch.zeros(3)
    state["embeddings.4.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "bad.pth")
    with pytest.raises(EncoderError) as caught:
        VggishEncoder("vggish", tmp_path / "bad.pth", shape=SMALL)
    message = str(caught.value)
    assert "misses features.6.bias" in message
    assert "unexpected classifier.weight" in message
    assert "other shapes of embeddings.4.bias" in message


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("absent.pth", None, "no file"),
        ("weights.h5", b"1", "another kind"),
        ("noise.pth", b"noise", "Cannot read"),
        ("noise.safetensors", b"noise", "Cannot read"),
        ("empty.pt", b"", "Cannot read"),
    ],
)
def test_unusable_files_get_one_sentence(name: str, content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(EncoderError, match=told) as caught:
        VggishEncoder("vggish", tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_folder_and_a_file_without_state_dict_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="a folder"):
        VggishEncoder("vggish", tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(EncoderError, match="no state dict"):
        VggishEncoder("vggish", tmp_path / "list.pth")


def test_code_in_a_weights_file_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"features.0.weight": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(EncoderError, match="Cannot read"):
        VggishEncoder("vggish", tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_without_source_the_published_file_is_taken_by_its_hash(
    weights: Path, encoder: VggishEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(url: str, *, check_hash: bool, weights_only: bool, **_: object) -> dict[str, Tensor]:
        assert url == PUBLISHED_URL
        assert check_hash
        assert weights_only
        return torch.load(weights, weights_only=True)

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    published = VggishEncoder("vggish", shape=SMALL)
    assert published.identity()["source"] == PUBLISHED_URL
    assert published.identity()["weights_digest"] == encoder.identity()["weights_digest"]


def test_without_a_network_the_message_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fail)
    with pytest.raises(EncoderError, match=r'\[encoders\] vggish = "path"') as caught:
        VggishEncoder("vggish")
    assert "\n" not in str(caught.value)


def test_identity_is_json_and_says_what_was_left_out(encoder: VggishEncoder) -> None:
    identity = json.loads(json.dumps(encoder.identity()))
    assert identity["postprocessing"] == "none"
    assert identity["dimensions"] == encoder.dimensions
    assert len(identity["weights_digest"]) == 64
    contract = "name family source revision layers sampling_rate frame_rate normalisation window precision versions"
    assert set(contract.split()) <= identity.keys()
    assert encoder.default_head == "mlp"
    assert encoder.default_levels == ("utterance", "frame")
