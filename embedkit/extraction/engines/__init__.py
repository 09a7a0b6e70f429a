"""Where shards are encoded: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedkit.extraction.engines.base import Engine, LoadEncoder, LocalEngine
from embedkit.progress import Tell
from embedkit.registry import Part, Registry

ENGINES = Registry(
    "engine",
    [
        ("local", Part("embedkit.extraction.engines.base:LocalEngine", "this process")),
        ("ray", Part("embedkit.extraction.engines.ray:RayEngine", "the workers of a Ray cluster")),
    ],
)

__all__ = ["ENGINES", "Engine", "LoadEncoder", "LocalEngine", "open_engine"]


@contextmanager
def open_engine(name: str, tell: Tell) -> Iterator[Engine]:
    """Open an engine by name, and close it at the end, whatever happens.

    Raises:
        UnknownNameError: no such engine.
        ExtractionError: it cannot be used here.
    """
    engine: Engine = ENGINES.load(name)(tell)
    try:
        yield engine
    finally:
        engine.close()
