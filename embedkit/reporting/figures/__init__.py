"""Figures of finished runs."""

from embedkit.reporting.figures.layers import draw_layers

__all__ = ["draw_layers"]
