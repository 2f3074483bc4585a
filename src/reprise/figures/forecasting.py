"""Forecasts against the truth, and their errors. Shapes: `N` windows, `S` forecast steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprise.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE, head, legend_above
from reprise.figures.text import literal, wrap

Values = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]
COLOURS = {"forecast": ORANGE, "repeat last": GREY, "seasonal naive": BLUE}
DRAWN = 300
"""About how many time steps of forecasts are drawn: more become a solid block."""
FEW = 30
"""Steps that are drawn as points too: a line alone does not show a single one."""
BINS = 60
"""The most bars of a histogram."""


def forecast(time: Times, truth: Values, predicted: Values, naive: Values, channel: str, unit: str, title: str) -> Figure:
    """Draw forecasts that follow one another without overlap over the truth, the naive ones behind, and the errors below.

    All `[N, S]`, `time` being that of the forecast steps. Of a long test period, the last windows are drawn.
    """
    rows = consecutive(time)
    part = "" if len(rows) == len(time) else _part(len(rows), len(time), truth.shape[1])
    moments, actual, ahead, behind = (values[rows] for values in (_days(time), truth, predicted, naive))
    step = _step(time)
    with plt.style.context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5.4), sharex=True, height_ratios=(2, 1))
        few: dict[str, Any] = {"marker": "o", "markersize": 4} if actual.size <= FEW else {}
        above.plot(*_broken(moments, behind), **few, color=GREY, linewidth=0.9, linestyle="--", label="naive: as the last step")
        above.plot(moments.ravel(), actual.ravel(), **few, color="black", linewidth=1.2, label="truth")
        above.plot(*_broken(moments, ahead), **few, color=ORANGE, linewidth=1.5, label="forecast")
        if truth.shape[1] > 1:
            above.plot(moments[:, 0], ahead[:, 0], color=ORANGE, linestyle="none", marker="o", markersize=4)
            for start in moments[:, 0]:
                for axis in (above, below):
                    axis.axvline(start - step / 2, color="#d0d0d0", linewidth=0.8, zorder=0)
        above.set(ylabel=_axis_label(literal(channel, 40), unit, 3))
        legend_above(above)
        residual = (ahead - actual).ravel()
        below.axhline(0, color="black", linewidth=0.8)
        below.bar(moments.ravel(), residual, width=step, color=np.where(residual > 0, ORANGE, BLUE), snap=False)
        below.set(ylabel=_axis_label("error", unit, 1.4))
        _dates(below)
        figure.align_ylabels()
        head(figure, f"{title}{part}")
        return figure


def consecutive(time: Times) -> npt.NDArray[np.int64]:
    """Rows of `[N, S]` windows that follow one another without overlap, the last ones, of about `DRAWN` steps together."""
    rows: list[int] = []
    for row in range(len(time) - 1, -1, -1):
        if not rows or time[row, -1] < time[rows[-1], 0]:
            rows.append(row)
        if len(rows) * time.shape[1] >= DRAWN:
            break
    return np.array(rows[::-1], np.int64)


def _part(drawn: int, windows: int, steps: int) -> str:
    return f"\nthe last {drawn:,} of {windows:,} test windows" + (
        f" that do not overlap, {steps} steps each" if steps > 1 else ""
    )


def number_of(windows: int) -> str:
    """A count of test windows in words."""
    return f"{windows:,} test window{'s' * (windows != 1)}"


def _step(time: Times) -> float:
    """Days between two time steps: the median."""
    moments = np.unique(time)
    return float(np.median(np.diff(_days(moments)))) if len(moments) > 1 else 1.0


def _days(time: Times) -> Values:
    """Time stamps in the unit of matplotlib's time axes."""
    return np.asarray(date2num(time), np.float64)  # type: ignore[no-untyped-call]


def _broken(time: Values, values: Values) -> tuple[Values, Values]:
    """Windows `[N, S]` as one line with a gap after each; of single steps, without gaps."""
    if values.shape[1] == 1:
        return time.ravel(), values.ravel()
    gap = np.full((len(values), 1), np.nan)
    return np.hstack([time, time[:, -1:]]).ravel(), np.hstack([values, gap]).ravel()


def _axis_label(quantity: str, unit: str, inches: float) -> str:
    """A quantity with its unit, in as many lines as an axis of this length needs."""
    return wrap(f"{quantity}, {literal(unit, 40)}" if unit else quantity, inches, 10)


