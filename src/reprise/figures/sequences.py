"""Line plots of labelled sequences. Shapes: `T` time steps of a sequence, `C` channels."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reprise.figures.style import CHANNELS, PICTURES, sample_grid
from reprise.figures.text import labels

Values = npt.NDArray[np.float32]
COLUMNS = 6
NAME_COLUMNS = 16
"""Maximum width of a channel name in the legend, in columns."""


def sequence_grid(
    sequences: Sequence[Values], titles: Sequence[str], colours: Sequence[str], title: str, channels: Sequence[str] = ()
) -> Figure:
    """Draw a grid of sequences `[T, C]`, one line a channel, on common axes: lengths and values can be compared.

    Steps are numbered from 1. The colours of two or more channels are in a legend, unless a colour stands for several.
    """
    steps = max(len(sequence) for sequence in sequences)
    low, high = (float(reduce([reduce(one) for one in sequences])) for reduce in (np.min, np.max))
    margin = 0.05 * (high - low) or 1.0
    draw = [partial(_lines, sequence=one, steps=steps, limits=(low - margin, high + margin)) for one in sequences]
    figure = sample_grid(draw, titles, colours, title, COLUMNS)
    columns = min(COLUMNS, max(3, len(draw)))
    figure.axes[(len(draw) - 1) // columns * columns].set_xlabel("time step", fontsize=7, labelpad=1)
    if 1 < len(channels) <= len(CHANNELS):
        with plt.style.context(PICTURES):
            lines = [Line2D([], [], color=colour) for colour in CHANNELS[: len(channels)]]
            shown = labels(channels, NAME_COLUMNS)
            figure.legend(lines, shown, loc="outside lower left", ncols=min(4, len(lines)), fontsize=8.5)
    return figure


def _lines(axis: Axes, sequence: Values, steps: int, limits: tuple[float, float]) -> None:
    marker = "." if len(sequence) == 1 else None  # a line of one point would not be seen
    numbers = np.arange(1, len(sequence) + 1)
    for number, channel in enumerate(sequence.T):
        axis.plot(numbers, channel, color=CHANNELS[number % len(CHANNELS)], linewidth=0.9, marker=marker)
    axis.set(xlim=(0.5, max(steps + 0.5, 1.5)), ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(3, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.tick_params(labelsize=6, length=2, pad=1)
    axis.label_outer()
