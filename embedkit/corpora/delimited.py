"""Tables of text: CSV with commas, semicolons, tabs or bars, in UTF-8, UTF-16 or, where that is clear, Windows-1252."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import CorpusError
from embedkit.received import MOST_TEXT, open_regular, read_bytes

DELIMITERS = (",", ";", "\t", "|")

_LONGEST_FIELD = 1 << 24
_BEGINNING = 1 << 16
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SEPARATOR_LINE = re.compile(r"\"?sep=(?P<delimiter>[,;\t|])\"?\r?\n?", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]+")
# Turkish letters stand where Windows-1252 has Icelandic ones; symbols inside words are letters of other code pages.
_OTHER_LETTERS = frozenset("ÐÝÞðýþ")
_SYMBOL_IN_WORD = re.compile(r"[^\W\d_][¡-¿×÷†‡‰ˆ˜€ƒ‹›™][^\W\d_]")


@dataclass(frozen=True)
class Delimited:
    """A table: its file, delimiter, header and rows, each row with its number (spreadsheets count from 1).

    Attributes:
        guessed: A word that shows how the text was decoded; empty where the file says so itself.
    """

    file: Path
    delimiter: str
    header: tuple[str, ...]
    rows: list[tuple[int, list[str]]]
    guessed: str = ""

    def notes(self) -> tuple[str, ...]:
        """Say how the text was decoded where the file does not say so."""
        if not self.guessed:
            return ()
        return (
            f"{self.file.name} is not UTF-8 and was read as Windows-1252, as in {self.guessed!r}; save it as UTF-8 if "
            "that is wrong.",
        )


def decode_table(data: bytes) -> tuple[str, str]:
    """Decode a table's bytes; return the text, and a word that shows it where the encoding was guessed.

    Raises:
        UnicodeError: the encoding is not clear; the text says what to do.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding), ""
    if data[:4].count(0) > 1:
        raise UnicodeError("is UTF-16 without a byte order mark; save it as CSV in UTF-8")
    try:
        return data.decode("utf-8"), ""
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    foreign = [
        word for word in words if _OTHER_LETTERS & set(word) or (len(word) > 1 and not any(map(str.isascii, word)))
    ]
    if not text or foreign or _SYMBOL_IN_WORD.search(text):
        raise UnicodeError("is not UTF-8, and its encoding is not clear; save it as CSV in UTF-8")
    return text, next(iter(words), next(character for character in text if not character.isascii()))


def read_header(text: str, choose: Callable[[list[str]], bool]) -> tuple[str, list[str], int]:
    """Read the header: the delimiter by which it is chosen, else that with the most columns; names; lines it takes."""
    lines = io.StringIO(text, newline="").readlines(1 << 16)[:2]
    first = "".join(lines[:1])
    if match := _SEPARATOR_LINE.fullmatch(first):
        return match["delimiter"], _split("".join(lines[1:2]), match["delimiter"]), 2
    headers = {delimiter: _split(first, delimiter) for delimiter in DELIMITERS}
    delimiter, names = max(headers.items(), key=lambda item: (choose(item[1]), len(item[1])))
    return delimiter, names, 1


def peek_header(file: Path, choose: Callable[[list[str]], bool]) -> list[str]:
    """Read the names in a file's header alone; see `read_header`.

    Raises:
        OSError, UnicodeError, csv.Error: it cannot be read.
    """
    with open_regular(file) as stream:
        data = stream.read(_BEGINNING)
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if encoding is not None:
        return read_header(data.decode(encoding, errors="ignore"), choose)[1]
    # The last character may be cut.
    whole = data[: data.rfind(b"\n") + 1] if len(data) == _BEGINNING else data
    return read_header(decode_table(whole)[0], choose)[1]


def _split(line: str, delimiter: str) -> list[str]:
    return [name.strip() for name in next(csv.reader([line], delimiter=delimiter), [])]


def read_delimited(
    file: Path,
    kind: str,
    choose: Callable[[list[str]], bool],
    check: Callable[[Sequence[str]], None],
    *,
    decode: Callable[[bytes], tuple[str, str]] = decode_table,
) -> Delimited:
    """Read a table of text.

    Args:
        file: The file.
        kind: What it is called in sentences ("manifest", "table").
        choose: Tells whether a header's names are what is looked for, by which the delimiter is found.
        check: Raises where the header's names are not.
        decode: How its bytes become text.

    Raises:
        CorpusError: the file cannot be read as a table, or a row has not as many fields as the header.
    """
    try:
        text, guessed = decode(read_bytes(file, MOST_TEXT))
    except OSError as error:
        raise CorpusError(f"Cannot read the {kind} {str(file)!r} ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"The {kind} {str(file)!r} is not the text that it begins as ({error.reason}); save it as CSV in UTF-8."
        ) from error
    except ValueError as error:
        raise CorpusError(f"The {kind} {str(file)!r} {error}.") from error
    delimiter, header, lines = read_header(text, choose)
    check(header)
    stream = io.StringIO(text, newline="")
    for _ in range(lines):
        stream.readline()
    rows = list(_read_rows(file, kind, csv.reader(stream, delimiter=delimiter, strict=True), len(header), lines))
    return Delimited(file, delimiter, tuple(header), rows, guessed)


def row_error(file: Path, kind: str, row: int, problem: str) -> CorpusError:
    """Return an error on a row."""
    return CorpusError(f"Row {row} of the {kind} {str(file)!r} {problem} (the header is row 1).")


def _read_rows(
    file: Path, kind: str, lines: Iterator[list[str]], width: int, before: int
) -> Iterator[tuple[int, list[str]]]:
    row = before
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        for row, fields in enumerate(lines, start=before + 1):
            if not any(field.strip() for field in fields):
                continue
            if len(fields) == width:
                yield row, fields
            else:
                problem = f"has {len(fields)} fields, but the header has {width}; quote fields that hold the delimiter"
                raise row_error(file, kind, row, problem)
    except csv.Error as error:
        raise row_error(file, kind, row + 1, f"cannot be read as CSV ({error})") from error
    finally:
        csv.field_size_limit(limit)
