"""Small stores for the tests of the format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedkit.store import Store, StoreContent, UtteranceEmbedding, open_store, write_store

COUNTS = (3, 1, 5, 2)


def small_content(*, framed: bool = True, **changes: Any) -> tuple[StoreContent, list[UtteranceEmbedding]]:
    """Four utterances of two layers and three dimensions."""
    generator = np.random.default_rng(7)
    frames = [generator.normal(size=(count, 2, 3)).astype("float32") for count in COUNTS]
    rows = [
        UtteranceEmbedding(values.mean(0), values.std(0), values.astype("float16") if framed else None)
        for values in frames
    ]
    values: dict[str, Any] = {
        "corpus": "small",
        "corpus_info": {"kind": "manifest", "root": "/corpus", "task": {"classes": ["joy"], "merge": {}}, "notes": []},
        "encoder": {"name": "tiny", "layers": [1, 4], "dimensions": 3, "frame_rate": 50.0, "sampling_rate": 16000},
        "fingerprint": "f" * 64,
        "columns": {
            "id": ["a", "b", "c", "d"],
            "label": ["joy", "fear", "joy", "Ärger"],
            "speaker": ["1", "1", "2", "2"],
            "session": ["", "", "", ""],
            "split": ["train", "train", "test", "test"],
            "start": np.array([np.nan, 0.5, np.nan, np.nan]),
            "padded": np.array([False, True, False, False]),
            "audio_size": np.array([4, 5, 6, 7]),
            "text/en": ["one", "", "three [3]", "four\nlines"],
        },
        "frame_dtype": "float16" if framed else None,
        "frame_counts": COUNTS if framed else None,
        "failures": {"e": "It is empty."},
    }
    return StoreContent(**{**values, **changes}), rows


@pytest.fixture
def content() -> Callable[..., tuple[StoreContent, list[UtteranceEmbedding]]]:
    return small_content


@pytest.fixture
def small_store(tmp_path: Path) -> Store:
    path = tmp_path / "small.h5"
    write_store(path, *small_content())
    return open_store(path)
