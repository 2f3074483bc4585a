"""Figures of prediction intervals. Shapes: `S` forecast steps, `P` past time steps, `L` levels of the intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from reprise.figures.dates import Times, Values, days_of, format_dates
from reprise.figures.forecasting import MAX_MARKERS, axis_label
from reprise.figures.style import BLUE, CHANNELS, GREY, ORANGE, STYLE, add_title, legend_above
from reprise.figures.text import literal

ALPHAS = (0.5, 0.28, 0.14)
"""Opacity of the bands, the narrowest first."""
MAX_LINES = 8
"""Maximum number of channels with a line of their own."""


@dataclass(frozen=True)
class Fan:
    """One forecast of a channel: the end of its lookback `[P]`, its steps `[S]`, and its intervals by level."""

    past_time: Times
    past: Values
    time: Times
    truth: Values
    predicted: Values
    bounds: Mapping[float, tuple[Values, Values]]


def fan_chart(fans: Sequence[Fan], channel: str, unit: str, title: str) -> Figure:
    """Draw forecasts with their intervals as nested bands, one window in each panel."""
    rows = -(-len(fans) // 2)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(11, 2.3 * rows + 0.8), sharey=True, squeeze=False)
        for axis, fan in zip(axes.flat, fans, strict=False):
            _draw_fan(axis, fan)
        for axis in axes.flat[len(fans) :]:
            axis.set_axis_off()
        for axis in axes[:, 0]:
            axis.set(ylabel=axis_label(literal(channel, 40), unit, 2))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=len(labels))
        add_title(figure, title)
        return figure


def _draw_fan(axis: Axes, fan: Fan) -> None:
    past, ahead = days_of(fan.past_time), days_of(fan.time)
    markers: dict[str, Any] = {"marker": "o", "markersize": 3.5} if len(ahead) <= MAX_MARKERS else {}
    known = np.append(past[-1:], ahead)
    _draw_bands(axis, known, {level: _joined(fan.past[-1], bounds) for level, bounds in fan.bounds.items()})
    axis.plot(known, np.append(fan.past[-1:], fan.predicted), color=ORANGE, linewidth=1.4, label="forecast")
    axis.plot(past, fan.past, color="black", linewidth=1.0, label="past")
    axis.plot(ahead, fan.truth, color="black", linewidth=1.0, linestyle="--" if not markers else "none", label="truth", **markers)
    axis.axvline(past[-1], color="#a0a0a0", linewidth=0.8, zorder=0)
    first = np.datetime_as_string(fan.time[0], "m").replace("T", " ").removesuffix(" 00:00")
    axis.set_title(f"from {first}", fontsize=9)
    format_dates(axis)


def _joined(last: float, bounds: tuple[Values, Values]) -> tuple[Values, Values]:
    """Return bounds `[S + 1]` that start at the last known value."""
    lower, upper = bounds
    return np.append(last, lower), np.append(last, upper)


def _draw_bands(axis: Axes, days: Values, bounds: Mapping[float, tuple[Values, Values]]) -> None:
    for (level, (lower, upper)), alpha in zip(sorted(bounds.items()), ALPHAS, strict=False):
        axis.fill_between(days, lower, upper, color=ORANGE, alpha=alpha, linewidth=0, label=f"{100 * level:g} % interval")


def bands(
    time: Times,
    truth: Values,
    predicted: Values,
    bounds: Mapping[float, tuple[Values, Values]],
    channel: str,
    unit: str,
    title: str,
) -> Figure:
    """Draw consecutive forecasts of one step `[N]` with their intervals by level, and the truth."""
    days = days_of(time)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(11, 4.2))
        _draw_bands(axis, days, bounds)
        axis.plot(days, predicted, color=ORANGE, linewidth=1.2, label="forecast")
        axis.plot(days, truth, color="black", linestyle="none", marker="o", markersize=3, label="truth")
        axis.set(ylabel=axis_label(literal(channel, 40), unit, 3))
        legend_above(axis)
        format_dates(axis)
        add_title(figure, title)
        return figure


def calibration(levels: Sequence[float], coverage: Mapping[str, Values], by_step: Mapping[float, Values], title: str) -> Figure:
    """Draw the measured coverage against the stated one, and the coverage of some levels at each step.

    Args:
        levels: the stated shares `[L]`.
        coverage: the measured shares `[L]`, by channel.
        by_step: the measured shares at each step `[S]`, by level.
        title: the title.

    """
    steps = len(next(iter(by_step.values()))) if by_step else 1
    with plt.style.context(STYLE):
        columns: dict[str, Any] = {"figsize": (10.5, 4.6), "width_ratios": (1, 1.2)} if steps > 1 else {"figsize": (5.4, 5.2)}
        figure: Figure
        figure, axes = plt.subplots(1, 1 + (steps > 1), squeeze=False, **columns)
        _draw_calibration(axes[0, 0], levels, coverage)
        if steps > 1:
            _draw_by_step(axes[0, 1], by_step)
        add_title(figure, title)
        return figure


def _draw_calibration(axis: Axes, levels: Sequence[float], coverage: Mapping[str, Values]) -> None:
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="as stated")
    many = len(coverage) > MAX_LINES
    for number, (channel, measured) in enumerate(coverage.items()):
        line: dict[str, Any] = {"color": BLUE, "alpha": 0.35} if many else {"color": CHANNELS[number]}
        label = literal(channel, 24) if not many else f"{len(coverage)} channels" if not number else None
        axis.plot([0, *levels], [0, *measured], marker="o", markersize=4, linewidth=1.4, label=label, **line)
    axis.set(xlabel="stated coverage", ylabel="share of the truth within the interval", xlim=(0, 1), ylim=(0, 1.02))
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.set_aspect("equal")
    legend_above(axis, ncols=2)


def _draw_by_step(axis: Axes, by_step: Mapping[float, Values]) -> None:
    for (level, measured), colour in zip(by_step.items(), (BLUE, ORANGE), strict=False):
        steps = np.arange(1, len(measured) + 1)
        markers: dict[str, Any] = {"marker": "o", "markersize": 4} if len(steps) <= MAX_MARKERS else {}
        axis.plot(steps, measured, color=colour, label=f"{100 * level:g} % interval", **markers)
        axis.axhline(level, color=colour, linewidth=1, linestyle="--")
    lowest = min(float(measured.min()) for measured in by_step.values())
    axis.set(xlabel="steps ahead", ylim=(min(0.6, lowest - 0.05), 1.01))
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    legend_above(axis)
