"""Find out what corpus a name, a folder or a file is, and open it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from os import PathLike
from pathlib import Path
from typing import Any

from embedkit.arguments import checked
from embedkit.corpora.audb_databases import AUDB, open_database
from embedkit.corpora.base import IDENTIFIERS, Corpus, Reader, Utterance, list_names, walk_files
from embedkit.corpora.demo import open_demo_corpus
from embedkit.corpora.manifest import SUFFIXES, find_manifests, read_manifest
from embedkit.corpora.texts import as_text
from embedkit.corpora.unread import DEPTH, add_unread, is_audio_of_any_kind
from embedkit.errors import ConfigError, CorpusError
from embedkit.imports import looks_like_target, take_word
from embedkit.registry import Part, Registry, load_own

CORPORA = Registry(
    "corpus",
    [
        ("demo", Part("embedkit.corpora.demo:READER", "synthetic speech in IEMOCAP's layout, for trying out")),
        (
            "iemocap",
            Part("embedkit.corpora.iemocap:READER", "IEMOCAP, its official folder; four classes", cites=("busso2008",)),
        ),
        ("emodb", Part("embedkit.corpora.emodb:READER", "EmoDB, German, seven classes", cites=("burkhardt2005",))),
        (
            "ravdess",
            Part(
                "embedkit.corpora.ravdess:READER",
                "RAVDESS, audio-only speech, eight classes",
                cites=("livingstone2018",),
            ),
        ),
        ("crema-d", Part("embedkit.corpora.crema_d:READER", "CREMA-D, six classes", cites=("cao2014",))),
        (
            "msp-podcast",
            Part(
                "embedkit.corpora.msp_podcast:READER",
                "MSP-Podcast with its partitions, eight classes",
                cites=("lotfian2019",),
            ),
        ),
        (
            "meld",
            Part(
                "embedkit.corpora.meld:READER",
                "MELD, its tables and audio of each utterance, seven classes",
                cites=("poria2019",),
            ),
        ),
        (
            "tess",
            Part("embedkit.corpora.tess:READER", "TESS, two speakers, seven classes", cites=("pichorafuller2020",)),
        ),
        ("savee", Part("embedkit.corpora.savee:READER", "SAVEE, four speakers, seven classes", cites=("haq2009",))),
        ("emovo", Part("embedkit.corpora.emovo:READER", "EMOVO, Italian, seven classes", cites=("costantini2014",))),
        (
            "msp-improv",
            Part(
                "embedkit.corpora.msp_improv:READER",
                "MSP-IMPROV with its annotators, four classes",
                cites=("busso2017",),
            ),
        ),
        ("esd", Part("embedkit.corpora.esd:READER", "ESD, Mandarin and English, five classes", cites=("zhou2022",))),
        ("nemo", Part("embedkit.corpora.nemo:READER", "nEMO, Polish, six classes", cites=("christop2024",))),
        (
            "emobox",
            Part(
                "embedkit.corpora.emobox:READER",
                "EmoBox: 32 corpora by its metadata, with its folds",
                cites=("ma2024emobox",),
            ),
        ),
        ("audformat", Part("embedkit.corpora.audformat:READER", "any database in audformat", extra="audformat")),
        (
            "audb",
            Part("embedkit.corpora.audb_databases:READER", "any database of audb, as audb:emodb@1.4.1", extra="audb"),
        ),
        (
            "datasets",
            Part("embedkit.corpora.datasets:READER", "any saved Hugging Face dataset", extra="datasets"),
        ),
        ("manifest", Part("embedkit.corpora.manifest:READER", "any corpus by a CSV file with the columns path,label")),
    ],
)
DEMO = "demo"

_LEVELS_UP = 4
_SUBFOLDERS = 200


@checked("embedkit.open_corpus")
def open_corpus(source: str | PathLike[str]) -> Corpus:
    """Open the demo corpus ("demo"), a CSV manifest, a corpus folder in its official layout, or a database of audb.

    `audb:emodb@1.4.1` loads a database by its name and version (the latest one where none is given) into audb's cache.
    A folder of one's own that is called "demo" is given as "./demo". `package.module:read_mine:FOLDER` calls a function
    of one's own, or the `read` of a `Reader`, with the folder.

    Raises:
        CorpusError: nothing there, no audio, or no known layout.
        UnknownNameError: a function of one's own that cannot be imported.
    """
    take_word(source)
    if source == DEMO:
        return open_demo_corpus()
    if os.fspath(source).startswith(AUDB):
        return _add_unread(open_database(os.fspath(source).removeprefix(AUDB)), CORPORA.load("audformat"))
    path = Path(os.path.abspath(os.path.expanduser(source)))
    target, folder = _split_target(os.fspath(source))
    if target and not path.exists():
        return _read_own(target, folder)
    if path.is_dir():
        for _, reader in _readers():
            if reader.recognise(path):
                return _note_manifests(_add_unread(reader.read(path), reader), path)
        raise _not_recognised(path)
    if not path.exists():
        raise CorpusError(_missing(source, path))
    if path.suffix.lower() in SUFFIXES:
        return add_unread(read_manifest(path), beside=True)
    if is_audio_of_any_kind(path):
        raise CorpusError(
            f"{str(path)!r} is a single audio file; give the folder of its corpus, or a CSV manifest with the columns "
            "path and label."
        )
    if path.suffix.lower() == ".h5":
        raise CorpusError(
            f"{str(path)!r} is a store, not a corpus: its embeddings are extracted; train on them with embedkit fit."
        )
    raise CorpusError(f"{str(path)!r} is no corpus; expected a corpus folder, a CSV manifest (.csv or .tsv) or 'demo'.")


def as_corpus(corpus: str | PathLike[str] | Corpus) -> Corpus:
    """Open a corpus unless it is opened; see `open_corpus`."""
    return _with_texts(corpus) if isinstance(corpus, Corpus) else open_corpus(corpus)


def _add_unread(corpus: Corpus, reader: Reader) -> Corpus:
    # The audio of a saved dataset was written to the cache, all of it.
    kind = corpus.kind
    return (
        corpus if kind == "datasets" else add_unread(corpus, beside=kind in ("manifest", "emobox"), apart=reader.apart)
    )


def _note_manifests(corpus: Corpus, folder: Path) -> Corpus:
    """Name manifests that lie beside a known layout, which goes first."""
    if corpus.kind in ("manifest", "audformat", "datasets"):
        return corpus
    notes = [
        f"Did not read {file.name}, for the folder has the layout of {corpus.kind}; name that file to read it instead."
        for file in find_manifests(folder)
    ]
    return replace(corpus, notes=(*corpus.notes, *notes))


def _with_texts(corpus: Corpus) -> Corpus:
    """Write the names that code of one's own gives as numbers as texts; floats in further columns are ratings."""
    return replace(corpus, utterances=tuple(map(_texts_of, corpus.utterances)))


