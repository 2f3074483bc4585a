"""predict on a series: forecast the time steps after the last row of a file.

Shapes: `T` time steps of the lookback, `C` input channels, `S` forecast steps (horizon), `Y` target channels.
"""

import csv
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from reprise.config.modalities.series import SeriesData
from reprise.config.own_tables import TableData
from reprise.data.modalities.series.arrays import Meta
from reprise.data.modalities.series.own_table import sha256_of, table_format
from reprise.data.modalities.series.static import encode
from reprise.data.tables.continuation import steps_after
from reprise.data.tables.format import TableFormat
from reprise.data.timestamps import Nanoseconds
from reprise.errors import UserError
from reprise.figures.new_forecast import Panel, new_forecast
from reprise.figures.style import save
from reprise.inference import intervals
from reprise.inference.answers import FIGURE, TABLE
from reprise.inference.compute import COVERAGE, Compute, forecaster
from reprise.inference.predictor import Predictor
from reprise.inference.trained_run import TrainedRun
from reprise.tasks.forecasting import Forecasting

if TYPE_CHECKING:  # pyarrow and pandas take 0.6 s
    from reprise.data.tables.reader import Table
    from reprise.data.tables.series import Series

HISTORY = 3
"""Horizons of the past that the figure shows, at most the lookback if that is longer."""

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SeriesForecast:
    """The forecast of one series, in units of the data. Times are local, nanoseconds since 1970."""

    series: str
    """Name of the series; empty if the data name none."""
    past_time: Nanoseconds
    """int64 [P]."""
    past: Values
    """float64 [P, Y]: the last known values."""
    time: Nanoseconds
    """int64 [S]."""
    utc: Nanoseconds
    """int64 [S]."""
    values: Values
    """float64 [S, Y]."""
    lower: Values | None
    """float64 [S, Y]: the lower end of the interval; None if the run has no intervals."""
    upper: Values | None
    """float64 [S, Y]: the upper end."""


