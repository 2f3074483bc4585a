"""Figure of the errors of forecasts by series."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reprise.figures.forecasting import COLOURS, MARKERS
from reprise.figures.style import GREEN, GREY, STYLE, add_title, legend_above
from reprise.figures.text import labels

Values = npt.NDArray[np.float64]
MOST_SERIES = 40
"""The most series that are drawn: those with the largest errors of the forecast."""
NAME_COLUMNS = 30
"""Maximum width of the name of a series, in columns."""


def error_by_series(mase: Mapping[str, Values], series: Sequence[str], title: str) -> Figure:
    """Draw the MASE of each series by method, the largest of the forecast at the top. NaN is left out."""
    order = np.argsort(np.nan_to_num(mase["forecast"], nan=-1.0), kind="stable")[-MOST_SERIES:]
    if len(order) < len(series):
        title += f"\nthe {len(order)} of {len(series):,} series with the largest errors"
    names = labels(series, NAME_COLUMNS)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 1.8 + 0.28 * len(order)))
        axis.axvline(1, color=GREY, linewidth=1, linestyle=":")
        for name, errors in mase.items():
            marker: dict[str, Any] = {"marker": MARKERS.get(name, "s"), "markersize": 7, "zorder": 2 + (name == "forecast")}
            colour = COLOURS.get(name, GREEN)
            axis.plot(errors[order], np.arange(len(order)), linestyle="none", color=colour, label=name, **marker)
        axis.set_yticks(np.arange(len(order)), [names[number] for number in order])
        axis.set(xlabel="MASE (1: error of repeating the last value, on train)", xlim=(0, None))
        axis.margins(y=0.5 / max(1, len(order)))
        legend_above(axis, ncols=min(3, len(mase)))
        add_title(figure, title)
        return figure
