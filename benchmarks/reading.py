"""How fast frames are read from a store, beside `numpy.memmap` over the same bytes, timed in the same run.

    python benchmarks/reading.py
    python benchmarks/reading.py --store embeddings/emodb/hubert.h5

Every utterance's frames are copied into one buffer; the file is in the page cache for all. Without --store a file of
random frames (13 layers of 768 dimensions, float16) is written to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import soundfile
import torch
from common import describe_machine, median, show_table

import embedkit
from embedkit.corpora.base import Corpus, Utterance
from embedkit.encoders import load_encoder
from embedkit.extraction.request import ExtractionRequest
from embedkit.extraction.run import run_extraction
from embedkit.store import Store

FRAMES = "frame/values"


def main() -> None:
    """Time every way of reading, in order and at random."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store")
    parser.add_argument("--utterances", type=int, default=400)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an utterance")
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(options.store) if options.store else write_store(Path(folder), options.utterances, options.seconds)
        with embedkit.open_store(path) as store:
            show(store, options.runs)


def write_store(folder: Path, utterances: int, seconds: float) -> Path:
    """Write a store of many layers from noise: mfcc, each frame spread over 13 layers of 768 dimensions."""
    generator = np.random.default_rng(0)
    encoder = load_encoder("mfcc")
    narrow = encoder.encode

    def wide(waves: list[torch.Tensor], sink: Callable[..., None]) -> None:
        def spread(position: int, values: torch.Tensor, lengths: torch.Tensor) -> None:
            for layer in range(13):
                sink(layer, values.repeat(1, 1, 20)[..., :768], lengths)

        narrow(waves, spread)

    encoder.layers, encoder.dimensions, encoder.encode = tuple(range(13)), 768, wide
    described = encoder.identity() | {"layers": list(encoder.layers), "dimensions": 768}
    encoder.identity = lambda: described
    members = []
    for index in range(utterances):
        samples = generator.normal(0, 0.1, round(generator.uniform(0.5, 1.5) * seconds * 16_000))
        soundfile.write(folder / f"{index}.wav", samples, 16_000)
        members.append(Utterance(id=f"{index:05}", path=f"{index}.wav", label="noise"))
    corpus = Corpus(name="noise", kind="manifest", root=folder, utterances=tuple(members))
    out = folder / "noise.h5"
    run_extraction(
        ExtractionRequest(corpus=corpus, encoder=encoder, out=out, levels=("utterance", "frame"), frame_dtype="float16")
    )
    return out


def show(store: Store, runs: int) -> None:
    """Print rates and their ratios to memmap's."""
    with h5py.File(store.path, "r") as file:
        place = file[FRAMES].id.get_offset()
        values = store.frame_values
        mapped = np.memmap(store.path, mode="r", dtype=values.dtype, offset=place, shape=values.shape)
        offsets = store.frame_offsets
        ways = {
            "numpy.memmap": lambda row: mapped[offsets[row] : offsets[row + 1]],
            "embedkit": store.frames,
            "h5py": lambda row: file[FRAMES][offsets[row] : offsets[row + 1]],
        }
        orders = {"in order": np.arange(len(store)), "at random": np.random.default_rng(0).permutation(len(store))}
        buffer = np.empty((int(np.diff(offsets).max()), *values.shape[1:]), values.dtype)
        times: dict[tuple[str, str], list[float]] = {(way, order): [] for order in orders for way in ways}
        for _ in range(runs + 1):
            for (way, order), found in times.items():
                found.append(read_all(ways[way], orders[order], buffer))
    rows = []
    for (way, order), (_, *found) in times.items():
        reference = times["numpy.memmap", order][1:]
        ratio = median(one / other for one, other in zip(reference, found, strict=True))
        rows.append([f"{way}, {order}", f"{values.nbytes / median(found) / 1e9:.2f}", f"{ratio:.2f}"])
    title = (
        f"{len(store)} utterances, {values.nbytes / 1e9:.2f} GB of frames; medians of {runs} runs; {describe_machine()}"
    )
    show_table(title, ["", "GB/s", "/ memmap"], rows)


def read_all(read: Callable[[int], np.ndarray], order: Iterable[int], buffer: np.ndarray) -> float:
    """Copy every utterance into the buffer; return the seconds it took."""
    started = time.perf_counter()
    for row in order:
        frames = read(row)
        buffer[: len(frames)] = frames
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
