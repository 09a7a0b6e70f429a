"""What augmentations do to clips, measured; and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from embedkit.augmentations import AUGMENTATIONS, build_augmentation
from embedkit.augmentations import recordings as recordings_module
from embedkit.errors import EmbedkitError, FitError
from embedkit.registry import split_specs
from embedkit.training.live.augmentation import change_waveform
from tests.encoders.single_layer import speechlike

pytestmark = pytest.mark.usefixtures("own_parts_typed")

RATE = 16_000
OWN = """
import torch
from embedkit.augmentations.base import Augmentation
from embedkit.augmentations.speed import Speed

def flip(waveform):
    return -waveform

def erase(waveform):
    return waveform.zero_()

def shorter(waveform):
    return waveform[1:]

def integers(waveform):
    return waveform.int()

def listed(waveform):
    return waveform.tolist()

def broken(waveform):
    return waveform / 0

class Volume:
    def __init__(self, factor: float = 0.5):
        self.factor = factor
    def __call__(self, waveform):
        return (self.factor * waveform).double()

class Beep:
    def __init__(self, sampling_rate, hertz: float = 440.0):
        self.step = 2 * torch.pi * hertz / sampling_rate
    def __call__(self, waveform):
        return waveform + torch.sin(self.step * torch.arange(len(waveform)))

def rated(waveform, sampling_rate):
    return torch.full_like(waveform, sampling_rate)

class Needing:
    def __init__(self, factor):
        pass
    def __call__(self, waveform):
        return waveform

class Half(Augmentation):
    Options = Speed.Options
    requires = "speed"
    def __call__(self, waveform, sampling_rate):
        return waveform[::2]

half = Volume(0.5)
seven = 7
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with a user's own augmentations."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def write(path: Path, samples: Any, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.asarray(samples, np.float32), rate, subtype="FLOAT")
    return path.parent


def change(spec: str, clip: Tensor, seed: int = 0) -> Tensor:
    """Change a clip as training does."""
    torch.manual_seed(seed)
    return change_waveform(clip, [build_augmentation(spec)], RATE, smallest=1)


def decibels(one: Tensor, other: Tensor) -> float:
    return float(10 * torch.log10(one.double().square().sum() / other.double().square().sum()))


@pytest.mark.parametrize("ratio", [-5.0, 10.0, 40.0])
@pytest.mark.parametrize("level", [1e-4, 0.1, 1.0])
@pytest.mark.parametrize("kind", ["white", "longer", "shorter"])
def test_noise_has_the_ratio_asked_for(ratio: float, level: float, kind: str, tmp_path: Path) -> None:
    clip = speechlike(12_000) * level
    spec = f"noise:low={ratio},high={ratio}"
    if kind != "white":
        seconds = {"longer": 30_000, "shorter": 700}[kind]
        spec += f",folder={write(tmp_path / 'noises' / 'a.wav', np.random.default_rng(0).normal(size=seconds) * 1e-3)}"
    assert decibels(clip, change(spec, clip) - clip) == pytest.approx(ratio, abs=0.1)


def test_ratios_are_drawn_between_the_two_given() -> None:
    clip = speechlike(4000)
    found = [decibels(clip, change("noise:low=5,high=15", clip, seed) - clip) for seed in range(50)]
    assert min(found) == pytest.approx(5, abs=1.5)
    assert max(found) == pytest.approx(15, abs=1.5)


def test_recordings_are_cut_at_random_places_or_repeated_from_random_places_on(tmp_path: Path) -> None:
    ramp = np.arange(1, 5001) / 5000
    folder = write(tmp_path / "noises" / "ramp.wav", ramp)
    starts = set()
    for samples in (1000, 12_000):
        for seed in range(5):
            clip = torch.full((samples,), 0.5)
            added = (change(f"noise:folder={folder},low=0,high=0", clip, seed) - clip).double()
            # A ramp's step tells how much it was scaled, and then every value where it lay in the recording.
            steps = added.diff()
            places = added / steps[steps > 0].mean() - 1
            assert torch.allclose(places.diff() % 5000, torch.ones(samples - 1, dtype=torch.double), atol=0.2)
            starts.add(round(float(places[0])))
    assert len(starts) == 10


