"""Make series of the rows of a table: complete time steps, numbers without holes, and a mask of what was filled.

Shapes: `T` time steps, `F` time steps after the last target, `C` channels, `K` columns known in advance.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reprise.data import timestamps
from reprise.data.tables.arrow import pa, pc
from reprise.data.tables.checks import (
    Counts,
    Grid,
    Mask,
    Rows,
    Values,
    complete_steps,
    fill,
    in_order,
    to_nearest_step,
    without_duplicates,
)
from reprise.data.tables.columns import Columns
from reprise.data.tables.format import TableFormat
from reprise.data.tables.grid import Rule
from reprise.data.tables.numbers import parse_numbers
from reprise.data.timestamps import Nanoseconds
from reprise.errors import UserError


@dataclass(frozen=True)
class Series:
    """One series of a table."""

    name: str
    """Its id, its column (`columns=series`), or empty."""
    time: Nanoseconds
    """int64 [T], nanoseconds since 1970 (UTC)."""
    wall: Nanoseconds
    """int64 [T], local time of the same instants. Equal to `time` without offset and time zone."""
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    """[T, C]; float64 if float32 would lose differences within a channel of any series."""
    filled: Mask
    """bool [T, C]: cells that were filled. They must not count in metrics."""
    known: Values
    """float64 [T, K]."""
    future_time: Nanoseconds
    """int64 [F]: time steps after the last target for which the file holds known columns."""
    future_wall: Nanoseconds
    """int64 [F]."""
    future_known: Values
    """float64 [F, K]."""
    static: dict[str, float | str]


@dataclass
class SeriesBuilder:
    """Makes series of rows. The first series fixes the rule of time steps that the others must follow."""

    settings: TableFormat
    channels: int
    """Number of target columns, which are the first columns of the rows."""
    counts: Counts
    rule: Rule | None = None
    frequency: timestamps.Frequency | None = None
    reference: str = ""
    """Name of the series that fixed the rule."""

    def build(self, rows: Rows, name: str, static: dict[str, float | str]) -> Series:
        """Return the series of these rows, whose values are float64 for now.

        Raises:
            UserError: naming the first row or cell that the settings do not allow.

        """
        if self.settings.frequency != "auto":
            rows = to_nearest_step(rows, self.settings.frequency, self.counts)
        rows = without_duplicates(in_order(rows, self.settings.order, self.counts), self.settings.duplicates, self.counts)
        rows = self._trim_start(rows)
        grid = self._grid(rows, name)
        length = int(grid.step[self._last_target(rows)]) + 1
        values, filled = self._fill(rows, grid, length)
        first = min(int(np.searchsorted(grid.step, length)), len(grid.step) - 1)
        self.counts.add("Time steps after the last target, with known columns only", len(grid.time) - length, rows.where(first))
        return Series(
            name,
            grid.time[:length],
            grid.wall[:length],
            values[:length, : self.channels],
            filled[:length, : self.channels],
            values[:length, self.channels :],
            grid.time[length:],
            grid.wall[length:],
            values[length:, self.channels :],
            static,
        )

    def _trim_start(self, rows: Rows) -> Rows:
        """Leave out the rows before and, without known columns, after the values of a series that has a column of its own."""
        if self.settings.columns != "series":
            return rows
        present = np.flatnonzero(self._has_target(rows))
        if not len(present):
            raise rows.error(0, "is the first row of a series without any value", f"leave {rows.label} out of data.target")
        end = len(rows.time) if self.settings.known else int(present[-1]) + 1
        outside = int(present[0]) + len(rows.time) - end
        what = "Empty cells before the start or after the end of a series, left out"
        self.counts.add(what, outside, rows.where(0 if present[0] or not outside else end))
        return rows.take(slice(int(present[0]), end))

    def _has_target(self, rows: Rows) -> Mask:
        targets = slice(self.channels)
        return np.asarray((np.isfinite(rows.values[:, targets]) | rows.text[:, targets]).any(axis=1))

    def _last_target(self, rows: Rows) -> int:
        """Return the last row with a target if there are known columns, else the last row."""
        if not self.settings.known:
            return len(rows.time) - 1
        present = np.flatnonzero(self._has_target(rows))
        return int(present[-1]) if len(present) else len(rows.time) - 1

    def _grid(self, rows: Rows, name: str) -> Grid:
        if self.rule is not None and self.rule.steps(rows.time, rows.wall) is None:
            own, _ = complete_steps(rows, None, "interpolate", Counts())  # raises if the series has no frequency of its own
            assert self.frequency is not None
            what = f"begins a series of frequency {own.frequency.alias}, where series {self.reference} has {self.frequency.alias}"
            raise rows.error(0, what, "read series of different time steps from files of their own")
        grid, rule = complete_steps(rows, self.rule, self.settings.gaps, self.counts)
        if self.rule is None:
            self.rule, self.frequency, self.reference = rule, grid.frequency, name
        return grid

    def _fill(self, rows: Rows, grid: Grid, length: int) -> tuple[Values, Mask]:
        """Return values [step, column] and the mask of filled cells. Targets after `length` stay NaN."""
        shape = (len(grid.time), rows.values.shape[1])
        values, text = np.full(shape, np.nan), np.zeros(shape, bool)
        values[grid.step], text[grid.step] = rows.values, rows.text
        filled = np.isnan(values)
        filled[length:, : self.channels] = False
        empty = filled[grid.step] & ~rows.text
        self._account_for_cells(rows, empty, grid.step < length)
        for column in np.flatnonzero(filled.any(axis=0)):
            if filled[:, column].all() or not np.isfinite(values[:length, column]).any():
                where = rows.cells.where(int(rows.position[0]), rows.columns[column])
                series = f" of series {rows.label}" if rows.label else ""
                raise UserError(f"{where}: no cell{series} holds a number", "leave the column or the series out")
            observed = values[:, column].copy()
            for absent, method in (
                (filled[:, column] & ~text[:, column], self.settings.gaps),
                (filled[:, column] & text[:, column], self.settings.text_cells),
            ):
                values[absent, column] = fill(observed, absent, method, grid.time)[absent]
        return values, filled

    def _account_for_cells(self, rows: Rows, empty: Mask, counted: npt.NDArray[np.bool_]) -> None:
        """Count empty cells and cells with text, or refuse the first empty cell."""
        targets = np.arange(empty.shape[1]) < self.channels
        for row, column in np.argwhere(empty)[:1]:
            where = rows.columns[column]
            if self.settings.gaps == "refuse":
                others = int(empty.sum()) - 1
                what = "is no number" + (f" (and {others} more)" if others else "")
                hint = "fill in what is missing, or set data.gaps to forward_fill or interpolate"
                raise rows.cells.error(int(rows.position[row]), where, what, hint)
            self.counts.add("Empty cells, filled", int(empty.sum()), f"{rows.where(int(row))}, column {where}")
        text = rows.text & (counted[:, None] | ~targets)
        for row, column in np.argwhere(text)[:1]:
            self.counts.add("Cells with text, filled", int(text.sum()), f"{rows.where(int(row))}, column {rows.columns[column]}")


def static_values(columns: Columns, column: str, decimal_mark: str, text: bool = False) -> list[float | str]:
    """Return the value of a static column for each series: numbers if all of them are numbers and not `text`, else text.

    Raises:
        UserError: naming the first row whose value differs from the series' first row.

    """
    cells, series = columns.cells, columns.series
    encoded = pc.dictionary_encode(cells.columns[column].cast(pa.string()).fill_null(""))
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    first = np.zeros(len(columns.names), np.int64)
    first[series[::-1]] = np.arange(len(series))[::-1]
    differs = codes != codes[first[series]]
    if differs.any():
        position = int(differs.argmax())
        start = int(first[series[position]])
        what = f"differs from {cells.text(start, column)} in row {cells.row(start)} of the same series"
        hint = "a static column has one value for each series; if it changes, name it in data.known"
        raise cells.error(position, column, what, hint)
    texts = encoded.dictionary.take(pa.array(codes[first]))
    numbers = parse_numbers(texts, decimal_mark)
    return list(texts.to_pylist()) if text or np.isnan(numbers.values).any() else list(numbers.values.tolist())
