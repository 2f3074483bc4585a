"""Read a CSV file with one labelled sequence a row, with or without a header."""

import csv
import io
import re
from collections.abc import Sequence

import numpy as np

from reprise.data.sequence_arrays import MISSING, UNKNOWN, Sequences, Values, pack, parse_values
from reprise.data.tables.text import SEPARATORS, is_blank, read_dialect
from reprise.errors import UserError

Record = tuple[int, list[str]]
"""Row in the file, and cells."""


def read_sequence_csv(
    content: bytes,
    name: str,
    label: str = "first",
    channels: int = 1,
    classes: Sequence[str] | None = None,
    separator: str = "auto",
    decimal: str = "auto",
) -> Sequences:
    """Return the sequences of a CSV file.

    A first row whose cells are mostly text, or number the time steps, is a header. Empty cells at the end of a row are the end of
    its sequence; other empty cells are missing values.

    Args:
        content: the file.
        name: its name in messages.
        label: the column with the class: `first`, `last`, or its name in the header; `none` if there is none, as for prediction.
        channels: number of channels. A row has all values of the first channel, then all of the second, ….
        classes: names of the classes in their order. None: those of the file, sorted as numbers if they are numbers.
        separator: one character, or auto.
        decimal: decimal mark, or auto.

    Raises:
        UserError: naming row and column of the first cell that is no number or no class.

    """
    text = read_dialect(content, name, [], separator)
    rows = _records(content.decode(text.encoding).removeprefix("\ufeff"), text.separator, name)
    column, rows = _label_column(rows, label, name)
    numbers = [cell for _, cells in rows for number, cell in enumerate(cells) if number != _position(column, cells)]
    comma = _has_decimal_comma(numbers, text.separator, decimal, name)
    samples, labels = [], []
    for row, cells in rows:
        where = f"{name}, row {row}"
        position = _position(column, cells)
        labels.append(UNKNOWN if position is None else _class(cells[position], classes, f"{where}, column {position + 1}"))
        samples.append(_sample(cells, position, channels, where, comma))
    found = list(classes) if classes is not None and column is not None else _sorted(set(labels))
    if len(found) < 2 and column is not None:
        raise UserError(f"{name}, row {rows[0][0]}: {len(found)} class in the whole file", "a classification has at least two")
    notes = [f"Columns are separated by {SEPARATORS.get(text.separator, repr(text.separator))}; the encoding is {text.encoding}."]
    return pack(samples, labels, found, notes + (["Numbers have a decimal comma."] if comma else []))


def _class(cell: str, classes: Sequence[str] | None, where: str) -> str:
    chosen = cell.strip()
    if not chosen or (classes is not None and chosen not in classes):
        hint = f"the classes are {', '.join(list(classes)[:12])}" if classes else "each row needs its class"
        raise UserError(f"{where}: {chosen!r} is no class", hint)
    return chosen


def _records(text: str, separator: str, name: str) -> list[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    records, start = [], 1
    try:
        for cells in reader:
            if not is_blank(cells):
                records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{name}, row {start}: {error}", "correct the quotation marks of this row") from None
    return records


def _position(column: int | None, cells: Sequence[str]) -> int | None:
    """Return the position of the label among the cells of a row."""
    return None if column is None else column % max(len(cells), 1)


def _label_column(rows: list[Record], label: str, name: str) -> tuple[int | None, list[Record]]:
    """Return the position of the label (negative: from the end; None: there is none) and the rows without the header."""
    row, header = rows[0]
    names = [cell.strip() for cell in header]
    if label == "none":
        return None, _below(rows, _is_header(names, ""), name)
    position = {"first": 0, "last": -1}.get(label)
    skipped = 0 if position is None else position % len(names)
    has_header = label in names or _is_header([cell for number, cell in enumerate(names) if number != skipped], names[skipped])
    if position is None:
        if label not in names:
            shown = ", ".join(names[:6]) + (", …" if len(names) > 6 else "")
            raise UserError(f"{name}, row {row}: no column {label!r}", f"use first or last, or a name of the first row: {shown}")
        position = names.index(label)
    return position, _below(rows, has_header, name)


def _below(rows: list[Record], has_header: bool, name: str) -> list[Record]:
    body = rows[1:] if has_header else rows
    if not body:
        raise UserError(f"{name}, row {rows[0][0]}: no sequence below the header", "write one sequence a row")
    return body


def _is_header(cells: list[str], label: str) -> bool:
    text = [cell for cell in cells if cell and cell.lower() not in MISSING and not _is_number(cell)]
    if 2 * len(text) > len(cells):
        return True
    steps = {",".join(map(str, range(first, first + len(cells)))) for first in (0, 1)}
    return not _is_number(label) and ",".join(cells) in steps


def _is_number(text: str) -> bool:
    try:
        float(text.replace(",", "."))
    except ValueError:
        return False
    return True


def _has_decimal_comma(cells: Sequence[str], separator: str, decimal: str, name: str) -> bool:
    if decimal != "auto" or separator == ",":
        return decimal == ","
    marked = [cell for cell in cells if "," in cell]
    if marked and all(re.fullmatch(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*", cell) for cell in marked):
        raise UserError(f"{name}: {marked[0]!r} may be a thousand or a decimal fraction", "set data.decimal to . or ,")
    return bool(marked)


def _sample(cells: list[str], label: int | None, channels: int, where: str, comma: bool) -> Values:
    """Return the values of a row, float32 [step, C]."""
    chosen = [(number, cell.strip()) for number, cell in enumerate(cells) if number != label]
    if len(chosen) % channels:
        what = f"{len(chosen)} values are no multiple of {channels} channels"
        raise UserError(f"{where}, column {len(cells)}: {what}", "a row has all values of the first channel, then of the second")
    numbers = [number + 1 for number, _ in chosen]
    texts = [(cell.replace(",", ".") if comma else cell) or "?" for _, cell in chosen]
    sample = parse_values(texts, where, numbers).reshape(channels, -1).T
    present = np.flatnonzero(np.isfinite(sample).any(axis=1))
    if not len(present):
        raise UserError(f"{where}, column {numbers[0] if numbers else 1}: no values", "remove the row, or write its values")
    return sample[: present[-1] + 1]


def _sorted(labels: set[str]) -> list[str]:
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)