@dataclass(frozen=True)
class Forecasts:
    """The forecasts of all series of a file."""

    run: str
    channels: list[str]
    units: list[str]
    series: list[SeriesForecast]
    notes: list[str]

    @property
    def has_intervals(self) -> bool:
        """Whether the run has intervals."""
        return self.series[0].lower is not None

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each series, channel and step: times, forecast, interval (None without one) and unit.

        Rows have the series if the data name it, also if the file holds a single one.
        """
        return [
            {
                **({"series": one.series} if one.series else {}),
                "channel": channel,
                "step": step + 1,
                "time": iso(int(one.time[step])),
                "time_utc": iso(int(one.utc[step])) + "Z",
                "forecast": float(one.values[step, number]),
                "lower": None if one.lower is None else float(one.lower[step, number]),
                "upper": None if one.upper is None else float(one.upper[step, number]),
                "unit": unit,
            }
            for one in self.series
            for number, (channel, unit) in enumerate(zip(self.channels, self.units, strict=True))
            for step in range(len(one.time))
        ]


def iso(nanoseconds: int) -> str:
    """Return a time as ISO 8601, to the second or, if it is within one, to the digits that it needs."""
    seconds, _, fraction = str(np.datetime64(nanoseconds, "ns")).partition(".")
    digits = fraction.rstrip("0")
    return f"{seconds}.{digits}" if digits else seconds


def run(run: TrainedRun, path: Path, out: Path, console: Console) -> Forecasts:
    """Forecast after the last row of a CSV or Parquet file; write predictions.csv and .png to `out`.

    Raises:
        UserError: if the file has too few rows, lacks a channel, or has another frequency than the series of the run.

    """
    predictor = Predictor.from_run(run)
    meta = run.windows.meta
    if not isinstance(meta, Meta) or not isinstance(predictor.task, Forecasting):
        raise UserError(f"{run.trained.name} does not forecast", "name a run with task=forecasting")
    compute = forecaster(predictor, intervals.read(run.intervals))
    forecasts = forecast_table(compute, run, meta, read_file(run, meta, path), path.name)
    for note in forecasts.notes:
        console.print(f"predict  {path.name}: {note}", highlight=False, markup=False, soft_wrap=True)
    _write(forecasts, out)
    return forecasts


def forecast_table(compute: Compute, run: TrainedRun, meta: Meta, table: "Table", name: str) -> Forecasts:
    """Return the forecasts of all series of a table that `read_content` returned. `name` is that of the file, for messages."""
    found = [_forecast_series(compute, run, meta, name, table, one) for one in table.series]
    filled = sum(int(one.filled[-meta.lookback :].sum()) for one in table.series)
    notes = [*table.notes, *_notes(intervals.read(run.intervals), filled, run.trained.name)]
    return Forecasts(run.trained.name, meta.targets, meta.units, found, notes)


def read_file(run: TrainedRun, meta: Meta, path: Path) -> "Table":
    """Return the series of a file with the channels of a run; see `read_content`."""
    sha256_of(path, "")
    return read_content(run, meta, path, path.name)


def read_content(run: TrainedRun, meta: Meta, source: Path | bytes, name: str) -> "Table":
    """Return the series of a file, given by its path or content, with the channels of a run. `name` is for messages.

    Raises:
        UserError: if it cannot be read, has other time steps, or a series is shorter than the lookback.

    """
    from reprise.data.tables.reader import read_table  # late, as above

    table = read_table(source, name, format_of(run.config.data, meta))
    if table.frequency.alias != meta.frequency:
        raise UserError(
            f"{name}: its time steps are {table.frequency.alias}, and those of the run {meta.frequency}",
            "name a file with the time steps of the run; to recognise months, it needs at least three rows",
        )
    for one in table.series:
        if len(one.time) < meta.lookback:
            series = f" of series {one.name}" if one.name else ""
            needed = f"{run.trained.name} forecasts from the last {meta.lookback}"
            raise UserError(f"{name}: {len(one.time)} time steps{series}, and {needed}", "name a file with more rows")
    return table


def _forecast_series(compute: Compute, run: TrainedRun, meta: Meta, file: str, table: "Table", one: "Series") -> SeriesForecast:
    columns = [table.channels.index(name) for name in meta.observed]
    values = one.values[:, columns]
    zone = getattr(run.config.data, "timezone", None)
    utc, wall = steps_after(one.time, one.wall, meta.horizon, zone)
    raw = raw_inputs(meta, values, utc, file, table, one)
    found = compute([torch.from_numpy(part)[None] for part in raw])
    shown = slice(-max(meta.lookback, HISTORY * meta.horizon), None)
    past = values[shown, meta.target_positions].astype(np.float64)
    point, lower, upper = (part if part is None else part[0] for part in found)
    assert point is not None
    return SeriesForecast(one.name, one.wall[shown], past, wall, utc, point, lower, upper)


def raw_inputs(
    meta: Meta, values: npt.NDArray[Any], future: Nanoseconds, file: str, table: "Table", one: "Series"
) -> tuple[npt.NDArray[Any], ...]:
    """Return the raw inputs of the last window of a series, without the dimension of the batch.

    Raises:
        UserError: if a static column has a value that is unknown in training, or the file has too few rows after the last target.

    """
    try:
        static = encode(one.static, meta.static)
    except ValueError as error:
        raise UserError(f"{file}: {error}", "a run forecasts series like those of its training") from None
    past, time = values[-meta.lookback :], one.time[-meta.lookback :]
    with np.errstate(over="ignore"):
        past = np.hstack([past, np.tile(static, (len(past), 1))]).astype(meta.dtype) if static else past.astype(meta.dtype)
    if not np.isfinite(past).all():
        raise UserError(f"{file}: a value is too large for {meta.dtype}", "check the units of the last rows")
    if not meta.known:
        return past, time
    if len(one.future_time) < meta.horizon:
        series = f" of series {one.name}" if one.name else ""
        have, names = len(one.future_time), ", ".join(meta.known)
        raise UserError(
            f"{file}: {have} time steps after the last target{series}, and a forecast needs {names} at the next {meta.horizon}",
            f"add rows with {names} filled in and {', '.join(meta.observed)} empty",
        )
    known = np.concatenate([one.known[-meta.lookback :], one.future_known[: meta.horizon]])
    return past, np.concatenate([time, future]), known.astype(meta.dtype)


def format_of(data: object, meta: Meta) -> TableFormat:
    """Return the settings that read the input channels of a run from a newer file. A channel may be constant in it."""
    if isinstance(data, TableData):
        columns = {} if data.columns == "series" else {"target": meta.observed}
        read = table_format(data.model_copy(update={"constant": "keep", "known": meta.known, **columns}))
        return replace(read, static_text=tuple(column for column, texts in meta.static.items() if texts is not None))
    assert isinstance(data, SeriesData), "other data are no series"
    return TableFormat(time=(data.time,), target=tuple(meta.observed), constant="keep")


def _notes(calibrated: intervals.Intervals | None, filled: int, name: str) -> list[str]:
    notes = [f"{filled:,} values of the lookback are filled."] if filled else []
    if calibrated is None:
        notes.append(f"{name} was trained by an earlier version and has no intervals.")
    elif calibrated.half_width(COVERAGE) is None:
        notes.append(f"No {100 * COVERAGE:g} % interval: val has {calibrated.windows} windows, which are too few.")
    return notes


def _write(forecasts: Forecasts, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    rows = forecasts.rows()
    with (out / TABLE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    save(new_forecast(panels_of(forecasts), f"{forecasts.run}: forecast", COVERAGE), out / FIGURE)


def panels_of(forecasts: Forecasts) -> list[Panel]:
    """Return what the figure shows: a panel for each series and channel."""
    return [
        Panel(
            title=" ".join(part for part in (one.series, channel) if part),
            unit=unit,
            past_time=one.past_time.astype("datetime64[ns]"),
            past=one.past[:, number],
            time=one.time.astype("datetime64[ns]"),
            forecast=one.values[:, number],
            lower=None if one.lower is None else one.lower[:, number],
            upper=None if one.upper is None else one.upper[:, number],
        )
        for one in forecasts.series
        for number, (channel, unit) in enumerate(zip(forecasts.channels, forecasts.units, strict=True))
    ]
