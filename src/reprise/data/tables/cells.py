"""Read the cells of a CSV or Parquet file as columns, and name any of them in a message.

Columns are Arrow arrays: those of a CSV file hold text, those of a Parquet file the types of the file.
"""

import difflib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.tables.arrow import arrow_csv, arrow_parquet, pa, pc
from reprise.data.tables.text import SEPARATORS, CsvText, is_blank, read_dialect
from reprise.errors import UserError

PARQUET = b"PAR1"
BLOCK = 1 << 24
"""Bytes parsed at once. A single row must fit."""


@dataclass
class Cells:
    """The columns of a table, without rows that are empty."""

    name: str
    """Name of the file, for messages."""
    columns: dict[str, Any]
    """Arrow arrays by column name, in the order of the file."""
    record: npt.NDArray[np.int64]
    """Position of each row among the records of the file."""
    separator: str | None
    """None for Parquet."""
    find_rows: Callable[[], npt.NDArray[np.int64]]
    """Returns the row in the file of each record. Slow, so called only for messages."""
    notes: list[str]
    _rows: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.record)

    def row(self, position: int) -> int:
        """Return the row in the file: as an editor counts lines in a CSV file, and from 1 in a Parquet file."""
        if self._rows is None:
            self._rows = self.find_rows()
        return int(self._rows[self.record[position]])

    def where(self, position: int, column: str) -> str:
        """Return file, row and column of a cell as text."""
        return f"{self.name}, row {self.row(position)}, column {column}"

    def text(self, position: int, column: str) -> str:
        """Return the quoted content of a cell, shortened."""
        scalar = self.columns[column][position]
        try:
            content = str(scalar.as_py()) if scalar.is_valid else ""
        except (OverflowError, ValueError):  # a date beyond the range of Python's
            content = str(scalar.value)
        return repr(content if len(content) <= 40 else content[:39] + "…")

    def error(self, position: int, column: str, what: str, hint: str) -> UserError:
        """Return the error that names a cell and quotes its content."""
        return UserError(f"{self.where(position, column)}: {self.text(position, column)} {what}", hint)

    def first_error(self, column: str, wrong: npt.NDArray[np.bool_], what: str, hint: str) -> UserError:
        """Return the error that names the first of the wrong cells, bool [row], and says how many more there are."""
        others = int(np.count_nonzero(wrong)) - 1
        return self.error(int(wrong.argmax()), column, what + (f" (and {others:,} more)" if others else ""), hint)


def read_cells(
    content: bytes, name: str, columns: Sequence[str], everything: bool, separator: str = "auto", encoding: str = "auto"
) -> Cells:
    """Return the named columns of a CSV or Parquet file, or all columns if `everything`.

    Raises:
        UserError: if the file is neither, a column is missing or ambiguous, or a row has too many or too few cells.

    """
    if content[:4] == PARQUET:
        cells = _read_parquet(content, name, columns, everything)
    else:
        cells = _read_csv(read_dialect(content, name, columns, separator, encoding), columns, everything)
    if not len(cells):
        raise UserError(f"{name} has no row below its header", "a table has at least two rows")
    return cells


def demand_columns(wanted: Iterable[str], present: Sequence[str], name: str) -> None:
    """Raise UserError, with the most likely reason, unless each wanted column is there exactly once."""
    for column in wanted:
        count = sum(one == column for one in present)
        if count > 1:
            raise UserError(f"{name}: {count} columns are called {column!r}", "rename all but one")
        if not count:
            alike = [one for one in present if one.lower() == column.lower()]
            alike = alike or difflib.get_close_matches(column, present, n=1)
            shown = ", ".join(present[:12]) + (", …" if len(present) > 12 else "")
            hint = f"it has {alike[0]!r}: use the same name in both" if alike else f"its columns are {shown or 'none'}"
            raise UserError(f"{name} has no column {column!r}", hint)


