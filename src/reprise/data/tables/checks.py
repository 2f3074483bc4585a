"""Check the rows of one series: their order, duplicates and gaps. Refuse them, or repair and count them as configured."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import timestamps
from reprise.data.tables.cells import Cells
from reprise.data.tables.grid import Rule, find_rule
from reprise.data.tables.zones import clock_change
from reprise.data.timestamps import Nanoseconds
from reprise.errors import UserError

Values = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass
class Counts:
    """How much of a table was repaired, with the first row of each kind."""

    counts: dict[str, int] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, what: str, number: int, where: str) -> None:
        """Count so many of a kind, of which the first is at `where`."""
        if number:
            self.counts[what] = self.counts.get(what, 0) + number
            self.first.setdefault(what, where)

    def notes(self) -> list[str]:
        """Return one sentence for each kind."""
        return [f"{what}: {number} (first: {self.first[what]})." for what, number in self.counts.items()]


@dataclass
class Rows:
    """Rows of one series in the order of time. `position` int64 [row] is their position in the table."""

    cells: Cells
    time_column: str
    label: str
    """Name of the series in messages; empty if the file has one series."""
    columns: list[str]
    """Names of the columns of `values`: targets, then known columns."""
    position: npt.NDArray[np.int64]
    time: Nanoseconds
    wall: Nanoseconds
    values: Values
    """float64 [row, column], NaN where a cell has no number."""
    text: Mask
    """bool [row, column]: cells with text."""

    def take(self, chosen: npt.NDArray[np.int64] | slice) -> "Rows":
        """Return some of the rows."""
        return replace(
            self,
            position=self.position[chosen],
            time=self.time[chosen],
            wall=self.wall[chosen],
            values=self.values[chosen],
            text=self.text[chosen],
        )

    def error(self, row: int, what: str, hint: str) -> UserError:
        """Return the error that names a row of the series by its timestamp."""
        if row and (clock_change(int(self.wall[row])) or clock_change(int(self.wall[row - 1]))):
            hint += "; if clocks were changed in that night, set data.timezone, such as Europe/Berlin"
        return self.cells.error(int(self.position[row]), self.time_column, self._of_series(what), hint)

    def _of_series(self, what: str) -> str:
        return f"{what} (series {self.label})" if self.label else what

    def where(self, row: int) -> str:
        """Return row of the file and series as text."""
        return f"row {self.cells.row(int(self.position[row]))}" + (f", series {self.label}" if self.label else "")


def to_nearest_step(rows: Rows, frequency: str, counts: Counts) -> Rows:
    """Return rows with their timestamps moved to the nearest step of an even grid, by at most half a step.

    The grid is placed where the median of the rows does not move.
    """
    step = _fixed_step(frequency)
    since = rows.time - rows.time[0]
    phase = int(np.median(since - _nearest(since, step)))
    move = _nearest(since - phase, step) + phase - since
    if (moved := move != 0).any():
        what = f"Timestamps moved to the nearest step of {frequency}"
        counts.add(what, int(np.count_nonzero(moved)), rows.where(int(moved.argmax())))
    return replace(rows, time=rows.time + move, wall=rows.wall + move)


def _nearest(since: Nanoseconds, step: int) -> Nanoseconds:
    return (since + step // 2) // step * step


def _fixed_step(frequency: str) -> int:
    """Return the length of a frequency in nanoseconds."""
    import pandas as pd

    try:
        offset: Any = pd.tseries.frequencies.to_offset(frequency)
        step = int(pd.Timedelta(offset).as_unit("ns").value)
    except ValueError:
        step = 0
    if step <= 0:
        hint = "use auto, which also finds days, months and working days, or a fixed step such as 200ms, 15min or h"
        raise UserError(f"data.frequency={frequency}: no fixed step", hint)
    return step


def _several(rows: Rows) -> str:
    return "" if rows.label else "if the file holds several series, set data.id to the column with their names; else "


def in_order(rows: Rows, policy: str, counts: Counts) -> Rows:
    """Return rows sorted by time.

    Raises:
        UserError: naming the first row that is earlier than the row before, if the policy is `refuse`.

    """
    steps = np.diff(rows.time)
    if not (steps < 0).any():
        return rows
    first = int((steps < 0).argmax()) + 1
    if policy == "refuse":
        hint = "sort the rows by time, oldest first, or set data.order=sort"
        if (steps <= 0).all():
            raise rows.error(1, "is earlier than the row before: the newest row comes first", hint)
        hint = f"{_several(rows)}{hint}"
        raise rows.error(first, f"is earlier than row {rows.cells.row(int(rows.position[first - 1]))} before it", hint)
    counts.add("Rows not in the order of time, sorted", int(np.count_nonzero(steps < 0)), rows.where(first))
    return rows.take(np.argsort(rows.time, kind="stable"))


def without_duplicates(rows: Rows, policy: str, counts: Counts) -> Rows:
    """Return one row for each timestamp: the first, the last or the mean of the rows that share it.

    Raises:
        UserError: naming the first row with the timestamp of another, if the policy is `refuse`.

    """
    repeated = np.diff(rows.time) == 0
    if not repeated.any():
        return rows
    first = int(repeated.argmax()) + 1
    if policy == "refuse":
        what = f"is the same time as row {rows.cells.row(int(rows.position[first - 1]))}"
        hint = "keep one row for each time, or set data.duplicates to first, last or mean"
        raise rows.error(first, what, f"{_several(rows)}{hint}")
    counts.add(f"Rows with the time of another row ({policy} of each kept)", int(np.count_nonzero(repeated)), rows.where(first))
    starts = np.flatnonzero(np.concatenate([[True], ~repeated]))
    ends = np.append(starts[1:], len(rows.time)) - 1
    if policy == "last":
        return rows.take(ends)
    kept = rows.take(starts)
    if policy == "mean":
        present = np.isfinite(rows.values)
        total = np.add.reduceat(np.where(present, rows.values, 0.0), starts, axis=0)
        number = np.add.reduceat(present.astype(np.int64), starts, axis=0)
        kept.values = np.where(number > 0, total / np.maximum(number, 1), np.nan)
        kept.text = np.logical_or.reduceat(rows.text, starts, axis=0) & (number == 0)
    return kept


@dataclass(frozen=True)
class Grid:
    """All time steps of a series: `time` and `wall` int64 [step], and `step` int64 [row], the step of each row."""

    time: Nanoseconds
    wall: Nanoseconds
    step: npt.NDArray[np.int64]
    frequency: timestamps.Frequency


def complete_steps(rows: Rows, rule: Rule | None, policy: str, counts: Counts) -> tuple[Grid, Rule]:
    """Return all time steps of a series, and the rule they follow. Without a rule, it is inferred.

    Raises:
        UserError: naming the first row off the rule, the first row after a gap if the policy is `refuse`, or the widest gap if
            more steps are missing than there are rows.

    """
    if len(rows.time) < 2:
        raise rows.error(0, "is the only row of its series", "a series is at least two time steps")
    found = rule or find_rule(rows.time, rows.wall)
    steps = found.steps(rows.time, rows.wall) if found else None
    if found is None or steps is None:
        raise _uneven(rows)
    missing = np.diff(steps) - 1
    if missing.sum() > len(steps):
        widest = int(missing.argmax())
        what = f"comes after {missing[widest]:,} missing time steps: in all, more are missing than there are rows"
        raise rows.error(widest + 1, what, "split the file there, correct the timestamps, or resample the series")
    time, wall = found.complete(rows.time, rows.wall, steps)
    frequency = timestamps.frequency(time, wall)
    if frequency is None:
        raise _uneven(rows)
    if missing.any():
        _account_for_gaps(rows, wall, steps, policy, counts)
    return Grid(time, wall, steps, frequency), found


def _account_for_gaps(rows: Rows, wall: Nanoseconds, steps: Nanoseconds, policy: str, counts: Counts) -> None:
    missing = np.diff(steps) - 1
    row = int((missing > 0).argmax()) + 1
    if policy != "refuse":
        counts.add("Missing time steps, filled", int(missing.sum()), f"before {rows.where(row)}")
        return
    number, first = int(missing[row - 1]), written(int(wall[steps[row - 1] + 1]))
    what = (
        f"comes after a gap of {number:,} time steps from {first}" if number > 1 else f"comes after the missing time step {first}"
    )
    others = int(missing.sum()) - number
    what += f" (and {others:,} more later)" if others else ""
    raise rows.error(row, what, "add the missing rows, or set data.gaps to forward_fill or interpolate")


def written(wall: int) -> str:
    """Return a timestamp as text, without a time of day at midnight."""
    text = str(np.int64(wall).view("datetime64[ns]")).replace("T", " ").rstrip("0").removesuffix(".")
    text = text if len(text) > 19 else str(np.int64(wall).view("datetime64[ns]"))[:19].replace("T", " ")
    return text.removesuffix(" 00:00:00")


def _uneven(rows: Rows) -> UserError:
    """Return the error that names the first row that breaks the rule of most rows."""
    import pandas as pd

    texts = [str(rows.cells.columns[rows.time_column][int(position)].as_py()) for position in rows.position]
    column = rows.time_column + (f" (series {rows.label})" if rows.label else "")
    numbers = [rows.cells.row(int(position)) for position in rows.position]
    error = timestamps.explain(rows.time, rows.wall, pd.Series(texts, index=numbers, name=column, dtype=str), rows.cells.name)
    return UserError(str(error), "if the clock has jitter, set data.frequency to the step, such as 200ms")


def fill(values: Values, absent: Mask, method: str, time: Nanoseconds) -> Values:
    """Return one column without NaN: cells of `absent` are filled from cells that hold a number.

    Args:
        values: float64 [step].
        absent: bool [step], cells to fill.
        method: forward_fill takes the last number before a cell, interpolate the straight line in time between the numbers around
            it. Cells before the first number take that number, cells after the last number the last.
        time: int64 [step], nanoseconds.

    """
    known = np.flatnonzero(np.isfinite(values))
    result = values.copy()
    if method == "interpolate":
        seconds = (time - time[0]) / 1e9
        result[absent] = np.interp(seconds[absent], seconds[known], values[known])
        return result
    before = np.searchsorted(known, np.flatnonzero(absent), side="right") - 1
    result[absent] = values[known[np.maximum(before, 0)]]
    return result
