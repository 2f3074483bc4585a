"""Read the series of a CSV or Parquet table: one series or many, with gaps, duplicates and text cells refused or filled.

What is detected, assumed or repaired is reported as notes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from reprise.data import rounding
from reprise.data.tables.cells import Cells
from reprise.data.tables.checks import Counts, Mask, Rows, Values, written
from reprise.data.tables.columns import Columns, read_columns
from reprise.data.tables.dates import parse_dates
from reprise.data.tables.format import TableFormat
from reprise.data.tables.numbers import Numbers, demand_precision, detect_decimal, parse_numbers
from reprise.data.tables.series import Series, SeriesBuilder, static_values
from reprise.data.tables.zones import localise
from reprise.data.timestamps import Frequency, Nanoseconds
from reprise.errors import UserError


@dataclass(frozen=True)
class Table:
    """All series of a table. They have the same channels and frequency."""

    series: list[Series]
    channels: list[str]
    known: list[str]
    frequency: Frequency
    float64_channels: list[str]
    """Channels that float32 cannot represent. If there is one, all channels are float64."""
    notes: list[str]
    """What was detected, assumed and repaired, one sentence each."""

    def filled_cells(self) -> dict[str, int]:
        """Return how many cells of each channel were filled."""
        totals = np.sum([series.filled.sum(axis=0) for series in self.series], axis=0)
        return dict(zip(self.channels, (int(total) for total in totals), strict=True))


def read_table(source: bytes | Path, name: str, settings: TableFormat) -> Table:
    """Read all series of a CSV or Parquet file.

    Args:
        source: the content of the file, or its path.
        name: name of the file in messages.
        settings: columns and policies.

    Raises:
        UserError: naming file, row and column of the first problem that the settings do not allow. Rows count as an editor counts
            lines; those of Parquet files count from 1.

    """
    try:
        content = source if isinstance(source, bytes) else source.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {name}: {error.strerror or error}", "check data.path") from None
    notes: list[str] = []
    columns = read_columns(content, name, settings, notes)
    del content
    time, wall = _timestamps(columns, settings, notes)
    mark = _decimal_mark(columns, settings, notes)
    values, text = _numbers(columns, settings, mark)
    if settings.constant == "refuse":
        _demand_change(columns, values)
    names = [*columns.target, *settings.known]
    parts = _split(
        columns, settings, Rows(columns.cells, columns.time, "", names, np.arange(len(time)), time, wall, values, text)
    )
    channels = ["value"] if settings.columns == "series" else columns.target
    builder = SeriesBuilder(settings, len(channels), Counts())
    longest = max(parts, key=lambda key: len(parts[key].time))
    static = _static(columns, settings, mark)
    built = {
        key: builder.build(parts[key], key, static.get(key, {})) for key in (longest, *(key for key in parts if key != longest))
    }
    return _finish([built[key] for key in parts], channels, builder, notes)


def _timestamps(columns: Columns, settings: TableFormat, notes: list[str]) -> tuple[Nanoseconds, Nanoseconds]:
    """Return UTC and local time of all rows."""
    stamps = parse_dates(columns.cells, columns.time, settings.date_format)
    notes += stamps.notes
    if settings.timezone is not None:
        time, wall, words = localise(columns.cells, columns.time, stamps, settings.timezone, columns.series)
        notes += words
        return time, wall
    if stamps.offset is None:
        notes.append("Timestamps have no time zone and are read as UTC.")
    return stamps.time, stamps.wall


def _decimal_mark(columns: Columns, settings: TableFormat, notes: list[str]) -> str:
    if settings.decimal != "auto":
        return settings.decimal
    mark, words = detect_decimal(columns.cells, [*columns.target, *settings.known])
    notes += words
    return mark


def _numbers(columns: Columns, settings: TableFormat, mark: str) -> tuple[Values, Mask]:
    """Return the numbers of targets and known columns, float64 [row, column], and the mask of cells with text.

    Raises:
        UserError: naming the first cell with text or infinity if the settings refuse them.

    """
    cells, names = columns.cells, [*columns.target, *settings.known]
    values, text = np.empty((len(cells), len(names))), np.zeros((len(cells), len(names)), bool)
    for position, name in enumerate(names):
        numbers = parse_numbers(cells.columns[name], mark, flags=name in settings.known)
        _demand_numbers(cells, name, numbers, mark, settings)
        values[:, position], text[:, position] = numbers.values, numbers.text
    return values, text


def _demand_numbers(cells: Cells, name: str, numbers: Numbers, mark: str, settings: TableFormat) -> None:
    if settings.text_cells == "refuse" and numbers.text.any():
        marks = "a decimal comma" if mark == "," else "a decimal point"
        hint = f"write numbers with {marks}, or set data.text_cells to forward_fill or interpolate"
        raise cells.first_error(name, numbers.text, "is no number", hint)
    demand_precision(cells, name, numbers, mark)


def _demand_change(columns: Columns, values: Values) -> None:
    for position, name in enumerate(columns.target):
        present = np.flatnonzero(np.isfinite(values[:, position]))
        if len(present) > 1 and (values[present, position] == values[present[0], position]).all():
            what = f"is the only value of the column, down to row {columns.cells.row(int(present[-1]))}"
            hint = f"leave {name} out of data.target, or set data.constant=keep"
            raise columns.cells.error(int(present[0]), name, what, hint)


def _split(columns: Columns, settings: TableFormat, rows: Rows) -> dict[str, Rows]:
    """Return the rows of each series by its name, in the order of the file."""
    if settings.columns == "series":
        kept = [[position, *range(len(columns.target), rows.values.shape[1])] for position in range(len(columns.target))]
        return {
            name: replace(
                rows,
                label=name,
                columns=[rows.columns[one] for one in chosen],
                values=rows.values[:, chosen],
                text=rows.text[:, chosen],
            )
            for name, chosen in zip(columns.target, kept, strict=True)
        }
    if len(columns.names) == 1:
        return {columns.names[0]: rows}
    order = np.argsort(columns.series, kind="stable")
    ends = np.cumsum(np.bincount(columns.series))
    return {
        name: replace(rows.take(part), label=repr(name))
        for name, part in zip(columns.names, np.split(order, ends[:-1]), strict=True)
    }


def _static(columns: Columns, settings: TableFormat, mark: str) -> dict[str, dict[str, float | str]]:
    """Return the static columns of each series by its name."""
    values = {column: static_values(columns, column, mark, column in settings.static_text) for column in settings.static}
    return {name: {column: values[column][position] for column in values} for position, name in enumerate(columns.names)}


def _finish(series: list[Series], channels: list[str], builder: SeriesBuilder, notes: list[str]) -> Table:
    """Return the table with the type of its values chosen and the notes complete."""
    assert builder.frequency is not None
    wide = [name for position, name in enumerate(channels) if any(_needs_float64(one, position) for one in series)]
    if not wide:
        series = [replace(one, values=one.values.astype(np.float32)) for one in series]
    notes = [*notes, *builder.counts.notes(), *_constant_series(series, channels), _extent(series, builder.frequency)]
    return Table(series, channels, list(builder.settings.known), builder.frequency, wide, notes)


def _extent(series: list[Series], frequency: Frequency) -> str:
    """Return number, length, frequency and period of the series as a sentence."""
    lengths = sorted({len(one.time) for one in series})
    count = f"{len(series):,} series of " if len(series) > 1 else ""
    steps = f"{lengths[0]:,} to {lengths[-1]:,}" if len(lengths) > 1 else f"{lengths[0]:,}"
    first, last = (written(int(pick(one.wall[end] for one in series))) for pick, end in ((min, 0), (max, -1)))
    return f"{count}{steps} time steps, frequency {frequency.alias}, from {first} to {last}."


def _needs_float64(series: Series, channel: int) -> bool:
    observed = series.values[~series.filled[:, channel], channel].astype(np.float64)
    return rounding.needs_float64(observed)


def _constant_series(series: list[Series], channels: list[str]) -> Iterator[str]:
    """Yield a sentence for each channel that is constant in some series."""
    for position, name in enumerate(channels):
        constant = [one.name for one in series if (one.values[:, position] == one.values[0, position]).all()]
        if constant:
            shown = ", ".join(constant[:3]) + (", …" if len(constant) > 3 else "")
            yield f"Channel {name} is constant" + (f" in {len(constant)} series: {shown}." if len(series) > 1 else ".")
