"""A small source-filter speech synthesiser: glottal pulses and noise through formant resonators (Klatt, JASA 1980)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.signal import butter, lfilter, sosfilt

SAMPLING_RATE = 16_000
HOP_SECONDS = 0.01

VOWELS = (
    (310, 2250, 2950),
    (430, 2050, 2700),
    (600, 1850, 2550),
    (720, 1350, 2500),
    (650, 1050, 2450),
    (480, 900, 2400),
    (340, 900, 2300),
    (520, 1480, 2450),
)
"""First three formants of eight vowels for a vocal tract of scale 1, in Hertz."""

CONSONANTS = ("none", "nasal", "stop", "s", "sh", "f")
NOISE_BANDS = {"s": (4200.0, 7600.0), "sh": (2000.0, 5200.0), "f": (1500.0, 7800.0), "stop": (900.0, 5500.0)}

_HIGHER_FORMANTS = (3500.0, 4500.0)
_BANDWIDTHS = np.array([70.0, 90.0, 140.0, 220.0, 300.0])
_NASAL = (270.0, 1100.0, 2200.0)

Samples = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """How one utterance is spoken.

    Attributes:
        pitch_hertz, pitch_range: Mean f0, and the spread of its accents in octaves.
        syllable_seconds: Mean length of a syllable.
        tract_scale: Factor on all formants (a short vocal tract has a large one).
        open_quotient: Share of a glottal cycle in which the glottis is open.
        tilt: Pole of the source's low-pass, 0 (bright) to 1 (dull).
        breathiness: Level of aspiration noise beside the voice.
        jitter, shimmer: Relative spread of f0 and of amplitude from cycle to cycle.
        accent: Spread of the syllables' levels in decibels.
    """

    pitch_hertz: float
    pitch_range: float
    syllable_seconds: float
    tract_scale: float
    open_quotient: float
    tilt: float
    breathiness: float
    jitter: float
    shimmer: float
    accent: float


@dataclass(frozen=True, kw_only=True)
class Syllable:
    """What is said: a consonant, a vowel's index, the relative length, and whether a pause follows."""

    consonant: str
    vowel: int
    length: float
    pause: bool


@dataclass(frozen=True)
class _Score:
    """Tracks at one value per hop: formants `[hops, 5]`, levels of voice and of each noise band, f0 in Hertz."""

    formants: Samples
    voice: Samples
    noise: dict[str, Samples]
    pitch: Samples


def synthesise(text: tuple[Syllable, ...], delivery: Delivery, rng: np.random.Generator) -> Samples:
    """Speak the syllables; float64 `[samples]` at 16 kHz, not scaled."""
    score = _write_score(text, delivery, rng)
    hops = len(score.voice)
    samples = round(hops * HOP_SECONDS * SAMPLING_RATE)
    times = np.arange(samples) / (HOP_SECONDS * SAMPLING_RATE)
    ticks = np.arange(hops) + 0.5
    voice = np.interp(times, ticks, score.voice)
    source = voice * _glottal_source(np.interp(times, ticks, score.pitch), delivery, rng)
    speech = _filter_by_formants(source, score.formants * delivery.tract_scale)
    for kind, level in score.noise.items():
        band = butter(2, NOISE_BANDS[kind], "bandpass", fs=SAMPLING_RATE, output="sos")
        speech += np.interp(times, ticks, level) * sosfilt(band, rng.standard_normal(samples))
    return speech


