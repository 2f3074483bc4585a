"""Axes of time: date numbers and their labels."""

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
from matplotlib.ticker import FixedFormatter, FixedLocator

Values = npt.NDArray[np.float64]
Times = npt.NDArray[np.datetime64]


def days_of(time: Times) -> Values:
    """Return timestamps as matplotlib's date numbers (days)."""
    return np.asarray(date2num(time), np.float64)  # type: ignore[no-untyped-call]


def format_dates(axis: Axes) -> None:
    """Label a horizontal axis of date numbers with concise dates in UTC. Call it after the data is drawn.

    The ticks are computed once here; matplotlib computes them a dozen times while it lays out and draws a figure.
    """
    locator = AutoDateLocator(tz="UTC", minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    formatter = ConciseDateFormatter(locator, tz="UTC")  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(locator)
    ticks = np.asarray(axis.xaxis.get_majorticklocs()).tolist()
    labels = FixedFormatter(formatter.format_ticks(ticks))  # type: ignore[no-untyped-call]
    labels.set_offset_string(formatter.get_offset())  # type: ignore[no-untyped-call]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_major_formatter(labels)