def _read_csv(text: CsvText, columns: Sequence[str], everything: bool) -> Cells:
    _demand_header(text, columns)
    demand_columns(columns, text.names, text.name)
    used = [name for name in dict.fromkeys(text.names) if everything or name in columns]
    if everything:
        demand_columns(used, text.names, text.name)
    _demand_closed_quotes(text)
    keys = [f"f{position}" for position in range(len(text.names))]
    chosen = [keys[text.names.index(name)] for name in used]
    ragged: list[Any] = []

    def note_ragged(row: Any) -> str:
        if row.text.strip():
            ragged.append(row)
        return "skip"

    quoted = text.quote.encode() in text.body
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text.body),
            read_options=arrow_csv.ReadOptions(column_names=keys, block_size=BLOCK, use_threads=False),
            parse_options=arrow_csv.ParseOptions(
                delimiter=text.separator,
                quote_char=text.quote,
                newlines_in_values=quoted,
                invalid_row_handler=note_ragged,
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), include_columns=chosen, strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise UserError(f"{text.name} is no CSV table: {error}", "export it again") from None
        table = pa.table({key: pa.array([], pa.string()) for key in chosen})
    if ragged:
        raise _ragged(text, ragged[0])
    arrays = [_trimmed(table.column(key).combine_chunks()) for key in chosen]
    kept, records = _rows_with_content(arrays, table.num_rows), table.num_rows
    if len(kept) < records:
        arrays = [array.take(pa.array(kept)) for array in arrays]
    named = dict(zip(used, arrays, strict=True))
    return Cells(text.name, named, kept, text.separator, lambda: _csv_rows(text, records), _describe(text))


def _demand_header(text: CsvText, columns: Sequence[str]) -> None:
    """Raise UserError if the header holds numbers instead of names."""
    if not set(columns) <= set(text.names) or not columns:
        numbers = [name for name in text.names if name.replace(",", ".").lstrip("+-").replace(".", "", 1).isdigit()]
        if numbers and len(numbers) * 2 >= len(text.names):
            raise UserError(
                f"{text.name}, row {text.header_row}, column {text.names.index(numbers[0]) + 1}: {numbers[0]!r} is no name",
                "add a first row with the names of the columns",
            )


def _demand_closed_quotes(text: CsvText) -> None:
    if text.body.count(text.quote.encode()) % 2:
        for _ in text.records(strict=True):
            pass


def _ragged(text: CsvText, row: Any) -> UserError:
    width = len(text.names)
    number, found = text.header_row + int(row.number or 0), int(row.actual_columns)
    for line, cells in text.records():
        if len(cells) != width:
            number, found = line, len(cells)
            break
    column = min(found, width) + 1
    hint = "add the missing cells, or remove the row"
    if found > width:
        hint = "quote cells that hold the separator, or remove the cells that are too many"
        if text.separator == ",":
            hint += "; if these are decimal commas, separate columns by semicolons"
    return UserError(f"{text.name}, row {number}, column {column}: {found} cells, where the header has {width} columns", hint)


def _trimmed(array: Any) -> Any:
    return pc.utf8_trim_whitespace(array) if pc.any(pc.match_substring_regex(array, r"^\s|\s$")).as_py() else array


def _rows_with_content(arrays: Sequence[Any], rows: int) -> npt.NDArray[np.int64]:
    content = np.zeros(rows, bool)
    for array in arrays:
        content |= pc.greater(pc.binary_length(array), 0).to_numpy(zero_copy_only=False)
    return np.flatnonzero(content)


def _csv_rows(text: CsvText, records: int) -> npt.NDArray[np.int64]:
    if text.body.count(b"\n") + (not text.body.endswith(b"\n")) == records and text.quote.encode() not in text.body:
        return np.arange(records) + text.first_row
    return np.fromiter((row for row, cells in text.records() if not is_blank(cells)), np.int64)


def _describe(text: CsvText) -> list[str]:
    notes = [f"Columns are separated by {SEPARATORS.get(text.separator, repr(text.separator))}; the encoding is {text.encoding}."]
    if text.quote != '"':
        notes.append(f"Cells are quoted by {text.quote}.")
    if text.header_row > 1:
        notes.append(f"The header is row {text.header_row}; the rows before it are not read.")
    return notes


def _read_parquet(content: bytes, name: str, columns: Sequence[str], everything: bool) -> Cells:
    try:
        file = arrow_parquet.ParquetFile(io.BytesIO(content))
        present = file.schema_arrow.names
        demand_columns(columns, present, name)
        used = [one for one in present if everything or one in columns]
        table = file.read(used)
        arrays = {one: _plain(table.column(one)) for one in used}
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{name} is no readable Parquet file: {error}", "write or download it again") from None
    rows = np.arange(table.num_rows)
    return Cells(name, arrays, rows, None, lambda: rows + 1, [])


def _plain(column: Any) -> Any:
    """Return a column as one array, text as trimmed strings without dictionary encoding."""
    array = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.string())
    return _trimmed(array).fill_null("") if pa.types.is_string(array.type) else array