def test_recordings_are_resampled_to_the_encoders_rate_and_drawn_from_every_folder_below(tmp_path: Path) -> None:
    for place, (name, hertz) in enumerate({"b.wav": 500, "deep/a.wav": 1000, "deep/c.WAV": 2000}.items()):
        rate = (48_000, 16_000, 8000)[place]
        write(tmp_path / "noises" / name, 0.2 * np.sin(2 * np.pi * hertz * np.arange(rate) / rate), rate)
    (tmp_path / "noises" / "README").write_text("no audio")
    (tmp_path / "noises" / ".hidden.wav").write_text("no audio")
    clip = torch.full((RATE,), 1e-3)
    spectra = [
        torch.fft.rfft(change(f"noise:folder={tmp_path / 'noises'},low=0,high=0", clip, seed) - clip).abs()
        for seed in range(20)
    ]
    assert {int(spectrum.argmax()) for spectrum in spectra} == {500, 1000, 2000}


def test_recordings_too_many_to_be_kept_are_decoded_again_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        folder = write(tmp_path / "noises" / f"{number}.wav", np.random.default_rng(number).normal(size=5000) * 0.1)
    clip = speechlike(4000)
    kept = [change(f"noise:folder={folder}", clip, seed) for seed in range(6)]
    monkeypatch.setattr(recordings_module, "KEPT_BYTES", 20_000)
    noise = build_augmentation(f"noise:folder={folder}")
    noise.prepare(RATE)
    for seed, expected in enumerate(kept):
        torch.manual_seed(seed)
        assert torch.equal(noise(clip, RATE), expected)
    assert noise.recordings is not None
    assert len(noise.recordings._kept) == 1


