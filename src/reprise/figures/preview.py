"""Preview of a series before any training."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reprise.figures.dates import days_of, format_dates
from reprise.figures.style import BLUE, ORANGE, STYLE, add_title, legend_above
from reprise.figures.text import literal, wrap

MAX_POINTS = 20_000
"""Maximum number of points of a line: of a longer series, the mean of equal blocks is drawn."""


def channels(
    time: npt.NDArray[np.datetime64],
    values: npt.NDArray[np.floating],
    filled: npt.NDArray[np.bool_],
    labels: Sequence[str],
    title: str,
) -> Figure:
    """Draw each channel `[T, C]` over time, with filled values marked.

    Args:
        time: time stamps, `[T]`.
        values: values of the channels, `[T, C]`.
        filled: whether a value is not in the file, `[T, C]`.
        labels: channel names with units, `[C]`.
        title: title of the figure.

    """
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(len(labels), 1, figsize=(9, 1.5 * len(labels) + 1.0), sharex=True, squeeze=False)
        block = -(-len(time) // MAX_POINTS)
        days = days_of(time)
        for axis, column, absent, label in zip(axes[:, 0], values.T, filled.T, labels, strict=True):
            axis.plot(_means(days, block), _means(column.astype(np.float64), block), color=BLUE, linewidth=0.8)
            if absent.any():
                axis.plot(days[absent], column[absent], ".", color=ORANGE, markersize=3, label=f"{absent.sum():,} filled values")
                legend_above(axis, fontsize=8)
            axis.set_ylabel(wrap(literal(label, 40), 1.4, 9), fontsize=9)
        format_dates(axes[-1, 0])
        figure.align_ylabels()
        add_title(figure, title)
        return figure


def _means(values: npt.NDArray[np.float64], block: int) -> npt.NDArray[np.float64]:
    starts = np.arange(0, len(values), block)
    means: npt.NDArray[np.float64] = np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))
    return means
