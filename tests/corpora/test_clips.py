"""Lists of clips to predict are read as manifests are."""

import unicodedata
from pathlib import Path

import pytest

from embedkit.corpora.clips import find_clips
from embedkit.errors import CorpusError


def write(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    (folder / "list.csv").write_bytes("\n".join(lines).encode(encoding))
    return folder / "list.csv"


@pytest.mark.parametrize(
    ("header", "row", "segment"),
    [
        ("path,start,end", "a.wav,1,2", (1.0, 2.0)),
        ("path,start,duration", "a.wav,1,2", (1.0, 3.0)),
        ("path;onset;offset", "a.wav;0,5;2", (0.5, 2.0)),
        ("path\tstart_ms\tend_ms\tnote", "a.wav\t500\t\tx", (0.5, None)),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_times(
    tmp_path: Path, header: str, row: str, segment: tuple[float | None, float | None], encoding: str
) -> None:
    (clip,) = find_clips([write(tmp_path, header, row, encoding=encoding)])
    assert (clip.name, clip.path, clip.start, clip.end) == ("a.wav", tmp_path / "a.wav", *segment)


def test_paths_in_other_characters(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / unicodedata.normalize("NFD", "\u00e9.wav")).touch()
    (clip,) = find_clips([write(tmp_path, "path", "sub\\\u00e9.wav")])
    assert clip.path.exists()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["file", "a.wav"], "no column `path`"),
        (["path"], "no rows below its header"),
        (["path,offset", "a.wav,1"], "may be a start or an end"),
        (["path,start", "a.wav,soon"], "Row 2 of the list .* has 'soon' as start"),
        (["path,start", "a.wav,nan"], "Row 2 of the list .* has 'nan' as start"),
        (["path,start", "a.wav"], "Row 2 of the list .* has 1 fields"),
        (["path,start", ",1"], "Row 2 of the list .* has no path"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path: Path, lines: list[str], told: str) -> None:
    with pytest.raises(CorpusError, match=told):
        find_clips([write(tmp_path, *lines)])
