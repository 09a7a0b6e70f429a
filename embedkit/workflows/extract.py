"""Extract: run an encoder over a corpus once and keep its embeddings in a store."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from embedkit.arguments import checked
from embedkit.augmentations.fixed_noise import FixedNoise
from embedkit.checking.table import render_reading
from embedkit.corpora import Corpus
from embedkit.corpora.base import LeftOut
from embedkit.corpora.opening import as_corpus, rename_corpus
from embedkit.corpora.selection import choose_utterances
from embedkit.encoders import ENCODERS, load_encoder, split_name
from embedkit.errors import ConfigError
from embedkit.extraction.engines import LoadEncoder, open_engine
from embedkit.extraction.request import ExtractionRequest, default_path, keep_former_name
from embedkit.extraction.run import run_extraction
from embedkit.extraction.segments import corpus_digests
from embedkit.extraction.windows import Windows
from embedkit.imports import WithWord, has_word
from embedkit.options.call import takes_options
from embedkit.options.extract import ExtractCall
from embedkit.options.option import declared
from embedkit.progress import Progress, Tell, show_progress
from embedkit.store import Store, open_store
from embedkit.store.layout import SEEN_COLUMN
from embedkit.store.noise import noisy_path
from embedkit.system import count_cores
from embedkit.training.data.leakage import past_trainings
from embedkit.workflows.given_audio import Sounds, open_sounds

LEVELS: Mapping[str, tuple[str, ...]] = {
    "utterance": ("utterance",),
    "frame": ("utterance", "frame"),
    "both": ("utterance", "frame"),
}
"""What is kept. Utterance statistics always are: they cost little, and standardisation needs them."""

_logger = logging.getLogger("embedkit")


@takes_options(ExtractCall, "embedkit.extract")
@checked("embedkit.extract")
def extract_embeddings(
    corpus: str | os.PathLike[str] | Corpus | Sounds,
    options: ExtractCall,
    *,
    encoder: str,
    rate: int | None = None,
    labels: Sequence[str] | None = None,
    speakers: Sequence[str] | None = None,
    sources: Mapping[str, str] | None = None,
    progress: Progress | bool | None = None,
    tell: Tell = _logger.info,
) -> Store:
    """Run an encoder over a corpus and return the store of its embeddings.

    Work that is done is not done again: a finished store is returned as it is, one of a corpus that has changed is
    brought up to date, and an extraction that was stopped or killed continues.

    Args:
        corpus: A corpus folder, a CSV manifest, "demo", or an opened corpus; or a list of clips: NumPy arrays
            `[samples]` of one channel, open files, and paths.
        options: How, and what is kept; users give each as an argument.
        encoder: A registered name, a Hugging Face id or a local folder.
        rate: Samples a second of the arrays of a list.
        labels: Labels of the clips of a list, one for each.
        speakers: Their speakers, one for each.
        sources: Where encoders' names lead instead of the published weights.
        progress: Called with seconds of audio done and in all; True shows a bar, None shows one on a terminal.
        tell: Called with each sentence for the user; by default they are logged.

    Raises:
        ConfigError, ArgumentError: an option that cannot be used.
        CorpusError, UnknownNameError, EncoderError: the corpus or the encoder is unavailable.
        ExtractionError: it cannot start or go on; what is finished is kept.
        StoreError: the store that is there is damaged, or there is too little room.
    """
    if options.noise is not None and options.noise_snr is None:
        raise ConfigError(f"Found recordings of noise ({options.noise}) without a level; name it with --noise-snr.")
    noise = None if options.noise_snr is None else FixedNoise(options.noise_snr, options.noise)
    opened = _open(corpus, rate, labels, speakers)
    named = keep_former_name(opened) if options.corpus_name is None else rename_corpus(opened, options.corpus_name)
    chosen, selection = choose_utterances(named, options.where, options.limit)
    reading = render_reading(chosen)
    for note in chosen.notes:
        if not isinstance(note, LeftOut):
            tell(note)
    path = options.out or default_path(chosen.name, encoder)
    if noise is not None and options.out is None:
        path = noisy_path(path, noise.snr, options.noise)
    if path.is_dir():
        raise ConfigError(f"--out {str(path)!r} is a folder, expected the path of a file (.h5).")
    with open_engine(options.engine, tell) as runner, show_progress(progress, f"extract {encoder}") as report:
        load = _prepare_loading(
            encoder, layers=options.layers, window=options.window, sources=sources or {}, far=options.engine != "local"
        )
        loaded = runner.load_encoder(load, device=options.device, precision=options.precision, threads=options.threads)
        if noise is not None:
            noise.prepare(loaded.sampling_rate)
        chosen = mark_seen(chosen, loaded.identity().get("trained_on") or {})
        shared = {one.name for one in fields(ExtractionRequest)} & declared(ExtractCall).keys()
        wanted = {name: getattr(options, name) for name in shared} | {
            "out": path,
            "levels": LEVELS[options.level] if options.level else loaded.default_levels,
            "frame_dtype": options.frame_dtype or loaded.default_frame_dtype,
            "windows": Windows.for_encoder(loaded, options.max_seconds),
            "selection": selection,
            "added_noise": noise,
            "device": torch.device(loaded.device).type,
            "workers": max(1, min(4, count_cores()) if options.workers is None else options.workers),
        }
        run_extraction(
            ExtractionRequest(corpus=chosen, encoder=loaded, tell=tell, progress=report, **wanted),
            runner,
        )
    tell(reading)
    return open_store(path)


def _open(
    corpus: str | os.PathLike[str] | Corpus | Sounds,
    rate: int | None,
    labels: Sequence[str] | None,
    speakers: Sequence[str] | None,
) -> Corpus:
    if isinstance(corpus, Iterable) and not isinstance(corpus, str):
        return open_sounds(corpus, rate, labels, speakers)
    for name, value in (("rate", rate), ("labels", labels), ("speakers", speakers)):
        if value is not None:
            raise ConfigError(f"embedkit.extract: {name} is given beside a corpus; it belongs to a list of clips.")
    return as_corpus(corpus)


def mark_seen(corpus: Corpus, trained_on: Mapping[str, Any]) -> Corpus:
    """Add a column that says of every utterance whether the encoder was trained or chosen on it; none if it was not."""
    if not trained_on:
        return corpus
    parts: dict[str, set[str]] = {"train": set(), "dev": set()}
    for known in past_trainings(trained_on):
        parts["train"].update(known.get("digests", ()))
        parts["dev"].update(known.get("development_digests", ()))
        if known["corpus"] == corpus.name:
            parts["train"].update(known["utterances"])
            parts["dev"].update(known["development_utterances"])
    names = zip((one.id for one in corpus.utterances), corpus_digests(corpus), strict=True)
    seen = [next((part for part, known in parts.items() if known & set(own)), "") for own in names]
    marked = [
        replace(one, columns={**one.columns, SEEN_COLUMN: part})
        for one, part in zip(corpus.utterances, seen, strict=True)
    ]
    return replace(corpus, utterances=tuple(marked))


def _prepare_loading(
    name: str, *, layers: str, window: str | float, sources: Mapping[str, str], far: bool
) -> LoadEncoder:
    """Bind what the encoder is loaded from; processes elsewhere have another current folder."""
    if not far:
        return partial(load_encoder, name, layers=layers, window=window, sources=sources)
    parts = [_absolute(part) for part in split_name(name, sources)]
    sources = {key: _absolute(source) for key, source in sources.items()}
    load = partial(load_encoder, "+".join(parts), layers=layers, window=window, sources=sources)
    return WithWord(load, tuple(filter(has_word, parts)), os.getcwd())


def _absolute(source: str) -> str:
    path = Path(source).expanduser()
    return str(path.absolute()) if path.exists() and source not in ENCODERS else source
