"""Databases of audb (https://audeering.github.io/audb), by name and version: loaded into its own cache, then read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from embedkit.corpora.audformat import read_audformat
from embedkit.corpora.base import Corpus, Reader
from embedkit.errors import CorpusError
from embedkit.libraries import muted
from embedkit.registry import import_extra

AUDB = "audb:"
"""What the name of a database begins with where a corpus is named."""

_NAME = re.compile(r"(?P<name>[\w.-]+)(@(?P<version>[\w.+-]+))?", re.ASCII)
_WORKERS = 4


def open_database(wanted: str) -> Corpus:
    """Load a database from the repositories that audb is set up with, and read it as `read_audformat` does.

    Args:
        wanted: `NAME` or `NAME@VERSION`.

    Raises:
        CorpusError: audb is not installed, no repository has the database, or it cannot be read.
    """
    match = _NAME.fullmatch(wanted)
    if match is None:
        raise CorpusError(
            f"{AUDB + wanted!r} names no database; expected a name and a version, as in audb:emodb@1.4.1."
        )
    audb = import_extra("audb", extra="audb", needed_by=f"{AUDB}{match['name']}", error=CorpusError)
    try:
        with muted("audb"):
            version = match["version"] or audb.latest_version(match["name"])
            database = audb.load(match["name"], version=version, full_path=False, num_workers=_WORKERS, verbose=False)
        folder = Path(database.meta["audb"]["root"])
    except Exception as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise CorpusError(
            f"The database {AUDB + wanted!r} cannot be loaded ({reason}); check its name and version, and the "
            "repositories in audb's configuration."
        ) from error
    corpus = read_audformat(folder)
    told = f"{match['name']} {version} was loaded by audb to {str(folder)!r}."
    return replace(corpus, notes=(told, *corpus.notes))


READER = Reader(
    layout="a database of audb (audb:emodb@1.4.1)",
    # It is named, and lies in no folder of the user's.
    recognise=lambda _: False,
    read=read_audformat,
)
