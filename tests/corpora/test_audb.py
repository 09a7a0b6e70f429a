"""Databases of audb by name, from a repository in the file system."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from embedkit.corpora import open_corpus
from embedkit.errors import CorpusError

MISSING = find_spec("audb") is None


def test_a_database_without_audb_or_a_name() -> None:
    with pytest.raises(CorpusError, match=r"'audb:' names no database; expected a name and a version"):
        open_corpus("audb:")
    with pytest.raises(CorpusError, match=r"'audb:a b' names no database"):
        open_corpus("audb:a b")
    if MISSING:
        with pytest.raises(CorpusError, match=r"audb:emodb needs audb, which is not installed; run .*\[audb\]"):
            open_corpus("audb:emodb@1.4.1")


@pytest.mark.skipif(MISSING, reason="audb is not installed")
def test_a_database_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUDB_CACHE_ROOT", "AUDB_SHARED_CACHE_ROOT"):
        monkeypatch.setenv(name, str(tmp_path / name))
    import audb
    import audformat

    (tmp_path / "host/repo").mkdir(parents=True)
    repository: Any = audb.Repository("repo", str(tmp_path / "host"), "file-system")
    monkeypatch.setattr(audb.config, "REPOSITORIES", [repository])
    build = tmp_path / "build"
    files = ["wav/03a.wav", "wav/08a.wav"]
    (build / "wav").mkdir(parents=True)
    for file in files:
        soundfile.write(build / file, np.zeros(160), 16_000)
    database = audformat.Database("tiny")
    database.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral"])
    database.schemes["speaker"] = audformat.Scheme("str")
    database["files"] = audformat.Table(audformat.filewise_index(files))
    for name, values in (("emotion", ["anger", "neutral"]), ("speaker", ["03", "08"])):
        database["files"][name] = audformat.Column(scheme_id=name)
        database["files"][name].set(values)
    database.save(str(build))
    audb.publish(str(build), "1.0.0", repository, verbose=False)

    for source in ("audb:tiny@1.0.0", "audb:tiny"):
        corpus = open_corpus(source)
        assert [(one.id, one.label, one.speaker) for one in corpus.utterances] == [
            ("03a", "anger", "03"),
            ("08a", "neutral", "08"),
        ]
        assert all(corpus.audio_path(one).is_file() for one in corpus.utterances)
        assert corpus.notes[0].startswith("tiny 1.0.0 was loaded by audb to")
    with pytest.raises(CorpusError, match=r"'audb:tiny@2\.0\.0' cannot be loaded \(.*2\.0\.0"):
        open_corpus("audb:tiny@2.0.0")
