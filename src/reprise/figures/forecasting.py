"""Figures of forecasts and their errors. Shapes: `N` windows, `S` forecast steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprise.figures.dates import Times, Values, days_of, format_dates
from reprise.figures.style import BLUE, GREEN, GREY, ORANGE, PURPLE, STYLE, add_title, legend_above
from reprise.figures.text import literal, wrap

COLOURS = {"forecast": ORANGE, "repeat last": GREY, "seasonal naive": BLUE, "seasonal mean": GREEN, "drift": PURPLE}
MARKERS = {"forecast": "o", "repeat last": "|", "seasonal naive": "s", "seasonal mean": "D", "drift": "x"}
MAX_STEPS = 300
"""Approximate maximum of time steps drawn: more become a solid block."""
MAX_MARKERS = 30
"""Maximum number of steps that also get markers: a line alone does not show a single step."""
MAX_BINS = 60
"""Maximum number of bins of a histogram."""
MAX_CHANNELS = 40
"""Maximum number of channels in a figure of errors by channel."""
TALLEST = 2.0
"""Where the axis of errors by step ends, in largest errors of the forecast and the best baseline: a poor baseline is cut off."""


@dataclass(frozen=True)
class Window:
    """A single forecast of a channel: the end of its lookback, its steps `[S]`, and a baseline with its name."""

    past_time: Times
    past: Values
    time: Times
    truth: Values
    predicted: Values
    baseline: Values
    method: str


def forecast(time: Times, truth: Values, predicted: Values, naive: Values, channel: str, unit: str, title: str) -> Figure:
    """Draw consecutive forecasts with the truth and the naive forecasts, and their errors below.

    Arrays are `[N, S]`; `time` holds the times of the forecast steps. Of a long test period, the last windows are drawn. Where
    the truth is NaN, its line and the errors have a gap; so in all figures.
    """
    rows = consecutive(time)
    part = "" if len(rows) == len(time) else _subset_note(len(rows), len(time), truth.shape[1])
    days, actual, ahead, behind = (values[rows] for values in (days_of(time), truth, predicted, naive))
    step = _step(time)
    with plt.style.context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5.4), sharex=True, height_ratios=(2, 1))
        markers: dict[str, Any] = {"marker": "o", "markersize": 4} if actual.size <= MAX_MARKERS else {}
        above.plot(
            *_with_gaps(days, behind), **markers, color=GREY, linewidth=0.9, linestyle="--", label="naive: as the last step"
        )
        above.plot(days.ravel(), actual.ravel(), **markers, color="black", linewidth=1.2, label="truth")
        above.plot(*_with_gaps(days, ahead), **markers, color=ORANGE, linewidth=1.5, label="forecast")
        if truth.shape[1] > 1:
            above.plot(days[:, 0], ahead[:, 0], color=ORANGE, linestyle="none", marker="o", markersize=4)
            for axis in (above, below):
                _vertical_lines(axis, days[:, 0] - step / 2)
        above.set(ylabel=axis_label(literal(channel, 40), unit, 3))
        legend_above(above)
        residual = (ahead - actual).ravel()
        below.axhline(0, color="black", linewidth=0.8)
        _bars(below, days.ravel(), residual, step)
        below.set(ylabel=axis_label("error", unit, 1.4))
        format_dates(below)
        figure.align_ylabels()
        add_title(figure, f"{title}{part}")
        return figure


def _vertical_lines(axis: Axes, days: Values) -> None:
    """Draw lines over the whole height. `Axes.axvline` takes a hundred times as long for a hundred lines."""
    axis.vlines(days, 0, 1, colors="#d0d0d0", linewidth=0.8, zorder=0, transform=axis.get_xaxis_transform())


def _bars(axis: Axes, middle: Values, heights: Values, width: float) -> None:
    """Draw bars from 0, positive ones in orange, negative ones in blue. `Axes.bar` is slow: each bar is an artist of its own."""
    known = np.isfinite(heights)
    left, right, top = middle[known] - width / 2, middle[known] + width / 2, heights[known]
    base = np.zeros_like(top)
    corners = np.stack([np.stack(pair, -1) for pair in ((left, base), (right, base), (right, top), (left, top))], axis=1)
    bars = PolyCollection(corners, facecolors=np.where(top > 0, ORANGE, BLUE), linewidths=0)  # type: ignore[arg-type]
    bars.set_snap(False)
    bars.sticky_edges.y.append(0)
    axis.add_collection(bars)
    axis.autoscale_view()


def windows(chosen: Sequence[Window], channel: str, unit: str, title: str) -> Figure:
    """Draw single windows, one in each panel: the end of the lookback, the truth, the forecast and a baseline."""
    rows = -(-len(chosen) // 2)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(11, 2.3 * rows + 0.8), sharey=True, squeeze=False)
        for axis, window in zip(axes.flat, chosen, strict=False):
            past_days, days = days_of(window.past_time), days_of(window.time)
            axis.plot(
                np.append(past_days, days), np.append(window.past, window.truth), color="black", linewidth=1.0, label="truth"
            )
            colour = COLOURS.get(window.method, GREEN)
            axis.plot(days, window.baseline, color=colour, linewidth=1.0, linestyle="--", label=window.method)
            axis.plot(days, window.predicted, color=ORANGE, linewidth=1.4, label="forecast")
            axis.axvline((past_days[-1] + days[0]) / 2, color="#a0a0a0", linewidth=0.8, zorder=0)
            error = np.abs(window.predicted - window.truth)
            size = f"mean error {np.nanmean(error):.3g}" if np.isfinite(error).any() else "no true value"
            axis.set_title(f"{np.datetime_as_string(window.time[0], 'm').replace('T', ' ')}: {size}", fontsize=9)
            format_dates(axis)
        for axis in axes.flat[len(chosen) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set(ylabel=axis_label(literal(channel, 40), unit, 2))
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower left", ncols=3)
        steps = f"{len(chosen[0].time)} steps after the line"
        add_title(figure, f"{title}\n{len(chosen)} test windows, evenly spaced; {steps}")
        return figure


def consecutive(time: Times) -> npt.NDArray[np.int64]:
    """Return the rows of the last windows of `[N, S]` that do not overlap, with about `MAX_STEPS` steps in total."""
    rows: list[int] = []
    for row in range(len(time) - 1, -1, -1):
        if not rows or time[row, -1] < time[rows[-1], 0]:
            rows.append(row)
        if len(rows) * time.shape[1] >= MAX_STEPS:
            break
    return np.array(rows[::-1], np.int64)


def _subset_note(drawn: int, windows: int, steps: int) -> str:
    return f"\nthe last {drawn:,} of {windows:,} test windows" + (
        f" that do not overlap, {steps} steps each" if steps > 1 else ""
    )


def window_count(windows: int) -> str:
    """Return the number of test windows with its noun."""
    return f"{windows:,} test window{'s' * (windows != 1)}"


def _step(time: Times) -> float:
    """Return the median of the days between time steps."""
    days = np.unique(time)
    return float(np.median(np.diff(days_of(days)))) if len(days) > 1 else 1.0


def _with_gaps(time: Values, values: Values) -> tuple[Values, Values]:
    """Return windows `[N, S]` as one line with a gap after each window. Windows of one step have no gaps."""
    if values.shape[1] == 1:
        return time.ravel(), values.ravel()
    gap = np.full((len(values), 1), np.nan)
    return np.hstack([time, time[:, -1:]]).ravel(), np.hstack([values, gap]).ravel()


def axis_label(quantity: str, unit: str, inches: float) -> str:
    """Return a quantity with its unit, wrapped to the length of the axis."""
    return wrap(f"{quantity}, {literal(unit, 40)}" if unit else quantity, inches, 10)


def residuals(time: Times, truth: Values, predicted: Values, unit: str, title: str) -> Figure:
    """Draw forecast minus truth `[N, S]`: over time, by step ahead if there are several, and as a histogram."""
    residual = predicted - truth
    multi_step = residual.shape[1] > 1
    with plt.style.context(STYLE):
        columns: dict[str, Any] = {
            "figsize": (11 if multi_step else 9, 3.9),
            "width_ratios": (2.4, 1.6, 1) if multi_step else (2.4, 1),
        }
        figure: Figure
        figure, axes = plt.subplots(1, 2 + multi_step, **columns)
        present = np.isfinite(residual)
        some = present.any(axis=1)
        _over_time(axes[0], days_of(time[some, 0]), residual[some])
        axes[0].set(ylabel=axis_label("forecast − truth", unit, 2.4))
        if multi_step:
            _by_step(axes[1], residual)
        _histogram(axes[-1], residual[present])
        size = f"mean error {residual[present].mean():.3g}, standard deviation {residual[present].std():.3g}"
        add_title(figure, f"{title}\n{size}{f', in {literal(unit, 40)}' if unit else ''}; {window_count(len(residual))}")
        return figure


def _over_time(axis: Axes, days: Values, residual: Values) -> None:
    """Draw the mean error of each window, and its running mean."""
    by_window = np.nanmean(residual, axis=1)
    span = min(30, max(3, len(by_window) // 5), len(by_window))
    running = np.convolve(by_window, np.ones(span) / span, mode="valid")
    begin = (span - 1) // 2
    size = 3 if len(by_window) <= 1000 else 1.5
    label = "one window" if residual.shape[1] == 1 else f"one window, mean of {residual.shape[1]} steps"
    axis.axhline(0, color="black", linewidth=0.8)
    axis.plot(days, by_window, linestyle="none", marker="o", markersize=size, color=BLUE, alpha=0.6, label=label)
    if span > 1:
        axis.plot(days[begin : begin + len(running)], running, color=ORANGE, linewidth=2, label=f"mean of {span} windows")
    legend_above(axis, ncols=1)
    format_dates(axis)


def _by_step(axis: Axes, residual: Values) -> None:
    """Draw the median and the central 50 % and 90 % of the errors at each step ahead."""
    present = np.isfinite(residual).any(axis=0)
    steps = np.flatnonzero(present) + 1
    low, lower, middle, upper, high = np.nanquantile(residual[:, present], [0.05, 0.25, 0.5, 0.75, 0.95], axis=0)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.fill_between(steps, low, high, color=BLUE, alpha=0.2, linewidth=0, label="90 % of windows")
    axis.fill_between(steps, lower, upper, color=BLUE, alpha=0.4, linewidth=0, label="50 %")
    axis.plot(steps, middle, color=ORANGE, linewidth=1.5, label="median")
    axis.set(xlabel="steps ahead")
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True, min_n_ticks=1))
    legend_above(axis, ncols=2)


def _histogram(axis: Axes, residual: Values) -> None:
    bins = int(np.clip(np.sqrt(residual.size), 5, MAX_BINS))
    axis.hist(residual, bins=bins, orientation="horizontal", color=BLUE, edgecolor="white", linewidth=0.4)
    axis.axhline(residual.mean(), color=ORANGE, linewidth=2)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.set(xlabel="forecast steps")
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True, min_n_ticks=1))


def error_by_step(errors: Mapping[str, Values], unit: str, title: str) -> Figure:
    """Draw the mean absolute error of the forecast and the naive forecasts at each step of the horizon `[S]`.

    A baseline much worse than the forecast and the best one is cut off at the top.
    """
    steps = len(next(iter(errors.values())))
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 4))
        for number, (name, by_step) in enumerate(errors.items()):
            colour = COLOURS.get(name, GREEN)
            if steps == 1:
                axis.bar(name, by_step[0], 0.55, color=colour)
                axis.text(number, by_step[0], f"{by_step[0]:.3g}", ha="center", va="bottom")
            else:
                marker: dict[str, Any] = {"marker": "o", "markersize": 4} if steps <= MAX_MARKERS else {}
                axis.plot(np.arange(1, steps + 1), by_step, color=colour, label=name, **marker)
        if steps > 1:
            axis.set(xlabel="steps ahead", ylim=(0, _highest(errors)))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
            legend_above(axis, ncols=min(3, len(errors)))
        else:
            axis.grid(visible=False, axis="x")
            axis.margins(y=0.1)
        axis.set(ylabel=axis_label("mean absolute error", unit, 2.8))
        add_title(figure, title)
        return figure


def _highest(errors: Mapping[str, Values]) -> float | None:
    """Return where an axis of errors ends; None for all of them."""
    highest = {name: float(np.nanmax(by_step, initial=0.0)) for name, by_step in errors.items()}
    naive = [value for name, value in highest.items() if name != "forecast"]
    limit = TALLEST * max(highest.get("forecast", 0.0), min(naive, default=0.0))
    return limit if max(highest.values()) > limit > 0 else None


def error_by_channel(errors: Mapping[str, Values], channels: Sequence[str], title: str) -> Figure:
    """Draw the mean absolute error of the standardised values of each channel `[Y]`, the largest at the top.

    Of many channels, those with the largest errors of the first method are drawn.
    """
    first = next(iter(errors.values()))
    order = np.argsort(np.nan_to_num(first, nan=-1.0), kind="stable")[-MAX_CHANNELS:]
    part = "" if len(order) == len(channels) else f"; the {len(order)} of {len(channels)} channels with the largest errors"
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 1.6 + 0.28 * len(order)))
        for name, by_channel in errors.items():
            marker: dict[str, Any] = {"marker": MARKERS.get(name, "s"), "markersize": 7, "zorder": 2 + (name == "forecast")}
            colour = COLOURS.get(name, GREEN)
            axis.plot(by_channel[order], np.arange(len(order)), linestyle="none", color=colour, label=name, **marker)
        axis.set_yticks(np.arange(len(order)), [literal(channels[number], 40) for number in order])
        axis.set(xlabel="mean absolute error, standard deviations of the training split", xlim=(0, None))
        axis.margins(y=0.5 / max(1, len(order)))
        legend_above(axis, ncols=min(3, len(errors)))
        add_title(figure, f"{title}{part}")
        return figure
