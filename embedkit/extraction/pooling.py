"""Turn an encoder's padded layers into what is kept: statistics and frames of every clip's own frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from embedkit.encoders.device_copies import ToHost
from embedkit.encoders.pooling import pool_frames
from embedkit.errors import ExtractionError
from embedkit.store.layout import Array
from embedkit.store.writer import UtteranceEmbedding


class Pool:
    """A sink for one batch: mean and population standard deviation in float32, and the frames where they are kept."""

    def __init__(self, *, statistics: bool = True, frame_dtype: str | None = None) -> None:
        self.statistics = statistics
        self.frame_dtype = getattr(torch, frame_dtype) if frame_dtype else None
        self._means: list[Tensor] = []
        self._stds: list[Tensor] = []
        self._frames: list[list[Tensor]] = []
        self._to_host = ToHost()
        self._statistics: list[Tensor] = []

    def __call__(self, position: int, values: Tensor, lengths: Tensor) -> None:
        """Take one layer `[batch, frames, dimensions]` with the clips' own frames `[batch]`."""
        if position != len(self._frames):
            raise ExtractionError(f"The encoder gave layer {position} where layer {len(self._frames)} was expected.")
        own = lengths.tolist()
        if self.statistics:
            mean, std = pool_frames(values, own)
            self._means.append(mean)
            self._stds.append(std)
        self._frames.append([] if self.frame_dtype is None else self._keep(values, own))

    def close(self) -> None:
        """Say that the last layer has come: statistics on a GPU start to travel."""
        if self.statistics:
            self._statistics = [self._to_host(torch.stack(layers, dim=1)) for layers in (self._means, self._stds)]

    def rows(self) -> list[UtteranceEmbedding]:
        """Return what is kept of every clip: `[layers, dimensions]` twice and `[frames, layers, dimensions]`."""
        if not self._statistics:
            self.close()
        self._to_host.wait()
        mean, std = (values.numpy() for values in self._statistics)
        frames = self.frames() if self.frame_dtype is not None else [None] * len(mean)
        return [UtteranceEmbedding(*row) for row in zip(mean, std, frames, strict=True)]

    def frames(self) -> list[Array]:
        """Return the frames of every clip, `[frames, layers, dimensions]`."""
        self._to_host.wait()
        return [np.stack([layer.numpy() for layer in layers], axis=1) for layers in zip(*self._frames, strict=True)]

    def _keep(self, values: Tensor, own: list[int]) -> list[Tensor]:
        kept = self._to_host(values.to(self.frame_dtype))
        clips = [clip[:length] for clip, length in zip(kept, own, strict=True)]
        # The encoder may use its own memory again; what was cast or has travelled is nobody else's.
        return [clip.clone() for clip in clips] if kept is values else clips


def is_finite(rows: UtteranceEmbedding) -> bool:
    """Tell whether all statistics are finite; a frame that is not makes its mean so."""
    return bool(np.isfinite(rows.mean).all() and np.isfinite(rows.std).all())


def fits(frames: Array | None) -> bool:
    """Tell whether frames kept their values in their type; to be asked after `is_finite`."""
    return frames is None or bool(np.isfinite(frames).all())