def _dates(axis: Axes) -> None:
    """Label a time axis with no more of the date than it needs."""
    locator = AutoDateLocator(tz="UTC", minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz="UTC"))  # type: ignore[no-untyped-call]


def residuals(time: Times, truth: Values, predicted: Values, unit: str, title: str) -> Figure:
    """Draw forecast less truth `[N, S]`: over time, by step ahead where there are several, and how often which size occurs."""
    residual = predicted - truth
    many = residual.shape[1] > 1
    with plt.style.context(STYLE):
        columns: dict[str, Any] = {"figsize": (11 if many else 9, 3.9), "width_ratios": (2.4, 1.6, 1) if many else (2.4, 1)}
        figure: Figure
        figure, axes = plt.subplots(1, 2 + many, **columns)
        _over_time(axes[0], _days(time[:, 0]), residual)
        axes[0].set(ylabel=_axis_label("forecast − truth", unit, 2.4))
        if many:
            _by_step(axes[1], residual)
        _sizes(axes[-1], residual.ravel())
        size = f"mean error {residual.mean():.3g}, standard deviation {residual.std():.3g}"
        head(figure, f"{title}\n{size}{f', in {literal(unit, 40)}' if unit else ''}; {number_of(len(residual))}")
        return figure


def _over_time(axis: Axes, moments: Values, residual: Values) -> None:
    """The mean error of each window, and its running mean."""
    by_window = residual.mean(axis=1)
    span = min(30, max(3, len(by_window) // 5), len(by_window))
    running = np.convolve(by_window, np.ones(span) / span, mode="valid")
    begin = (span - 1) // 2
    size = 3 if len(by_window) <= 1000 else 1.5
    label = "one window" if residual.shape[1] == 1 else f"one window, mean of {residual.shape[1]} steps"
    axis.axhline(0, color="black", linewidth=0.8)
    axis.plot(moments, by_window, linestyle="none", marker="o", markersize=size, color=BLUE, alpha=0.6, label=label)
    if span > 1:
        axis.plot(moments[begin : begin + len(running)], running, color=ORANGE, linewidth=2, label=f"mean of {span} windows")
    legend_above(axis, ncols=1)
    _dates(axis)


def _by_step(axis: Axes, residual: Values) -> None:
    """Median and central shares of the errors at each step ahead."""
    steps = np.arange(1, residual.shape[1] + 1)
    low, lower, middle, upper, high = np.quantile(residual, [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0, label="90 % of windows")
    axis.fill_between(steps, lower, upper, color=BLUE, alpha=0.4, linewidth=0, label="50 %")
    axis.plot(steps, middle, color=ORANGE, linewidth=1.5, label="median")
    axis.set(xlabel="steps ahead")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    legend_above(axis, ncols=2)


def _sizes(axis: Axes, residual: Values) -> None:
    bins = int(np.clip(np.sqrt(residual.size), 5, BINS))
    axis.hist(residual, bins=bins, orientation="horizontal", color=BLUE, edgecolor="white", linewidth=0.4)
    axis.axhline(residual.mean(), color=ORANGE, linewidth=2)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="forecast steps")
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))


def error_by_step(errors: Mapping[str, Values], unit: str, title: str) -> Figure:
    """Draw the mean absolute error at each step of the horizon `[S]`, of the forecast and of the naive ones."""
    steps = len(next(iter(errors.values())))
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 4))
        for number, (name, by_step) in enumerate(errors.items()):
            colour = COLOURS.get(name, GREEN)
            if steps == 1:
                axis.bar(name, by_step[0], 0.55, color=colour)
                axis.text(number, by_step[0], f"{by_step[0]:.3g}", ha="center", va="bottom")
            else:
                marker: dict[str, Any] = {"marker": "o", "markersize": 4} if steps <= 60 else {}
                axis.plot(np.arange(1, steps + 1), by_step, color=colour, label=name, **marker)
        if steps > 1:
            axis.set(xlabel="steps ahead", ylim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            legend_above(axis)
        else:
            axis.grid(visible=False, axis="x")
            axis.margins(y=0.1)
        axis.set(ylabel=_axis_label("mean absolute error", unit, 2.8))
        head(figure, title)
        return figure
