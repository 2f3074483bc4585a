"""Heat maps of pictures that are classified by their tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from reprise.figures.style import PICTURES, add_title, show
from reprise.figures.text import literal

HEAT = "viridis"
"""Dark for 0, yellow for 1; readable in grey and for colour-blind readers."""
LARGEST_SIDE = 512
"""Pictures with a longer side are drawn at every second, third, … pixel."""
OPACITY = 0.55
COLUMNS = 4
WIDTH = 2.6
"""Width of a picture in inches."""


@dataclass(frozen=True)
class HeatMap:
    """A picture with the probability of a class at each pixel."""

    picture: npt.NDArray[np.uint8]
    """[H, W, C]."""
    heat: npt.NDArray[np.float32] | None
    """[H, W], 0 to 1; None to draw the picture alone."""
    title: str


def heat_maps(pictures: Sequence[HeatMap], title: str) -> Figure:
    """Draw pictures in a grid under the colours of their probabilities, with one scale from 0 to 1 for all."""
    columns = min(COLUMNS, len(pictures))
    rows = -(-len(pictures) // columns)
    with plt.style.context(PICTURES):
        tallest = min(2.0, max(one.picture.shape[0] / one.picture.shape[1] for one in pictures))
        figsize = WIDTH * columns + 0.8, (WIDTH * tallest + 0.45) * rows + 0.6
        figure, axes = plt.subplots(rows, columns, figsize=figsize, squeeze=False)
        for axis in axes.flat[len(pictures) :]:
            axis.set_axis_off()
        images = [_draw(axis, one) for axis, one in zip(axes.flat, pictures, strict=False)]
        add_title(figure, title)
        if heated := [image for image in images if image is not None]:
            figure.colorbar(heated[0], ax=axes, label="probability", aspect=30)
        return figure


def _draw(axis: Axes, one: HeatMap) -> AxesImage | None:
    every = -(-max(one.picture.shape[:2]) // LARGEST_SIDE)
    thin = partial(_every, step=every)
    axis.set_title("\n".join(literal(line) if line else "" for line in one.title.split("\n")))
    if one.heat is None:
        show(axis, thin(one.picture))
        return None
    grey = thin(one.picture).mean(-1).astype(np.uint8)  # colours would mix with those of the heat
    show(axis, grey)
    return axis.imshow(thin(one.heat), cmap=HEAT, vmin=0, vmax=1, alpha=OPACITY)


def _every(array: npt.NDArray[np.generic], step: int) -> npt.NDArray[np.generic]:
    return array[::step, ::step]
