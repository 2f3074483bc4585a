"""Line plots of labelled sequences. Shapes: `T` time steps of a sequence, `C` channels."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprise.figures.style import CHANNELS, sample_grid

Values = npt.NDArray[np.float32]


def sequence_grid(sequences: Sequence[Values], titles: Sequence[str], colours: Sequence[str], title: str) -> Figure:
    """Draw a grid of sequences `[T, C]`, one line a channel, on common axes: lengths and values can be compared."""
    steps = max(len(sequence) for sequence in sequences)
    low, high = (float(reduce([reduce(one) for one in sequences])) for reduce in (np.min, np.max))
    margin = 0.05 * (high - low) or 1.0
    draw = [partial(_lines, sequence=one, steps=steps, limits=(low - margin, high + margin)) for one in sequences]
    return sample_grid(draw, titles, colours, title)


def _lines(axis: Axes, sequence: Values, steps: int, limits: tuple[float, float]) -> None:
    marker = "." if len(sequence) == 1 else None  # a line of one point would not be seen
    for number, channel in enumerate(sequence.T):
        axis.plot(channel, color=CHANNELS[number % len(CHANNELS)], linewidth=0.9, marker=marker)
    axis.set(xlim=(-0.5, max(steps - 0.5, 0.5)), ylim=limits)
    axis.xaxis.set_major_locator(MaxNLocator(2, integer=True))
    axis.yaxis.set_major_locator(MaxNLocator(3))
    axis.tick_params(labelsize=6, length=2, pad=1)
