"""What all figures share: colours, type, the grid of pictures, and how they are written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
"""Okabe and Ito 2008."""
DIVERGING = "PuOr_r"
"""Orange above zero, purple below: told apart by the colour-blind too."""
STYLE: dict[str, Any] = {
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "legend.frameon": False,
}
PICTURES = STYLE | {"axes.grid": False, "axes.titlelocation": "center", "axes.titlesize": 9, "axes.titlepad": 3}


def save(figure: Figure, file: Path) -> None:
    """Write a PNG whose bytes depend on the figure alone, and close it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)


def head(figure: Figure, title: str) -> None:
    """The title of the whole figure, at its left."""
    figure.suptitle(title, x=0.01, ha="left")


def show(axis: Axes, image: npt.NDArray[Any], **options: Any) -> Any:
    """A picture without ticks: `[H, W, C]` with C = 1 (grey) or 3 (colour), `uint8`, or `[H, W]` with a colour map of its own."""
    axis.set_axis_off()
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8:
        options = {"cmap": "gray", "vmin": 0, "vmax": 255} | options
    return axis.imshow(image, **options)


def picture_grid(
    images: npt.NDArray[np.uint8], titles: Sequence[str], colours: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """Pictures `[N, H, W, C]` in rows, each with its title."""
    rows = -(-len(images) // columns)
    with plt.style.context(PICTURES):
        figure, axes = plt.subplots(rows, columns, figsize=(1.5 * columns, 1.75 * rows + 0.5), squeeze=False)
        for axis in axes.flat[len(images) :]:
            axis.set_axis_off()
        for axis, image, said, colour in zip(axes.flat, images, titles, colours, strict=False):
            show(axis, image)
            axis.set_title(said, color=colour)
        head(figure, title)
        return figure
