"""A small corpus to extract from."""

from pathlib import Path

import pytest

from embedkit.corpora.base import Corpus
from tests.extraction.fakes import write_corpus


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return write_corpus(tmp_path / "audio")
