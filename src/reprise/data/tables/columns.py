"""Assign the columns of a table: timestamps, series, targets, known and static columns."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reprise.data.tables.arrow import pa, pc
from reprise.data.tables.cells import Cells, read_cells
from reprise.data.tables.dates import date_evidence
from reprise.data.tables.format import TableFormat
from reprise.data.tables.numbers import is_number_like
from reprise.errors import UserError

TIME_NAMES = {"time", "date", "datetime", "timestamp", "when", "year", "month", "day", "ds", "datum", "zeit", "ts", "epoch"}
"""Names that make a column of plain numbers the time column."""


@dataclass(frozen=True)
class Columns:
    """A table and the roles of its columns."""

    cells: Cells
    time: str
    target: list[str]
    series: npt.NDArray[np.int64]
    """int64 [row]: the number of the series of each row, by first appearance."""
    names: list[str]
    """Names of the series. One empty name: there is no id column."""


def read_columns(content: bytes, name: str, settings: TableFormat, notes: list[str]) -> Columns:
    """Return the columns that the settings name; those they leave open are chosen by their content, which is added to the notes.

    Raises:
        UserError: if a column is missing, or none or several columns may hold the timestamps or the targets.

    """
    named = [*settings.time, *settings.target, *settings.known, *settings.static, *([settings.id] if settings.id else [])]
    everything = not settings.time or not settings.target
    cells = read_cells(content, name, named, everything, settings.separator, settings.encoding)
    notes += cells.notes
    others = [column for column in cells.columns if column not in named]
    time = _join(cells, settings.time) if settings.time else _find_time(cells, others, notes)
    targets = list(settings.target) or _find_targets(cells, [column for column in others if column != time], notes)
    series, names = _number_series(cells, settings.id)
    return Columns(cells, time, targets, series, names)


def _join(cells: Cells, columns: tuple[str, ...]) -> str:
    """Return the time column; date and time of day in two columns become one."""
    if len(columns) == 1:
        return columns[0]
    texts = [cells.columns[column].cast(pa.string()) for column in columns]
    joined = " ".join(columns)
    cells.columns[joined] = pc.binary_join_element_wise(*texts, " ")
    return joined


def _find_time(cells: Cells, candidates: list[str], notes: list[str]) -> str:
    evidence = {column: date_evidence(cells.columns[column]) for column in candidates}
    for degree in (2, 1):
        found = [column for column in candidates if evidence[column] == degree]
        if degree == 1 and len(found) > 1:
            found = [column for column in found if column.lower() in TIME_NAMES] or found
        if len(found) > 1:
            raise UserError(f"{cells.name}: {len(found)} columns hold dates: {', '.join(found)}", "set data.time to one of them")
        if found:
            notes.append(f"The time column is {found[0]}.")
            return found[0]
    raise UserError(
        f"{cells.name}: no column holds dates among {', '.join(candidates) or 'none'}",
        "set data.time to the column with the timestamps",
    )


def _find_targets(cells: Cells, candidates: list[str], notes: list[str]) -> list[str]:
    found = [column for column in candidates if is_number_like(cells.columns[column])]
    if not found:
        raise UserError(f"{cells.name}: no column holds numbers", "set data.target to the columns to forecast")
    left_out = [column for column in candidates if column not in found]
    notes.append(f"The target columns are {', '.join(found)}." + (f" Not read: {', '.join(left_out)}." if left_out else ""))
    return found


def _number_series(cells: Cells, column: str | None) -> tuple[npt.NDArray[np.int64], list[str]]:
    if column is None:
        return np.zeros(len(cells), np.int64), [""]
    texts = cells.columns[column].cast(pa.string()).fill_null("")
    empty = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    if empty.any():
        raise cells.error(int(empty.argmax()), column, "names no series", "each row needs the name of its series")
    encoded = pc.dictionary_encode(texts)
    return encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64), encoded.dictionary.to_pylist()
