"""How far apart colours look, also to readers who are colour-blind, and how far they stand out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Machado, Oliveira and Fernandes (2009), table 1, severity 1.0; for linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
}
# sRGB, IEC 61966-2-1, to XYZ under D65.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def read_linear(colour: str) -> Floats:
    """Return linear RGB of "#rrggbb"."""
    rgb = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(one: Floats, other: Floats) -> float:
    """Return the contrast ratio of WCAG 2 of two linear colours."""
    low, high = sorted(float(colour @ _TO_XYZ[1]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def see_as_lab(linear: Floats, vision: str) -> Floats:
    """Return CIELAB of what somebody sees."""
    ratio = _TO_XYZ @ np.clip(VISIONS[vision] @ linear, 0, 1) / _WHITE
    x, y, z = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: Floats, other: Floats) -> float:
    """Return the difference of two colours in CIELAB (Sharma, Wu and Dalal 2005)."""
    chromas = [np.hypot(a, b) for _, a, b in (one, other)]
    shift = 0.5 * (1 - np.sqrt(np.mean(chromas) ** 7 / (np.mean(chromas) ** 7 + 25**7)))
    (l1, a1, b1), (l2, a2, b2) = one, other
    c1, c2 = np.hypot((1 + shift) * a1, b1), np.hypot((1 + shift) * a2, b2)
    h1, h2 = (np.degrees(np.arctan2(b, (1 + shift) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    apart = (h2 - h1 + 180) % 360 - 180 if c1 * c2 else 0.0
    hue = h1 + h2 if not c1 * c2 else (h1 + apart / 2) % 360
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    wave = sum(
        weight * np.cos(np.radians(times * hue + turn))
        for weight, times, turn in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.20, 4, -63))
    )
    rotation = -np.sin(np.radians(60 * np.exp(-(((hue - 275) / 25) ** 2)))) * 2
    rotation *= np.sqrt(chroma**7 / (chroma**7 + 25**7))
    light = (l2 - l1) / (1 + 0.015 * (lightness - 50) ** 2 / np.sqrt(20 + (lightness - 50) ** 2))
    colour = (c2 - c1) / (1 + 0.045 * chroma)
    turned = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(apart / 2)) / (1 + 0.015 * chroma * (1 + wave))
    return float(np.sqrt(light**2 + colour**2 + turned**2 + rotation * colour * turned))