def test_speed_changes_the_duration_and_the_pitch() -> None:
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(RATE) / RATE)
    found = {}
    for seed in range(20):
        changed = change("speed:change=0.2", tone, seed)
        spectrum = torch.fft.rfft(changed).abs()
        found[len(changed)] = round(int(spectrum.argmax()) * RATE / len(changed))
    assert found == {RATE: 1000, RATE * 10 // 8: 800, -(-RATE * 10 // 12): 1200}


def test_a_clip_that_would_be_too_long_keeps_its_speed_and_one_too_short_is_padded() -> None:
    clip = speechlike(1000)
    speed = build_augmentation("speed")
    lengths = set()
    for seed in range(20):
        torch.manual_seed(seed)
        changed = change_waveform(clip, [speed], RATE, smallest=950, largest=1050)
        lengths.add(len(changed))
        assert len(changed) == 1000 or not changed[910:].any()
    assert lengths == {950, 1000}


@pytest.mark.parametrize("peak", [0, 40])
def test_a_click_comes_back_as_the_impulse_response_aligned_at_its_peak(peak: int, tmp_path: Path) -> None:
    response = np.random.default_rng(0).normal(size=800) * np.exp(-np.arange(800) / 100)
    response[peak] = -5
    click = torch.zeros(2000)
    click[500] = 0.3
    changed = change(f"reverb:folder={write(tmp_path / 'rooms' / 'a.wav', response)}", click)
    expected = np.zeros(2000)
    expected[500 - peak : 1300 - peak] = 0.3 * response / np.linalg.norm(response)
    np.testing.assert_allclose(changed, expected, atol=1e-6)


def test_a_long_impulse_response_ends_with_the_clip(tmp_path: Path) -> None:
    response = np.random.default_rng(0).normal(size=5000) * np.exp(-np.arange(5000) / 1000)
    response[100] = 9
    clip = speechlike(700)
    expected = np.convolve(clip, response)[100:800]
    expected *= float(clip.norm()) / np.linalg.norm(expected)
    changed = change(f"reverb:folder={write(tmp_path / 'rooms' / 'a.wav', response)}", clip)
    np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_synthetic_reverberation_decays_by_60_decibels_in_the_time_asked_for() -> None:
    click = torch.zeros(RATE)
    click[0] = 1
    changed = change("reverb:low=0.4,high=0.4,ratio=5", click)
    tail = changed[1:].double().square()
    assert float(10 * torch.log10(changed[0] ** 2 / tail.sum())) == pytest.approx(5, abs=0.01)
    # Half of the time makes 30 dB; measured over windows of 50 ms, because noise is random.
    early, late = tail[:800].mean(), tail[3200:4000].mean()
    assert float(10 * torch.log10(early / late)) == pytest.approx(30, abs=1.5)
    assert float(tail[6400:].sum()) < 1e-12


@pytest.mark.parametrize(
    ("spec", "kept", "lost"),
    [("lowpass:low=500,high=500", 50, 5000), ("highpass:low=1000,high=1000", 5000, 50)],
)
def test_filters_let_through_what_they_should(spec: str, kept: int, lost: int) -> None:
    times = torch.arange(RATE) / RATE
    for hertz, least, most in ((kept, -0.1, 0.1), (lost, -90, -35)):
        # Louder than 1, where torchaudio's filters would cut.
        tone = 4 * torch.sin(2 * torch.pi * hertz * times)
        assert least < decibels(change(spec, tone)[4000:], tone[4000:]) < most


def test_the_equaliser_makes_a_band_louder_or_softer() -> None:
    times = torch.arange(RATE) / RATE
    inside, outside = (torch.sin(2 * torch.pi * hertz * times) for hertz in (1000, 50))
    gains = []
    for seed in range(20):
        changed = [change("equaliser:low=1000,high=1000,gain=10", tone, seed)[4000:] for tone in (inside, outside)]
        gains.append(decibels(changed[0], inside[4000:]))
        assert abs(decibels(changed[1], outside[4000:])) < 0.3
    assert -10.1 < min(gains) < -5
    assert 5 < max(gains) < 10.1


WAVEFORM_CHANGES = [name for name in AUGMENTATIONS if name != "specaugment"]


@settings(max_examples=15, deadline=None)
@given(
    samples=st.integers(1, 5000),
    kind=st.sampled_from(["speech", "silence", "click", "faint", "loud"]),
    seed=st.integers(0, 9),
)
@pytest.mark.parametrize("spec", [*WAVEFORM_CHANGES, "noise:folder", "reverb:folder"])
def test_any_clip_stays_finite_float32_and_as_long(
    spec: str, samples: int, kind: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "recordings"
    if not folder.exists():
        # Mostly digital silence.
        write(folder / "a.wav", np.concatenate([np.zeros(6000), np.ones(10), np.zeros(6000)]))
    clip = speechlike(samples) if kind == "speech" else torch.zeros(samples)
    if kind == "click":
        clip[samples // 2] = 1
    clip = clip + 1e-30 if kind == "faint" else clip * 1e6 + 1e6 if kind == "loud" else clip
    before = clip.clone()
    changed = change(f"{spec}={folder}" if spec.endswith("folder") else spec, clip, seed)
    assert torch.equal(clip, before)
    assert changed.dtype == torch.float32
    assert torch.isfinite(changed).all()
    factors = (0.9, 1.0, 1.1) if spec == "speed" else (1.0,)
    assert len(changed) in [int(np.ceil(samples / factor)) for factor in factors]
    if kind == "silence":
        assert not changed.any()
    elif spec.startswith("reverb"):
        assert decibels(changed, clip) == pytest.approx(0, abs=0.01) if kind != "faint" else True


@pytest.mark.parametrize("spec", WAVEFORM_CHANGES)
def test_draws_come_from_torchs_generator(spec: str) -> None:
    clip = speechlike(3000)
    assert torch.equal(change(spec, clip, 1), change(spec, clip, 1))
    assert len({change(spec, clip, seed).sum().item() for seed in range(12)}) >= (3 if spec == "speed" else 12)


def test_augmentations_follow_one_another_in_the_order_given() -> None:
    clip = speechlike(4000)
    orders = []
    for specs in ("reverb,noise:low=0,high=0", "noise:low=0,high=0,reverb"):
        torch.manual_seed(0)
        parts = [build_augmentation(spec) for spec in split_specs([specs], AUGMENTATIONS)]
        orders.append([part.name for part in parts])
        changed = change_waveform(clip, parts, RATE, smallest=1)
        assert not torch.equal(changed, clip)
    assert orders == [["reverb", "noise"], ["noise", "reverb"]]


def test_specs_with_settings_keep_their_commas(tmp_path: Path) -> None:
    folder = write(tmp_path / "a=b: c" / "x.wav", np.ones(10))
    given = [f"noise:folder={folder},low=5,high=20,speed", "all"]
    specs = split_specs(given, AUGMENTATIONS)
    assert specs == [f"noise:folder={folder},low=5,high=20", "speed", *AUGMENTATIONS]
    noise = build_augmentation(specs[0])
    assert (noise.options.low, noise.options.high, noise.spec) == (5, 20, specs[0])


def test_a_spec_names_its_folder_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "noises" / "a.wav", np.ones(10))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("noises", "~/noises"):
        assert build_augmentation(f"noise:low=1,folder={name}").spec == f"noise:low=1,folder={tmp_path / 'noises'}"


def describe(spec: str) -> dict[str, Any]:
    return build_augmentation(spec).describe()


def test_the_identity_is_that_of_settings_and_of_recordings_wherever_they_lie(tmp_path: Path, own: str) -> None:
    folders = [tmp_path / name for name in ("one", "two", "other")]
    for folder, value in zip(folders, (0.5, 0.5, 0.25), strict=True):
        write(folder / "a.wav", np.full(100, value))
    one, two, other = (describe(f"noise:folder={folder}") for folder in folders)
    assert one == two != other
    assert describe("noise") == describe("noise:low=10") != describe("noise:low=9")
    assert describe("noise") != one
    write(folders[0] / "b.wav", np.ones(100))
    assert describe(f"noise:folder={folders[0]}") != one
    before = describe(f"{own}:flip")
    assert before == describe(f"{own}:flip") != describe(f"{own}:half")
    (tmp_path / f"{own}.py").write_text(OWN + "\n# changed\n")
    assert describe(f"{own}:flip") != before


def test_functions_classes_and_objects_of_ones_own(own: str) -> None:
    clip = speechlike(1000)
    for spec, expected in {
        f"{own}:flip": -clip,
        f"{own}:Volume": 0.5 * clip,
        f"{own}:Volume:factor=3": 3 * clip,
        f"{own}:half": 0.5 * clip,
        f"{own}:Beep:hertz=1000": clip + torch.sin(2 * torch.pi / 16 * torch.arange(1000)),
        f"{own}:rated": torch.full((1000,), 16_000.0),
        f"{own}:erase": torch.zeros(1000),
        f"{own}:Half": clip[::2],
        "torchaudio.functional:contrast": None,
        "torch:neg": -clip,
        "torch.nn:Dropout:p=0.9": None,
    }.items():
        before = clip.clone()
        changed = change(spec, clip)
        assert torch.equal(clip, before), spec
        assert changed.dtype == torch.float32
        if expected is None:
            assert not torch.equal(changed, clip)
        else:
            torch.testing.assert_close(changed, expected)


WRONG = {
    "nois": r"Unknown augmentation 'nois'\. Did you mean 'noise'\?",
    "noise=rooms": "settings follow a colon: noise:folder=rooms",
    "noise:low=loud": "'noise': low is 'loud', expected a value of type float",
    "noise:low=20,high=5": "draws decibels from low=20 to high=5, expected a range within -100 to 100",
    "noise:low=nan": "draws decibels from low=nan to high=30",
    "noise:high=inf": "to high=inf",
    "noise:loww=3": r"Unknown option 'loww' of the augmentation 'noise'\. Did you mean 'low'\?",
    "noise:folder=missing": r"Cannot list the folder '.*missing' \(No such file",
    "noise:folder=empty": r"The folder '.*empty' holds no audio; expected files that end in \.wav",
    "noise:folder=undecodable": r"Cannot decode '.*undecodable/a\.wav' as audio",
    "noise:folder=silent": r"'.*silent/a\.wav' is silent throughout; leave it out",
    "reverb:folder=silent": r"'.*silent/a\.wav' is silent throughout; leave it out",
    "reverb:folder=rooms,ratio=3": "found ratio beside folder",
    "reverb:low=0": "draws seconds from low=0",
    "reverb:ratio=1000": "ratio is 1000.0, expected decibels from -100 to 100",
    "speed:change=0": "change is 0.0, expected hundredths from 0.01 to 0.5",
    "speed:change=0.123": "change is 0.123, expected hundredths",
    "lowpass:high=8000": "draws frequencies up to 8000 Hz, but the encoder reads 16000 Hz; give a high below 8000",
    "highpass:low=0": "draws Hertz from low=0",
    "equaliser:gain=-1": "gain is -1.0, expected decibels above 0",
    "equaliser:quality=0": "quality is 0.0, expected a number from 0.1",
    "specaugment:time_share=2": "time_share is 2.0, expected a share from 0 to 1",
    "OWN:shorter": r"returned a tensor \[399\] of torch.float32 for a clip \[400\], expected",
    "OWN:integers": r"returned a tensor \[400\] of torch.int32",
    "OWN:listed": "returned a list for a clip",
    "OWN:broken": "returned NaN or infinite values for a clip of 400 samples",
    "OWN:Needing": "the argument 'factor' has no default",
    "OWN:seven": "is 7, expected a subclass of embedkit.augmentations.base.Augmentation",
    "OWN:nothing": "Cannot import",
    "missing_module:flip": "there is no module 'missing_module'",
}


@pytest.mark.parametrize("spec", WRONG)
def test_what_cannot_be_used_gets_one_sentence(
    spec: str, own: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "silent" / "a.wav", np.zeros(100))
    write(tmp_path / "rooms" / "a.wav", np.ones(100))
    (tmp_path / "empty").mkdir()
    (tmp_path / "undecodable").mkdir()
    (tmp_path / "undecodable" / "a.wav").write_text("no audio")

    def use() -> None:
        augmentation = build_augmentation(spec.replace("OWN", own))
        augmentation.prepare(RATE)
        change_waveform(speechlike(400) + 1, [augmentation], RATE, smallest=1)

    with pytest.raises(EmbedkitError, match=WRONG[spec]) as caught:
        use()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FitError) == spec.endswith(":broken")


def test_a_setting_of_ones_own_may_be_called_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "foldered.py").write_text(
        "class Foldered:\n    def __init__(self, folder: str = ''):\n        self.folder = folder\n"
        "    def __call__(self, waveform):\n        return waveform + len(self.folder)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert change("foldered:Foldered:folder=abc", torch.zeros(3)).tolist() == [3, 3, 3]
    assert describe("foldered:Foldered:folder=abc") != describe("foldered:Foldered:folder=abd")


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_nothing_loads_torchaudio_but_what_needs_it() -> None:
    code = (
        "import sys, embedkit.workflows.fit; "
        "from embedkit.training.live.augmentation import build_augmentations as build; "
        "from embedkit.workflows.list import list_parts; list_parts('augmentations'); build(['specaugment']); "
        "assert 'torchaudio' not in sys.modules; build(['noise']); assert 'torchaudio' in sys.modules"
    )
    result = run_python(code)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("fault", ["raise OSError('undefined symbol:\\n torch')", "missing"])
def test_without_torchaudio_only_what_needs_it_says_so(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        monkeypatch.delitem(sys.modules, name)
    if fault == "missing":
        monkeypatch.setitem(sys.modules, "torchaudio", None)
    else:
        (tmp_path / "torchaudio").mkdir()
        (tmp_path / "torchaudio" / "__init__.py").write_text(fault)
        monkeypatch.syspath_prepend(tmp_path)
    wanted = r"'noise' needs torchaudio, which cannot be loaded \(.*\); run pip install 'torch>=.*' 'torchaudio>="
    with pytest.raises(EmbedkitError, match=wanted) as caught:
        build_augmentation("noise")
    assert "\n" not in str(caught.value)
    build_augmentation("specaugment")
    build_augmentation("torch:neg")


def test_the_table_is_read_without_torch() -> None:
    assert run_python("import sys, embedkit.augmentations; sys.exit('torch' in sys.modules)").returncode == 0
