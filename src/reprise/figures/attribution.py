"""Figures of attributions to channels and time steps. Shapes: `T` time steps, `C` channels, `S` forecast steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reprise.figures.dates import Times, Values, days_of, format_dates
from reprise.figures.style import BLUE, DIVERGING, ORANGE, STYLE, add_title
from reprise.figures.text import labels, literal, wrap

PANELS = 8
"""The most channels whose values are drawn."""
MARKED = 40
"""The most forecast steps that get markers."""
ROWS = 40
"""The most channels of a heat map."""
NAME_COLUMNS = 24
"""Maximum width of a channel name, in columns."""
HALO = [patheffects.withStroke(linewidth=3, foreground="white")]
"""White around a line, so that it is seen on any colour."""


@dataclass(frozen=True)
class Panel:
    """One channel of a sample."""

    name: str
    share: float
    """Share of the channel in all absolute attributions."""
    values: Values
    """[T]."""
    attribution: Values
    """[T]."""
    span: tuple[int, int]
    """First and last index of the shortest span with half of the channel's absolute attribution."""
    unit: str = ""


@dataclass(frozen=True)
class Ahead:
    """The forecast of a channel after its last step."""

    time: Times
    """[S]."""
    values: Values
    """[S]."""
    channel: str


def attributed(
    panels: Sequence[Panel], steps: Values | Times, title: str, scale: str, ahead: Ahead | None = None, ticks: bool = False
) -> Figure:
    """Draw the values of each channel over its attribution as colour, one panel below the other; of many, the first.

    `steps` are numbers or times `[T]`. `scale` is the label of the colours, with numbers beside it if `ticks` is true.
    """
    important = [panel for panel in panels if panel.share > 0] or panels[:1]
    shown = important[:PANELS]
    notes = [f"the {len(shown)} most important of {len(panels):,} channels"] if len(shown) < len(important) else []
    if len(important) < len(panels):
        notes.append(f"{len(panels) - len(important):,} of {len(panels):,} channels have no attribution")
    title = "\n".join([title, *filter(None, ["; ".join(notes)])])
    dated = np.issubdtype(steps.dtype, np.datetime64)
    positions = days_of(steps) if dated else np.asarray(steps, np.float64)  # type: ignore[arg-type]
    largest = max(float(np.quantile(np.abs(panel.attribution), 0.995)) for panel in shown) or 1.0
    height = max(3.4, (1.45 if len(shown) > 1 else 2.4) * len(shown) + 1.2)
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, axes = plt.subplots(len(shown), 1, figsize=(9, height), sharex=True, squeeze=False)
        for axis, panel in zip(axes[:, 0], shown, strict=True):
            colours = _draw(axis, panel, positions, largest)
        if ahead:
            _draw_ahead(axes[:, 0].tolist(), [panel.name for panel in shown], ahead)
        if dated:
            format_dates(axes[-1, 0])
        else:
            axes[-1, 0].set(xlabel="time step")
            axes[-1, 0].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        handles = {label: handle for axis in axes[:, 0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        figure.legend(list(handles.values()), list(handles), loc="outside lower left", ncols=3)
        bar = figure.colorbar(colours, ax=axes[:, 0].tolist(), aspect=8 * height, pad=0.01)
        bar.set_label(wrap(literal(scale, 90), height - 1.5, 10))
        bar.set_ticks([-largest, 0, largest])
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _number(value) if ticks or not value else ""))
        figure.align_ylabels()
        add_title(figure, title)
        return figure


