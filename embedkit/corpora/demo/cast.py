"""Who speaks in the demo corpus, and how emotions change the way they speak."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import firwin2

from embedkit.corpora.demo.synthesis import CONSONANTS, SAMPLING_RATE, VOWELS, Delivery, Syllable

PARAMETERS = ("pitch", "range", "rate", "smile", "open", "tilt", "breath", "rough", "accent")
EFFECTS = {
    "neu": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "ang": (0.5, 0.5, 0.4, -0.4, -1.2, -1.3, -0.6, 1.2, 0.9),
    "hap": (0.6, 1.0, 0.2, 1.5, 0.2, -0.6, 0.6, 0.0, 0.4),
    "exc": (0.9, 1.2, 0.5, 1.3, 0.0, -1.0, 0.6, 0.3, 0.7),
    "sad": (-0.5, -0.8, -0.7, -0.3, 1.1, 1.1, 1.1, 0.3, -0.6),
}
"""What each emotion adds to each parameter; `choose_delivery` gives the parameters their units."""

SPEAKER_SPREAD = 0.2
"""How much speakers differ in how they show an emotion; a standard deviation in the same scale as the effects."""
UTTERANCE_SPREAD = 0.2
"""How much one speaker differs from utterance to utterance."""
HABIT_SPREAD = 0.2
"""How much speakers differ at rest."""
INTENSITY = (0.8, 1.3)
"""How strongly an emotion is shown, from utterance to utterance."""
CHANNEL_DECIBELS = 1.2
CHANNEL_TILT_DECIBELS = 2.0
"""Spread of the microphones' frequency responses between speakers, per band and from the lowest to the highest."""


@dataclass(frozen=True)
class Speaker:
    """One speaker: the resting voice, the way of showing each emotion, and the microphone."""

    pitch_hertz: float
    tract_scale: float
    syllable_seconds: float
    habits: NDArray[np.float64]
    manner: dict[str, NDArray[np.float64]]
    channel: NDArray[np.float64]


def cast_speaker(gender: str, rng: np.random.Generator) -> Speaker:
    """Draw a speaker ("F" or "M")."""
    female = gender == "F"
    return Speaker(
        pitch_hertz=(195.0 if female else 118.0) * 2 ** rng.uniform(-0.3, 0.3),
        tract_scale=(1.13 if female else 0.98) * rng.uniform(0.94, 1.06),
        syllable_seconds=rng.uniform(0.17, 0.25),
        habits=rng.normal(0.0, HABIT_SPREAD, len(PARAMETERS)),
        manner={code: rng.normal(0.0, SPEAKER_SPREAD, len(PARAMETERS)) for code in EFFECTS},
        channel=_draw_channel(rng),
    )


def _draw_channel(rng: np.random.Generator) -> NDArray[np.float64]:
    edges = np.array([0.0, 250.0, 500.0, 1000.0, 2000.0, 4000.0, 6000.0, 8000.0])
    decibels = rng.normal(0.0, CHANNEL_DECIBELS, len(edges)) + np.linspace(
        0.0, rng.normal(0.0, CHANNEL_TILT_DECIBELS), len(edges)
    )
    taps: NDArray[np.float64] = firwin2(129, edges, 10 ** (decibels / 20), fs=SAMPLING_RATE)
    return taps


def choose_delivery(speaker: Speaker, code: str, rng: np.random.Generator) -> Delivery:
    """Draw how a speaker says one utterance with an emotion (neu, ang, hap, exc or sad)."""
    intensity = rng.uniform(*INTENSITY)
    shift = intensity * (np.array(EFFECTS[code]) + speaker.manner[code]) + speaker.habits
    shift = shift + rng.normal(0.0, UTTERANCE_SPREAD, len(PARAMETERS))
    pitch, spread, rate, smile, opened, tilt, breath, rough, accent = shift
    return Delivery(
        pitch_hertz=speaker.pitch_hertz * 2 ** (0.16 * pitch),
        pitch_range=0.16 * float(np.exp(0.4 * spread)),
        syllable_seconds=speaker.syllable_seconds * float(np.exp(-0.12 * rate)),
        tract_scale=speaker.tract_scale * float(np.exp(0.11 * smile)),
        open_quotient=float(np.clip(0.58 + 0.1 * opened, 0.3, 0.85)),
        tilt=float(np.clip(0.6 + 0.2 * tilt, 0.1, 0.95)),
        breathiness=0.5 * float(np.exp(1.3 * breath)),
        jitter=0.012 * float(np.exp(0.5 * rough)),
        shimmer=0.06 * float(np.exp(0.5 * rough)),
        accent=3.0 * float(np.exp(0.25 * accent)),
    )


def write_text(rng: np.random.Generator) -> tuple[Syllable, ...]:
    """Draw what is said: five to nine syllables with sounds as different as can be, as in a phonetically rich text."""
    count = int(rng.integers(5, 10))
    consonants = np.concatenate([rng.permutation(len(CONSONANTS)), rng.permutation(len(CONSONANTS))])[:count]
    vowels = np.concatenate([rng.permutation(len(VOWELS)), rng.permutation(len(VOWELS))])[:count]
    pause = int(rng.integers(2, 2 * count))
    return tuple(
        Syllable(
            consonant=CONSONANTS[consonant],
            vowel=int(vowel),
            length=float(rng.uniform(0.8, 1.25)),
            pause=index == pause,
        )
        for index, (consonant, vowel) in enumerate(zip(consonants, vowels, strict=True))
    )
