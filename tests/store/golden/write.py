"""Write the golden store of the present format version: python -m tests.store.golden.write PATH [MOST_BYTES]."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from embedkit.store import StoreContent, UtteranceEmbedding, write_store

COUNTS = (2, 3, 1)
IDS = ("Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses02M_script01_F003")


def golden_rows() -> list[UtteranceEmbedding]:
    """Frames that count upwards in steps of 1/8, exact in float16."""
    offsets = np.concatenate([[0], np.cumsum(COUNTS)])
    values = (np.arange(offsets[-1] * 2 * 3, dtype="float32") / 8).reshape(-1, 2, 3)
    pieces = [values[start:stop] for start, stop in pairwise(offsets)]
    return [UtteranceEmbedding(piece.mean(0), piece.std(0), piece.astype("float16")) for piece in pieces]


def golden_content() -> StoreContent:
    """Every kind of column, a failure, and all attributes."""
    return StoreContent(
        corpus="golden",
        corpus_info={
            "kind": "iemocap",
            "root": "/corpora/golden",
            "task": {"classes": ["anger", "happiness"], "merge": {"excitement": "happiness"}},
            "notes": ["Three utterances only."],
        },
        encoder={
            "name": "golden",
            "family": "conv-transformer",
            "source": "example/golden",
            "revision": "0123abc",
            "weights_digest": "d" * 32,
            "layers": [0, 6],
            "dimensions": 3,
            "sampling_rate": 16000,
            "frame_rate": 50.0,
            "normalisation": "none",
            "window": "clip",
            "precision": "fp32",
            "versions": {"torch": "2.12.0"},
        },
        fingerprint="0" * 64,
        columns={
            "id": IDS,
            "path": [f"Session1/sentences/wav/{name}.wav" for name in IDS],
            "label": ["anger", "excitement", "happiness"],
            "speaker": ["Ses01F", "Ses01M", "Ses02F"],
            "session": ["Ses01", "Ses01", "Ses02"],
            "split": ["", "", ""],
            "start": np.array([np.nan, np.nan, 0.25]),
            "end": np.array([np.nan, np.nan, 1.5]),
            "duration": np.array([0.05, 0.07, 0.03]),
            "padded": np.array([False, False, True]),
            "digest": ["a" * 32, "b" * 32, "c" * 32],
            "audio_size": np.array([1644, 2284, 1004]),
            "audio_mtime": np.array([1_700_000_000_000_000_000] * 3),
            "text": ["Excuse me.", "Größe & [laughter]", ""],
            "valence": np.array([2.5, 4.0, np.nan]),
        },
        frame_dtype="float16",
        frame_counts=COUNTS,
        failures={"Ses02M_script01_M000": "There is no audio file."},
        failure_columns={"audio_size": np.array([-1]), "audio_mtime": np.array([-1])},
        extraction={"batch_seconds": 16.0, "device": "cpu", "threads": 1},
        trained_on={"speakers": ["Ses01F"], "utterances": ["Ses01F_impro01_F000"]},
    )


if __name__ == "__main__":
    most_bytes = float(sys.argv[2]) if len(sys.argv) > 2 else None
    write_store(Path(sys.argv[1]), golden_content(), golden_rows(), most_bytes=most_bytes)
