"""Patterns of paths: what fields are, and which patterns are refused."""

import unicodedata

import pytest

from embedkit.corpora.pattern import read_pattern
from embedkit.errors import ConfigError


@pytest.mark.parametrize(
    ("pattern", "path", "fields"),
    [
        ("{label}/{speaker}_*.wav", "Anger/anna_A_1.wav", {"label": "Anger", "speaker": "anna"}),
        ("{label}/{speaker}_*.wav", "Anger/anna_A_1.WAV", {"label": "Anger", "speaker": "anna"}),
        ("{label}/{speaker}_*.wav", "Anger/anna.wav", None),
        ("{label}/{speaker}_*.wav", "deep/Anger/anna_1.wav", None),
        ("{label}/{speaker}_*.wav", "Anger/ _1.wav", None),
        ("**/{label}/{speaker}.wav", "a/b/fear/x.wav", {"label": "fear", "speaker": "x"}),
        ("**/{label}/{speaker}.wav", "fear/x.wav", {"label": "fear", "speaker": "x"}),
        ("{speaker}/**/{speaker}-{label}.wav", "k1/a/k1-sad.wav", {"speaker": "k1", "label": "sad"}),
        ("{speaker}/**/{speaker}-{label}.wav", "k1/a/k2-sad.wav", None),
        ("./{Speaker}+{label}.wav", "a.b+c.wav", {"speaker": "a.b", "label": "c"}),
        ("{label}\\{speaker}.wav", "joy/x.wav", {"label": "joy", "speaker": "x"}),
        (unicodedata.normalize("NFD", "Übung/{label}.wav"), unicodedata.normalize("NFC", "übung/Ärger.wav"), "Ärger"),
        ("Übung/{label}.wav", unicodedata.normalize("NFD", "Übung/Ärger.wav"), "Ärger"),
    ],
)
def test_what_fields_are(pattern: str, path: str, fields: dict[str, str] | str | None) -> None:
    expected = {"label": fields} if isinstance(fields, str) else fields
    assert read_pattern(pattern).match(path) == expected


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("{label}{speaker}.wav", r"ambiguous: nothing stands between \{label\} and \{speaker\}"),
        ("{label}/{speaker}*", r"between \{speaker\} and \*"),
        ("**{label}.wav", r"between \*\* and \{label\}"),
        ("{label}/{speaker.wav", "expected a name in braces"),
        ("{label}/{}.wav", "expected a name in braces"),
        ("{label}/{path}.wav", "expected a name in braces"),
        ("{label}/{1a}.wav", "expected a name in braces"),
    ],
)
def test_what_is_refused(pattern: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_pattern(pattern)
