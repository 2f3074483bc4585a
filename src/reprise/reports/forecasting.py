"""Figures and tables of evaluated forecasts. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels."""

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from reprise.data import store
from reprise.data.modalities.series.arrays import Meta
from reprise.figures import forecasting
from reprise.figures import intervals as interval_figures
from reprise.figures.drawing import drawing
from reprise.figures.style import save
from reprise.figures.text import literal
from reprise.reports import series_errors
from reprise.reports.evaluated import Evaluated
from reprise.reports.forecast_errors import ForecastErrors
from reprise.reports.forecast_intervals import ForecastIntervals
from reprise.tasks.conformal import MEASURED
from reprise.tasks.forecast_metrics import MAX_NAMED_TARGETS, ForecastMetrics
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.kept_predictions import Forecasts
from reprise.tasks.task import Task

LONG_HORIZON = 24
"""From this number of steps on, some windows are also drawn one by one."""
WINDOWS_ON_A_PAGE = 6
PAST_HORIZONS = 3
"""Length of the past in a fan chart, in horizons."""
BANDS = (0.5, 0.8, 0.95)
"""Levels of the intervals in figures."""
BAND_STEPS = 120
"""Number of forecasts of one step in a figure of intervals."""
STANDARDISED = "standard deviations"
"""Unit of errors over several channels."""


def write(folder: Path, run: Evaluated, task: Task) -> None:
    """Draw forecasts with the truth, intervals, residuals, and errors by step and by channel; write the errors as CSV tables.

    Figures of single channels are drawn for the first `MAX_NAMED_TARGETS` channels.
    """
    meta, kept, empty = run.windows.meta, run.predictions, task.new_metrics()
    assert isinstance(meta, Meta)
    assert isinstance(kept, Forecasts)
    assert isinstance(empty, ForecastMetrics)
    assert isinstance(task, Forecasting)
    forecasts = {"forecast": kept.predictions}
    forecasts |= {name.replace("_", " "): baseline(kept.rows) for name, baseline in task.baselines(run.windows).items()}
    errors = ForecastErrors.of(forecasts, kept.targets, empty)
    store.write_atomically(folder / "errors_by_step.csv", errors.step_table(meta.targets).encode())
    store.write_atomically(folder / "errors_by_channel.csv", errors.channel_table(meta.targets).encode())
    points = {name: task.quantiles.point(forecast) for name, forecast in forecasts.items()}
    intervals = ForecastIntervals(kept, task, task.margins) if task.margins else None
    if meta.series:
        series_errors.write(folder, run.name, run.windows, kept.rows, points, kept.targets, empty)
    report = _Report(folder, run, meta, errors, _units(task, kept.targets), points, task, intervals)
    one_series = report.of_one_series() if meta.series else report
    if len(meta.targets) > 1:
        report.draw_all_channels()
    if intervals:
        report.draw_calibration(intervals)
    for number in range(min(len(meta.targets), MAX_NAMED_TARGETS)):
        one_series.draw_windows(number)
        report.draw_errors(number)


