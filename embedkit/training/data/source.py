"""What a study reads its utterances from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray


class Source(Protocol):
    """What defines a task: a store, or a corpus that is encoded while heads train."""

    def __len__(self) -> int: ...

    @property
    def path(self) -> Path: ...

    @property
    def corpus(self) -> str: ...

    @property
    def task(self) -> dict[str, Any]: ...

    @property
    def encoder(self) -> dict[str, Any]: ...

    @property
    def extraction(self) -> dict[str, Any]: ...

    @property
    def trained_on(self) -> dict[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def layers(self) -> tuple[int, ...]: ...

    @property
    def has_frames(self) -> bool: ...

    @property
    def columns(self) -> tuple[str, ...]: ...

    @property
    def ids(self) -> NDArray[Any]: ...

    @property
    def labels(self) -> NDArray[Any]: ...

    @property
    def speakers(self) -> NDArray[Any]: ...

    @property
    def sessions(self) -> NDArray[Any]: ...

    @property
    def splits(self) -> NDArray[Any]: ...

    def column(self, name: str) -> NDArray[Any]: ...