def _number(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _draw_ahead(axes: Sequence[Axes], names: Sequence[str], ahead: Ahead) -> None:
    """Draw the forecast into the panel of its channel, if it has one."""
    if ahead.channel in names:
        axis, time = axes[names.index(ahead.channel)], days_of(ahead.time)
        marker = "o" if len(time) <= MARKED else None
        axis.plot(time, ahead.values, color=ORANGE, linewidth=1.5, marker=marker, markersize=3, label="forecast")
        (left, right), (low, high) = axis.get_xlim(), axis.get_ylim()
        margin = 0.12 * (high - low)
        axis.set(
            xlim=(left, max(right, time[-1] + 0.02 * (time[-1] - left))),
            ylim=(min(low, ahead.values.min() - margin), max(high, ahead.values.max() + margin)),
        )


def _draw(axis: Axes, panel: Panel, positions: Values, largest: float) -> Any:
    edges = _edges(positions)
    colours = axis.pcolormesh(
        edges, [0, 1], panel.attribution[None], cmap=DIVERGING, vmin=-largest, vmax=largest, transform=axis.get_xaxis_transform()
    )
    marker = "o" if len(positions) == 1 else None
    axis.plot(positions, panel.values, color="black", linewidth=1.2, marker=marker, path_effects=HALO, label="value")
    first, last = panel.span
    axis.plot(
        [edges[first], edges[last + 1]],
        [0.025, 0.025],
        color=BLUE,
        linewidth=4,
        solid_capstyle="butt",
        transform=axis.get_xaxis_transform(),
        label="shortest span with half of the channel's attribution",
    )
    low, high = float(np.nanmin(panel.values)), float(np.nanmax(panel.values))
    margin = 0.12 * (high - low) or 1.0
    axis.set(ylim=(low - margin, high + margin), xlim=(edges[0], edges[-1]))
    name = literal(panel.name, NAME_COLUMNS)
    label = f"{name}, {literal(panel.unit, NAME_COLUMNS)}" if panel.unit else name
    axis.set_ylabel(wrap(label, 1.3, 10))
    axis.set_title(f"{100 * panel.share:.0f} % of the attribution", fontsize=8.5, loc="right", pad=2)
    axis.yaxis.set_major_locator(MaxNLocator(4))
    return colours


def _edges(positions: Values) -> Values:
    """Return the borders between positions, and those before the first and after the last, `[T + 1]`."""
    if len(positions) == 1:
        return np.array([positions[0] - 0.5, positions[0] + 0.5])
    middle: Values = (positions[1:] + positions[:-1]) / 2
    return np.concatenate([[2 * positions[0] - middle[0]], middle, [2 * positions[-1] - middle[-1]]])


def importance(strength: Values, channels: Sequence[str], steps: Sequence[int], step_name: str, title: str) -> Figure:
    """Draw mean absolute attributions `[T, C]` as a heat map of channels and steps, and the share of each channel.

    Of many channels, the most important are drawn. `steps` are the consecutive numbers of the steps, rising or falling.
    """
    shares = strength.sum(axis=0) / (strength.sum() or 1.0)
    order = np.argsort(-shares, kind="stable")[:ROWS]
    if len(order) < len(channels):
        title += f"\nthe {len(order)} most important of {len(channels):,} channels"
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(9.5, 1.9 + 0.3 * max(2, len(order))), sharey=True, width_ratios=(4, 1)
        )
        names = labels(channels, NAME_COLUMNS)
        _heat_map(left, strength[:, order].T, [names[number] for number in order], steps, step_name, [left, right])
        right.barh(range(len(order)), 100 * shares[order], color=BLUE, height=0.7)
        right.set(xlabel="share, %", xlim=(0, 100))
        add_title(figure, title)
        return figure


def by_horizon(strength: Values, blocks: Sequence[tuple[int, int]], steps: Sequence[int], step_name: str, title: str) -> Figure:
    """Draw mean absolute attributions `[K, T]` of forecasts as a heat map. `blocks` are their first and last steps ahead."""
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(9.5, 1.9 + 0.3 * max(2, len(blocks))))
        names = [str(first) if first == last else f"{first} – {last}" for first, last in blocks]
        _heat_map(axis, strength, names, steps, step_name, [axis])
        axis.set(ylabel="steps ahead")
        add_title(figure, title)
        return figure


def _heat_map(
    axis: Axes, strength: Values, names: Sequence[str], steps: Sequence[int], step_name: str, beside: Sequence[Axes]
) -> None:
    half = 0.5 if steps[-1] >= steps[0] else -0.5
    extent = (steps[0] - half, steps[-1] + half, len(names) - 0.5, -0.5)
    image = axis.imshow(strength, cmap="Blues", vmin=0, aspect="auto", extent=extent, interpolation="nearest")
    axis.set_yticks(range(len(names)), names)
    axis.set(xlabel=step_name)
    axis.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    bar = axis.figure.colorbar(image, ax=list(beside), aspect=12, pad=0.01, label="mean absolute\nattribution")
    bar.locator = MaxNLocator(3)
    bar.update_ticks()