@dataclass(frozen=True)
class _Report:
    """What the figures of a run are drawn from."""

    folder: Path
    run: Evaluated
    meta: Meta
    errors: ForecastErrors
    truth: npt.NDArray[np.float64]
    forecasts: dict[str, Tensor]
    """Standardised forecasts `[N, S, Y]` by method: `forecast` and the baselines."""
    task: Forecasting
    intervals: ForecastIntervals | None

    def draw_all_channels(self) -> None:
        """Draw the errors of standardised values by step, over all channels, and by channel."""
        title = f"{self.run.name}\n{self._count}"
        self._draw("error_by_step", lambda: forecasting.error_by_step(self.errors.scaled_by_step(), STANDARDISED, title))
        by_channel = self.errors.scaled_by_channel()
        self._draw("error_by_channel", lambda: forecasting.error_by_channel(by_channel, self.meta.targets, title))

    def of_one_series(self) -> "_Report":
        """Return the report of the series with the most windows; of several, the first."""
        kept = self.run.predictions
        membership = series_errors.series_of(self.run.windows, kept.rows)
        number = int(np.bincount(membership).argmax())
        rows = torch.from_numpy(np.flatnonzero(membership == number))
        part = Forecasts(kept.rows[rows], kept.predictions[rows], kept.targets[rows])
        name = f"{self.run.name}, series {literal(self.meta.series[number].name, 40)}"
        return replace(
            self,
            run=replace(self.run, name=name, predictions=part),
            truth=self.truth[rows.numpy()],
            forecasts={method: forecast[rows] for method, forecast in self.forecasts.items()},
            intervals=replace(self.intervals, kept=part) if self.intervals else None,
        )

    def draw_windows(self, number: int) -> None:
        """Draw the forecasts of a target channel over time."""
        channel, unit, suffix, title = self._names(number)
        predicted, naive = (self._in_units(method)[..., number] for method in ("forecast", "repeat last"))
        series = (self._times, self.truth[..., number], predicted)
        self._draw(f"forecast{suffix}", lambda: forecasting.forecast(*series, naive, channel, unit, title))
        if self.meta.horizon >= LONG_HORIZON:
            self._draw(f"windows{suffix}", lambda: forecasting.windows(self._single_windows(number), channel, unit, title))
        if self.intervals:
            self._draw_intervals(self.intervals, number, suffix, title)

    def draw_errors(self, number: int) -> None:
        """Draw the residuals of a target channel, by time also if there are several series, and its errors by step."""
        _, unit, suffix, title = self._names(number)
        order = np.argsort(self._times[:, 0], kind="stable")
        predicted = self._in_units("forecast")[..., number]
        series = (self._times[order], self.truth[order, :, number], predicted[order])
        self._draw(f"residuals{suffix}", lambda: forecasting.residuals(*series, unit, title))
        by_step = self.errors.mae_by_step(number)
        self._draw(f"error_by_step{suffix}", lambda: forecasting.error_by_step(by_step, unit, f"{title}\n{self._count}"))

    def _names(self, number: int) -> tuple[str, str, str, str]:
        """Return name and unit of a target channel, the end of the names of its files, and the title of its figures."""
        channel = self.meta.targets[number]
        suffix = f"_{file_part(channel)}" if len(self.meta.targets) > 1 else ""
        return channel, self.meta.units[number], suffix, f"{self.run.name}: {literal(channel)}"

    def draw_calibration(self, intervals: ForecastIntervals) -> None:
        """Draw the measured coverage of the intervals, and that of the levels in `MEASURED` by step."""
        coverage = np.stack([intervals.coverage(level) for level in intervals.levels])  # [L, S, Y]
        by_channel = {channel: coverage[..., number].mean(1) for number, channel in enumerate(self.meta.targets)}
        by_step = {level: coverage[intervals.levels.index(level)].mean(1) for level in MEASURED if level in intervals.levels}
        calibrated = f"calibrated on {intervals.margins.windows:,} windows of val"
        title = f"{self.run.name}: coverage of the intervals\n{calibrated}; {self._count}"
        self._draw("calibration", lambda: interval_figures.calibration(intervals.levels, by_channel, by_step, title))

    def _draw_intervals(self, intervals: ForecastIntervals, number: int, suffix: str, title: str) -> None:
        channel, unit = self.meta.targets[number], self.meta.units[number]
        shown = [level for level in BANDS if level in intervals.levels]
        bounds = {level: tuple(bound[..., number] for bound in self._bounds(intervals, level)) for level in shown}
        predicted = self._in_units("forecast")[..., number]
        if self.meta.horizon == 1:
            rows = slice(-BAND_STEPS, None)
            one = {level: (lower[rows, 0], upper[rows, 0]) for level, (lower, upper) in bounds.items()}
            series = self._times[rows, 0], self.truth[rows, 0, number], predicted[rows, 0]
            count = f"\nthe last {BAND_STEPS} of {len(predicted):,} test windows" if len(predicted) > BAND_STEPS else ""
            self._draw(f"intervals{suffix}", lambda: interval_figures.bands(*series, one, channel, unit, f"{title}{count}"))
            return
        fans = [
            interval_figures.Fan(
                *self._past(row, number),
                self._times[row],
                self.truth[row, :, number],
                predicted[row],
                {level: (lower[row], upper[row]) for level, (lower, upper) in bounds.items()},
            )
            for row in self._chosen
        ]
        steps = f"{title}\n{len(fans)} test windows, evenly spaced; {self.meta.horizon} steps after the line"
        self._draw(f"fan_chart{suffix}", lambda: interval_figures.fan_chart(fans, channel, unit, steps))

    @property
    def _chosen(self) -> npt.NDArray[np.int64]:
        """Evenly spaced windows to draw."""
        return np.unique(np.linspace(0, len(self.truth) - 1, WINDOWS_ON_A_PAGE).round().astype(np.int64))

    def _past(self, row: int, number: int) -> tuple[npt.NDArray[np.datetime64], npt.NDArray[np.float64]]:
        """Return times and values of a channel at the end of the lookback of a window."""
        first = int(self._first_steps[row])
        steps = slice(first - min(self.meta.lookback, PAST_HORIZONS * self.meta.horizon), first)
        time, values = (self.run.windows.array(name) for name in ("time", "values"))
        return np.array(time[steps]).view("datetime64[ns]"), np.array(values[steps, self.meta.target_columns[number]], np.float64)

    def _single_windows(self, number: int) -> list[forecasting.Window]:
        """Return evenly spaced windows of a channel: the end of the lookback, the truth, the forecast and the best baseline."""
        method = self.errors.best_baseline()
        predicted, naive = (self._in_units(name)[..., number] for name in ("forecast", method))
        result = []
        for row in self._chosen:
            past_time, past = self._past(row, number)
            result.append(
                forecasting.Window(
                    past_time=past_time[-self.meta.horizon :],
                    past=past[-self.meta.horizon :],
                    time=self._times[row],
                    truth=self.truth[row, :, number],
                    predicted=predicted[row],
                    baseline=naive[row],
                    method=method,
                )
            )
        return result

    @functools.cached_property
    def _cached(self) -> "dict[str | float, Any]":
        """Forecasts in units by method, and bounds of intervals by level: each channel's figures need them."""
        return {}

    def _in_units(self, method: str) -> npt.NDArray[np.float64]:
        if method not in self._cached:
            self._cached[method] = _units(self.task, self.forecasts[method])
        units: npt.NDArray[np.float64] = self._cached[method]
        return units

    def _bounds(self, intervals: ForecastIntervals, level: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        if level not in self._cached:
            self._cached[level] = intervals.bounds(level)
        lower, upper = self._cached[level]
        return lower, upper

    @property
    def _first_steps(self) -> npt.NDArray[np.int64]:
        """The row of the first forecast step of each window."""
        rows: npt.NDArray[np.int64] = self.run.predictions.rows.numpy()
        first: npt.NDArray[np.int64] = (self.run.windows.indices("test") + self.meta.lookback)[rows]
        return first

    @property
    def _times(self) -> npt.NDArray[np.datetime64]:
        """The times of the forecast steps `[N, S]`."""
        steps = self._first_steps[:, None] + np.arange(self.meta.horizon)
        times: npt.NDArray[np.datetime64] = np.array(self.run.windows.array("time")).view("datetime64[ns]")[steps]
        return times

    @property
    def _count(self) -> str:
        windows = len(self.run.windows.indices("test"))
        return forecasting.window_count(len(self.truth)) + (f" of {windows:,}" if len(self.truth) < windows else "")

    def _draw(self, name: str, figure: Callable[[], Figure]) -> None:
        with drawing(f"{name}.png"):
            save(figure(), self.folder / f"{name}.png")


def _units(task: Forecasting, values: Tensor) -> npt.NDArray[np.float64]:
    """Return standardised values in units."""
    return task.in_units(values.double()).numpy()


def file_part(channel: str) -> str:
    """Return the name of a channel for use in a file name: special characters replaced, and a hash added if it changed."""
    plain = re.sub(r"[^\w.-]+", "_", channel)[:60]
    return plain if plain == channel else f"{plain}_{hashlib.sha256(channel.encode('utf-8', 'replace')).hexdigest()[:6]}"
