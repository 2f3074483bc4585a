"""Detect encoding, separator, quoting and header of a CSV file.

Rows are counted as an editor counts lines: the first line of the file is row 1.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from reprise.errors import UserError

SEPARATORS = {"\t": "tabs", ";": "semicolons", "|": "vertical bars", ",": "commas"}
"""Candidates and their names. Of two that fit equally well, the first is taken: a comma also occurs inside numbers."""
SAMPLE = 1 << 18
"""Characters from which separator, quoting and header are detected."""
HEADER_WITHIN = 50
"""Rows within which the header must be."""
_STATED = re.compile(r"sep=(.)[ \t]*\r?\n", re.IGNORECASE)
"""A first line by which Excel states the separator."""
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_NO_TABLE = {
    b"\x1f\x8b": ("a gzip file", "decompress it"),
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or export the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "export the sheet as CSV"),
    b"%PDF": ("a PDF document", "export the table as CSV"),
    b"<!doctype": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
}


@dataclass(frozen=True)
class CsvText:
    """A CSV file with its dialect. `body` is UTF-8 and starts after the header."""

    name: str
    """Name of the file, for messages."""
    body: bytes
    encoding: str
    separator: str
    quote: str
    names: tuple[str, ...]
    """Column names, without spaces around them. A column without a name is called by its position: column 1."""
    header_row: int
    first_row: int
    """Row of the first line after the header."""

    def records(self, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
        """Yield row and cells of each record below the header, without blank lines. Slow: for messages only.

        Raises:
            UserError: naming the row of a wrong quotation mark (if strict), or of a cell that is too long.

        """
        reader = csv.reader(_lines(self.body.decode()), delimiter=self.separator, quotechar=self.quote, strict=strict)
        row = self.first_row
        try:
            for cells in reader:
                if not is_blank(cells):
                    yield row, cells
                row = self.first_row + reader.line_num
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UserError(f"{self.name}, row {row}: a quotation mark is never closed", "close it, or remove it") from None
            raise UserError(f"{self.name}, row {row}: {error}", "correct the quotation marks of this row") from None


def is_blank(cells: Sequence[str]) -> bool:
    """Return whether a record is a line without any content."""
    return not cells or (len(cells) == 1 and not cells[0].strip())


def decode(content: bytes, name: str, encoding: str = "auto") -> tuple[bytes, str]:
    """Return the text as UTF-8 without a byte order mark, and the encoding of `content`.

    Without a byte order mark, text that is not UTF-8 is read as Windows-1252 (a superset of the printable part of Latin-1).

    Raises:
        UserError: if the content is empty or no text, or naming the row that the given encoding cannot decode.

    """
    for start, (what, hint) in _NO_TABLE.items():
        if content[:16].lower().startswith(start.lower()):
            raise UserError(f"{name} is {what}, not a CSV table", hint)
    checked = encoding == "auto"
    if checked:
        encoding = _detect_encoding(content)
    try:
        text = content if checked and encoding == "utf-8" else content.decode(encoding).removeprefix("\ufeff").encode()
    except LookupError:
        raise UserError(
            f"data.encoding={encoding}: no such encoding", "use utf-8, utf-16, cp1252 or another name of Python's"
        ) from None
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{name}, row {row}: not {encoding} text", "set data.encoding=auto, or to the file's encoding") from None
    if (null := text.find(b"\0")) >= 0:
        row = text.count(b"\n", 0, null) + 1
        raise UserError(f"{name}, row {row}: a NUL character: this is no text file", "export the table as CSV or Parquet")
    if not text.strip():
        raise UserError(f"{name} is empty", "a table has a header and at least two rows")
    return text, encoding


def _detect_encoding(content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS.items():
        if content.startswith(mark):
            return encoding
    even, odd = content[:SAMPLE:2].count(0), content[1:SAMPLE:2].count(0)
    if max(even, odd) > len(content[:SAMPLE]) / 5 and min(even, odd) * 10 < max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    for encoding in ("utf-8", "cp1252"):
        try:
            content.decode(encoding)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def read_dialect(content: bytes, name: str, wanted: Sequence[str], separator: str = "auto", encoding: str = "auto") -> CsvText:
    """Return the file with the separator, quoting and header that fit best. A first line `sep=;` states the separator.

    The header is the first row that holds all names of `wanted`. If none are wanted, it is the first row with two columns.

    Raises:
        UserError: if the content is no text, or has no row with two columns.

    """
    text, encoding = decode(content, name, encoding)
    sample = text[:SAMPLE].decode(errors="ignore")
    if len(text) > SAMPLE and "\n" in sample:
        sample = sample[: sample.rindex("\n") + 1]
    stated = _STATED.match(sample)
    candidates = [separator] if separator != "auto" else [stated[1]] if stated else list(SEPARATORS)
    if any(len(one) != 1 for one in candidates):
        raise UserError(f"data.separator={separator}: not one character", "use auto or a single character")
    best = max((_try_separator(sample, candidate, wanted) for candidate in candidates), key=lambda one: one.score)
    if len(best.names) < 2:
        raise UserError(
            f"{name}, row {best.row}: one column, {_short(best.names[0])}, where a table has at least two",
            "separate columns by commas, semicolons, tabs or vertical bars, or set data.separator",
        )
    offset = _end_of_line(text, best.last_row)
    return CsvText(
        name,
        text[offset:],
        encoding,
        best.separator,
        best.quote,
        tuple(column.strip() or f"column {number}" for number, column in enumerate(best.names, start=1)),
        best.row,
        best.last_row + 1,
    )


@dataclass(frozen=True)
class _Header:
    score: tuple[Any, ...]
    separator: str
    quote: str
    names: list[str]
    row: int
    last_row: int


def _try_separator(sample: str, separator: str, wanted: Sequence[str]) -> _Header:
    """Return the header under this separator. The score rates it, with the most important criterion first."""
    quote = "'" if re.match(r"\s*'[^'\n]*'\s*" + re.escape(separator), sample) else '"'
    reader = csv.reader(_lines(sample), delimiter=separator, quotechar=quote)
    records: list[tuple[int, int, list[str]]] = []
    start = 1
    if _STATED.match(sample):
        next(reader)
        start = 2
    try:
        for cells in reader:
            if not is_blank(cells):
                records.append((start, reader.line_num, cells))
            start = reader.line_num + 1
    except csv.Error:  # a cell beyond the limit of csv: the rows before decide
        pass
    position, holds_all = _find_header(records, wanted)
    row, last_row, names = records[position] if records else (1, 1, [sample])
    widths = [len(cells) for _, _, cells in records[position + 1 :]]
    fitting = sum(width == len(names) for width in widths) / max(len(widths), 1)
    score = (holds_all, len(names) > 1, fitting, -list(SEPARATORS).index(separator) if separator in SEPARATORS else 0)
    return _Header(score, separator, quote, names, row, last_row)


def _find_header(records: Sequence[tuple[int, int, list[str]]], wanted: Sequence[str]) -> tuple[int, bool]:
    if wanted:
        for position, (_, _, cells) in enumerate(records[:HEADER_WITHIN]):
            if set(wanted) <= {cell.strip() for cell in cells}:
                return position, True
        return 0, False
    titles = 0
    while titles < min(len(records) - 1, HEADER_WITHIN) and len(records[titles][2]) == 1 < len(records[-1][2]):
        titles += 1
    return titles, False


def _lines(text: str) -> io.StringIO:
    return io.StringIO(text, newline="")


def _end_of_line(text: bytes, row: int) -> int:
    """Return the offset of the byte after so many lines."""
    end = 0
    for count, match in enumerate(re.finditer(rb"\r\n|\r|\n", text), start=1):
        end = match.end()
        if count == row:
            return end
    return len(text)


def _short(text: str, length: int = 40) -> str:
    return repr(text if len(text) <= length else text[: length - 1] + "…")