def _texts_of(utterance: Utterance) -> Utterance:
    names: dict[str, Any] = {
        name: as_text(value) for name in ("id", *IDENTIFIERS) if not isinstance(value := getattr(utterance, name), str)
    }
    columns = {name: as_text(value) for name, value in utterance.columns.items() if not isinstance(value, str | float)}
    return replace(utterance, **names, columns={**utterance.columns, **columns}) if names or columns else utterance


def rename_corpus(corpus: Corpus, name: str | None) -> Corpus:
    """Give a corpus another name, which its stores, runs and tables go by; None leaves its own.

    Raises:
        ConfigError: no name, or another one for the demo corpus, or its name for another corpus.
    """
    if name is None or name == corpus.name:
        return corpus
    if not name.strip() or DEMO in (name, corpus.name):
        raise ConfigError(
            f"--corpus-name is {name!r} for the corpus {corpus.name}, expected a name; only the demo corpus is called "
            f"{DEMO}, and by no other name."
        )
    return replace(corpus, name=name)


def _split_target(source: str) -> tuple[str, str]:
    """Split `package.module:read_mine:FOLDER`; the target is empty where the source has another form."""
    module, _, rest = source.partition(":")
    name, _, folder = rest.partition(":")
    target = f"{module}:{name}"
    return (target, folder) if looks_like_target(target) else ("", "")


def _read_own(target: str, folder: str) -> Corpus:
    found = load_own(target)
    read = found.read if isinstance(found, Reader) else found
    if not callable(read):
        raise CorpusError(f"{target!r} is {found!r}, expected a function from a folder to a Corpus, or a Reader.")
    path = Path(os.path.abspath(os.path.expanduser(folder)))
    if not folder or not path.is_dir():
        told = f"there is no folder {str(path)!r}" if folder else "no folder is given"
        raise CorpusError(f"{target!r} reads a folder, but {told}; give it as {target}:FOLDER.")
    corpus = read(path)
    if not isinstance(corpus, Corpus):
        raise CorpusError(f"{target!r} returned a {type(corpus).__name__}, expected an embedkit.corpora.Corpus.")
    return _with_texts(corpus)


def _readers() -> Iterator[tuple[str, Reader]]:
    for name in CORPORA:
        yield name, CORPORA.load(name)


def _missing(source: str | PathLike[str], path: Path) -> str:
    name = os.fspath(source)
    if name in CORPORA and name != "manifest":
        return f"There is no folder {str(path)!r}; give the path of your copy of {name}, or 'demo'."
    return f"There is no folder or file {str(path)!r}; check the path, or give 'demo'."


def _not_recognised(folder: Path) -> CorpusError:
    manifests = find_manifests(folder)
    if len(manifests) > 1:
        names = ", ".join(repr(file.name) for file in manifests[:5])
        return CorpusError(f"The folder {str(folder)!r} holds {len(manifests)} manifests ({names}); give one of them.")
    hint = _hint(_below(folder), "its sub-folder") or _hint(islice(folder.parents, _LEVELS_UP), "the folder above it,")
    if hint:
        return CorpusError(f"The folder {str(folder)!r} is not recognised as a corpus, but {hint}; give that.")
    layouts = ", ".join(reader.layout for name, reader in _readers() if name != DEMO)
    if not any(is_audio_of_any_kind(file) for file in walk_files(folder, depth=DEPTH)):
        return CorpusError(f"There is no audio in the folder {str(folder)!r}; looked for {layouts}.")
    return CorpusError(
        f"The corpus in {str(folder)!r} is not recognised; looked for {layouts}: write a manifest for any other corpus."
    )


def _below(folder: Path) -> Iterator[Path]:
    """Yield the sub-folders, then theirs, up to a number that is soon looked through."""
    children = [folder / name for name in list_names(folder) if not name.startswith(".")]
    grandchildren = (child / name for child in children for name in list_names(child))
    return islice(filter(Path.is_dir, chain(children, grandchildren)), _SUBFOLDERS)


def _hint(candidates: Iterable[Path], relation: str) -> str:
    # Any folder may happen to hold a table; a corpus in its official layout is hardly there by chance.
    readers = [(name, reader) for name, reader in _readers() if name != "manifest"]
    for candidate in candidates:
        for name, reader in readers:
            if reader.recognise(candidate):
                return f"{relation} {str(candidate)!r} looks like {name}"
    return ""
