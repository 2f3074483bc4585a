"""Figure of forecasts after the last known value. Shapes: `P` known time steps, `S` forecast steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reprise.figures.dates import Times, Values, days_of, format_dates
from reprise.figures.style import ORANGE, STYLE, add_title, legend_above
from reprise.figures.text import literal, wrap

PANELS = 8
"""The most panels of a figure."""
MARKED = 40
"""The most forecast steps that get markers."""


@dataclass(frozen=True)
class Panel:
    """One channel of one series."""

    title: str
    unit: str
    past_time: Times
    """[P]."""
    past: Values
    """[P]."""
    time: Times
    """[S]."""
    forecast: Values
    """[S]."""
    lower: Values | None
    """[S]: the lower end of the interval."""
    upper: Values | None
    """[S]: the upper end of the interval."""


def new_forecast(panels: Sequence[Panel], title: str, coverage: float) -> Figure:
    """Draw the last known values and the forecast with its interval, one panel below the other; of many, the first."""
    shown = panels[:PANELS]
    if len(panels) > len(shown):
        title += f"\nthe first {len(shown)} of {len(panels):,} forecasts"
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(len(shown), 1, figsize=(9, max(3.6, 2.1 * len(shown) + 0.6)), squeeze=False)
        for axis, panel in zip(axes[:, 0], shown, strict=True):
            _draw(axis, panel, coverage)
        legend_above(axes[0, 0])
        figure.align_ylabels()
        add_title(figure, title)
        return figure


def _draw(axis: Axes, panel: Panel, coverage: float) -> None:
    past, ahead = days_of(panel.past_time), days_of(panel.time)
    joined = np.concatenate([past[-1:], ahead]), np.concatenate([panel.past[-1:], panel.forecast])
    markers: dict[str, Any] = {"marker": "o", "markersize": 3, "markevery": slice(1, None)} if len(ahead) <= MARKED else {}
    axis.plot(past, panel.past, color="black", linewidth=1.2, label="known")
    axis.plot(*joined, color=ORANGE, linewidth=1.5, label="forecast", **markers)
    if panel.lower is not None and panel.upper is not None:
        label = f"{100 * coverage:g} % interval"
        if len(ahead) == 1:
            reach = [panel.forecast - panel.lower, panel.upper - panel.forecast]
            axis.errorbar(ahead, panel.forecast, np.clip(reach, 0, None), color=ORANGE, alpha=0.5, linewidth=4, label=label)
        else:
            axis.fill_between(ahead, panel.lower, panel.upper, color=ORANGE, alpha=0.22, linewidth=0, label=label)
    quantity = literal(panel.title, 40)
    axis.set(ylabel=wrap(f"{quantity}, {literal(panel.unit, 40)}" if panel.unit else quantity, 1.8, 10))
    format_dates(axis)