def _write_score(text: tuple[Syllable, ...], delivery: Delivery, rng: np.random.Generator) -> _Score:
    formants: list[tuple[float, ...]] = []
    voice: list[float] = []
    noise: dict[str, list[float]] = {kind: [] for kind in NOISE_BANDS}
    accents: list[tuple[float, float]] = []
    for syllable in text:
        level = 10 ** (rng.normal(0.0, delivery.accent) / 20)
        accents.append((len(voice), rng.normal(0.0, delivery.pitch_range)))
        for target, voiced, kind, hops in _segments(syllable, delivery):
            shape = np.sin(np.pi * (np.arange(hops) + 0.5) / hops) ** 0.4
            formants += [target] * hops
            voice += list(voiced * level * shape)
            for other, track in noise.items():
                track += list((0.05 if other == kind else 0.0) * level * shape)
    ticks = np.arange(len(voice))
    accents.append((len(voice), -delivery.pitch_range))
    contour = PchipInterpolator(*np.array(accents).T)(ticks) + 0.12 - 0.24 * ticks / len(ticks)
    smooth = np.hanning(9)[1:-1] / np.hanning(9).sum()
    tracks = np.pad(np.array(formants), ((3, 3), (0, 0)), mode="edge")
    return _Score(
        formants=np.stack([np.convolve(track, smooth, "valid") for track in tracks.T], axis=1),
        voice=np.array(voice),
        noise={kind: np.array(track) for kind, track in noise.items() if any(track)},
        pitch=delivery.pitch_hertz * 2**contour,
    )


def _segments(syllable: Syllable, delivery: Delivery) -> list[tuple[tuple[float, ...], float, str, int]]:
    """List a syllable's segments: formants, level of the voice, noise band (or ""), hops."""
    seconds = delivery.syllable_seconds * syllable.length
    vowel = (*VOWELS[syllable.vowel], *_HIGHER_FORMANTS)
    consonant_hops = max(3, round(0.35 * seconds / HOP_SECONDS))
    segments: list[tuple[tuple[float, ...], float, str, int]] = []
    if syllable.consonant == "nasal":
        segments.append(((*_NASAL, *_HIGHER_FORMANTS), 0.35, "", consonant_hops))
    elif syllable.consonant == "stop":
        segments += [(vowel, 0.0, "", consonant_hops), (vowel, 0.0, "stop", 2)]
    elif syllable.consonant != "none":
        segments.append((vowel, 0.0, syllable.consonant, consonant_hops))
    segments.append((vowel, 1.0, "", max(5, round(0.65 * seconds / HOP_SECONDS))))
    if syllable.pause:
        segments.append((vowel, 0.0, "", max(5, round(0.8 * seconds / HOP_SECONDS))))
    return segments


def _glottal_source(pitch: Samples, delivery: Delivery, rng: np.random.Generator) -> Samples:
    """Differentiated glottal flow (Klatt & Klatt, JASA 1990), with aspiration while the glottis is open."""
    grain = SAMPLING_RATE // 125
    wobble = np.repeat(rng.normal(0.0, delivery.jitter, len(pitch) // grain + 1), grain)[: len(pitch)]
    phase = np.cumsum(pitch * (1 + wobble)) / SAMPLING_RATE
    cycle = phase.astype(np.int64)
    shimmer = 1 + rng.normal(0.0, delivery.shimmer, cycle[-1] + 1)[cycle]
    opening = (phase - cycle) / delivery.open_quotient
    pulses = np.where(opening < 1, 2 * opening - 3 * opening**2, 0.0) * shimmer
    pulses = lfilter([1 - delivery.tilt], [1, -delivery.tilt], pulses)
    aspiration = rng.standard_normal(len(pitch)) * np.where(opening < 1, 1.0, 0.3)
    result: Samples = pulses + 0.1 * delivery.breathiness * aspiration
    return result


def _filter_by_formants(source: Samples, formants: Samples) -> Samples:
    """Run the source through a cascade of resonators whose coefficients change every hop."""
    hop = round(HOP_SECONDS * SAMPLING_RATE)
    centres = np.minimum(formants, 0.47 * SAMPLING_RATE)
    radius = np.exp(-np.pi * _BANDWIDTHS / SAMPLING_RATE)
    first = 2 * radius * np.cos(2 * np.pi * centres / SAMPLING_RATE)
    second = np.broadcast_to(-(radius**2), first.shape)
    zeros = np.zeros_like(first)
    sections = np.stack([1 - first - second, zeros, zeros, zeros + 1, -first, -second], axis=-1)
    state = np.zeros((len(_BANDWIDTHS), 2))
    blocks = []
    for index, section in enumerate(sections):
        block, state = sosfilt(section, source[index * hop : (index + 1) * hop], zi=state)
        blocks.append(block)
    return np.concatenate(blocks)
