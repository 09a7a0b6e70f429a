"""Where utterances, labels and speakers come from: one file per corpus, a CSV manifest, the demo corpus."""

from embedkit.corpora.base import Corpus, Task, Utterance
from embedkit.corpora.opening import CORPORA, open_corpus
from embedkit.corpora.selection import select

__all__ = ["CORPORA", "Corpus", "Task", "Utterance", "open_corpus", "select"]
