"""Extract: run an encoder over a corpus once and keep its embeddings in a store."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from embedkit.arguments import checked
from embedkit.corpora import Corpus
from embedkit.corpora.selection import choose_utterances
from embedkit.encoders import ENCODERS, load_encoder, split_name
from embedkit.encoders.base import Encoder
from embedkit.errors import ConfigError
from embedkit.extraction.engines import ENGINES, LoadEncoder, open_engine
from embedkit.extraction.request import ExtractionRequest, default_path
from embedkit.extraction.run import run_extraction
from embedkit.extraction.windows import Windows
from embedkit.progress import Progress, Tell, show_progress
from embedkit.store import Store, open_store
from embedkit.store.layout import FRAME_DTYPES, SEEN_COLUMN
from embedkit.training.data.leakage import past_trainings

LEVELS: Mapping[str, tuple[str, ...]] = {
    "utterance": ("utterance",),
    "frame": ("utterance", "frame"),
    "both": ("utterance", "frame"),
}
"""What is kept. Utterance statistics always are: they cost little, and standardisation needs them."""

_logger = logging.getLogger("embedkit")


@checked("embedkit.extract")
def extract_embeddings(
    corpus: str | os.PathLike[str] | Corpus,
    *,
    encoder: str,
    layers: str = "all",
    level: Literal["utterance", "frame", "both"] | None = None,
    frame_dtype: Literal["float16", "float32"] | None = None,
    out: str | os.PathLike[str] | None = None,
    where: Sequence[str] = (),
    device: str = "auto",
    precision: str = "fp32",
    window: str | float = "clip",
    batch_seconds: float | None = None,
    shard_seconds: float | None = None,
    max_seconds: float | None = None,
    workers: int | None = None,
    threads: int | None = None,
    engine: Literal["local", "ray"] = "local",
    max_file_gb: float | None = None,
    on_error: Literal["fail", "skip"] = "fail",
    limit: int | None = None,
    overwrite: bool = False,
    sources: Mapping[str, str] | None = None,
    progress: Progress | bool | None = None,
    tell: Tell = _logger.info,
) -> Store:
    """Run an encoder over a corpus and return the store of its embeddings.

    Work that is done is not done again: a finished store is returned as it is, one of a corpus that has changed is
    brought up to date, and an extraction that was stopped or killed continues.

    Args:
        corpus: A corpus folder, a CSV manifest, "demo", or an opened corpus.
        encoder: A registered name, a Hugging Face id or a local folder.
        layers: "all", "last", a number, or a range such as "4-9".
        level: "utterance": mean and standard deviation over each utterance's own frames; "frame" or "both": the
            frames as well. By default what the encoder's usual head needs.
        frame_dtype: Type of the frames; by default the encoder's.
        out: The store; by default `embeddings/<corpus>/<encoder>.h5`.
        where: Filters `COLUMN=VALUE`; all must hold.
        device: "auto", "cpu" or "cuda".
        precision: "fp32", the reference, "bf16", "fp16" or "auto": what the device does fast and safely. What it
            changes against fp32 is measured on the first batch and kept in the store's `extraction`.
        window: Whisper only: "clip", or seconds that every clip is padded to.
        batch_seconds: Seconds of audio in a batch; by default what the device does fast. On a CPU each thread may
            have its own.
        shard_seconds: Seconds of audio in a shard, which is what a kill may cost beside the batches under way.
        max_seconds: Longer clips are encoded in overlapping windows of this length; by default 60 for wav2vec 2.0 and
            its relatives, for others what the encoder takes.
        workers: Threads that read audio.
        threads: Threads of the encoder on a CPU, each with a batch of its own where there are enough.
        engine: "local": this process; "ray": the workers of the Ray cluster at `RAY_ADDRESS`, or of one started here.
        max_file_gb: Keep a store with more gigabytes of embeddings in files of at most this size, beside `out`.
        on_error: "fail": stop at the first utterance that cannot be used; "skip": list it in the store and go on.
        limit: Take only so many utterances, evenly spread over the ids.
        overwrite: Replace a store, or an unfinished extraction, made with other options.
        sources: Where encoders' names lead instead of the published weights.
        progress: Called with seconds of audio done and in all; True shows a bar, None shows one on a terminal.
        tell: Called with each sentence for the user; by default they are logged.

    Raises:
        ConfigError: an option that cannot be used.
        CorpusError, UnknownNameError, EncoderError: the corpus or the encoder cannot be had.
        ExtractionError: it cannot start or go on; what is finished is kept.
        StoreError: the store that is there is damaged, or there is too little room.
    """
    _check_words(level=(level, (None, *LEVELS)), frame_dtype=(frame_dtype, (None, *FRAME_DTYPES)))
    _check_words(on_error=(on_error, ("fail", "skip")), engine=(engine, tuple(ENGINES)))
    _check_numbers(
        batch_seconds=batch_seconds,
        shard_seconds=shard_seconds,
        max_seconds=max_seconds,
        limit=limit,
        threads=threads,
        max_file_gb=max_file_gb,
    )
    chosen, selection = choose_utterances(corpus, where, limit)
    for note in chosen.notes:
        tell(note)
    path = Path(out) if out is not None else default_path(chosen.name, encoder)
    if path.is_dir():
        raise ConfigError(f"--out {str(path)!r} is a folder, expected the path of a file (.h5).")
    with open_engine(engine, tell) as runner, show_progress(progress, f"extract {encoder}") as report:
        load = _prepare_loading(encoder, layers=layers, window=window, sources=sources or {}, far=engine != "local")
        loaded = runner.load_encoder(load, device=device, precision=precision, threads=threads)
        chosen = mark_seen(chosen, loaded.identity().get("trained_on") or {})
        run_extraction(
            ExtractionRequest(
                corpus=chosen,
                encoder=loaded,
                out=path,
                levels=LEVELS[level] if level else loaded.default_levels,
                frame_dtype=frame_dtype or loaded.default_frame_dtype,
                windows=Windows.for_encoder(loaded, max_seconds),
                selection=selection,
                device=_device_kind(loaded, device),
                precision=precision,
                threads=threads,
                batch_seconds=batch_seconds,
                shard_seconds=shard_seconds,
                workers=max(1, min(4, os.cpu_count() or 1) if workers is None else workers),
                on_error=on_error,
                max_file_gb=max_file_gb,
                overwrite=overwrite,
                tell=tell,
                progress=report,
            ),
            runner,
        )
    return open_store(path)


def mark_seen(corpus: Corpus, trained_on: Mapping[str, Any]) -> Corpus:
    """Add a column that says of every utterance whether the encoder was trained or chosen on it; none if it was not."""
    if not trained_on:
        return corpus
    parts: dict[str, set[str]] = {"train": set(), "dev": set()}
    for known in past_trainings(trained_on):
        if known["corpus"] == corpus.name:
            parts["train"].update(known["utterances"])
            parts["dev"].update(known["development_utterances"])
    seen = [next((part for part, ids in parts.items() if one.id in ids), "") for one in corpus.utterances]
    marked = [
        replace(one, columns={**one.columns, SEEN_COLUMN: part})
        for one, part in zip(corpus.utterances, seen, strict=True)
    ]
    return replace(corpus, utterances=tuple(marked))


def _prepare_loading(
    name: str, *, layers: str, window: str | float, sources: Mapping[str, str], far: bool
) -> LoadEncoder:
    """Bind what the encoder is loaded from; processes elsewhere have another current folder."""
    if far:
        name = "+".join(_absolute(part) for part in split_name(name, sources))
        sources = {key: _absolute(source) for key, source in sources.items()}
    return partial(load_encoder, name, layers=layers, window=window, sources=sources)


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() and source not in ENCODERS else source


def _check_words(**options: tuple[str | None, tuple[str | None, ...]]) -> None:
    for name, (value, known) in options.items():
        if value not in known:
            expected = ", ".join(one for one in known if one)
            raise ConfigError(f"--{name.replace('_', '-')} is {value!r}, expected one of {expected}.")


def _check_numbers(**options: float | None) -> None:
    for name, number in options.items():
        if number is not None and not (math.isfinite(number) and number > 0):
            raise ConfigError(f"--{name.replace('_', '-')} is {number}, expected a number above 0.")


def _device_kind(encoder: Encoder, device: str) -> str:
    """Return "cpu" or "cuda": where the encoder is, or, where it does not say, where it was asked to be."""
    placed = getattr(encoder, "device", None)
    if placed is None:
        return "cpu" if device == "auto" else device.partition(":")[0]
    return str(placed).partition(":")[0]
