"""Figures of what a network computes: first-layer filters, feature maps, attributions.

Shapes: `F` features, `H W` positions, `C` channels.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reprise.figures.style import DIVERGING, PICTURES, add_title, brightened, show, show_grid
from reprise.figures.text import labels
from reprise.figures.text import width as columns_of

Array = npt.NDArray[np.float32]
MIN_TILE = 56
"""Minimum side of a drawn feature map, in pixels."""
MAX_MAPS = 16
"""Maximum number of features of one convolution in a figure."""
NAME_COLUMNS = 22
"""Maximum width of the name of an image, in columns."""


def filters(weights: Array, title: str) -> Figure:
    """Draw first-layer filters `[F, height, width, C]`: signed weights, or three channels as colours around grey."""
    columns = min(8, len(weights))
    rows = -(-len(weights) // columns)
    largest = np.abs(weights).max()
    coloured = weights.shape[-1] == 3
    drawn = 0.5 + weights / (2 * largest) if coloured else weights.mean(axis=-1)
    options: dict[str, Any] = {} if coloured else {"cmap": DIVERGING, "vmin": -largest, "vmax": largest}
    numbers = [str(number) for number in range(len(weights))]
    with plt.style.context(PICTURES):
        figure, axis = plt.subplots(figsize=(0.95 * columns + 1.2, 1.1 * rows + 0.45))
        image = show_grid(axis, drawn, numbers, ["black"] * len(weights), columns, (0.95, 1.1), 9, **options)
        if not coloured:
            figure.colorbar(image, ax=axis, shrink=0.8, label="weight")
        add_title(figure, title)
        return figure


def feature_maps(images: npt.NDArray[np.uint8], names: Sequence[str], maps: Array, title: str) -> Figure:
    """Draw a row for each image: the image, then its most active feature maps of one convolution, `[N, H, W, F]`.

    Each map has its own brightness scale.
    """
    shown = labels(names, NAME_COLUMNS)
    strongest = np.sort(np.argsort(maps.mean(axis=(0, 1, 2)))[::-1][:MAX_MAPS])
    selected = np.moveaxis(maps[..., strongest], -1, 1)  # [N, shown, H, W]
    low, high = (reduce(selected, axis=(2, 3), keepdims=True) for reduce in (np.min, np.max))
    coloured = mpl.colormaps["viridis"]((selected - low) / np.where(high > low, high - low, 1), bytes=True)[..., :3]
    pictures = np.broadcast_to(brightened(images), (*images.shape[:3], 3))[:, None]
    sizes = [max(MIN_TILE, *pair) for pair in zip(images.shape[1:3], maps.shape[1:3], strict=True)]
    tiles = np.concatenate([_enlarged(pictures, *sizes), _enlarged(coloured, *sizes)], axis=1)
    rows, columns = tiles.shape[:2]
    (height, width), gap = sizes, max(1, min(sizes) // 10)
    whole = np.full((rows, height + gap, columns, width + gap, 3), 255, np.uint8)
    whole[:, :height, :, :width] = tiles.transpose(0, 2, 1, 3, 4)
    margin = 0.4 + 0.085 * max(map(columns_of, shown))
    with plt.style.context(PICTURES):
        figure, axis = plt.subplots(figsize=(max(0.72 * columns * width / height + margin, 5), 0.72 * rows + 0.9))
        show(axis, whole.reshape(rows * (height + gap), columns * (width + gap), 3))
        for row, name in enumerate(shown):
            middle = row * (height + gap) + height / 2
            axis.text(-gap, middle, name, ha="right", va="center", fontsize=9)
        for column, number in enumerate(strongest, start=1):
            middle = column * (width + gap) + width / 2
            axis.text(middle, -gap, str(number), ha="center", va="bottom", fontsize=9)
        add_title(figure, title)
        return figure


def _enlarged(tiles: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
    """Return tiles `[rows, columns, h, w, C]`, resized by nearest neighbour."""
    down, across = (np.arange(size) * extent // size for size, extent in zip((height, width), tiles.shape[2:4], strict=True))
    return tiles[:, :, down][:, :, :, across]


def attribution(
    images: npt.NDArray[np.uint8],
    headings: Sequence[str],
    colours: Sequence[str],
    parts: Sequence[Sequence[tuple[str, Array]]],
    title: str,
) -> Figure:
    """Draw a row for each image: the image, then its attribution map for each requested class."""
    with plt.style.context(PICTURES):
        columns = 1 + max(len(maps) for maps in parts)
        figure, axes = plt.subplots(len(images), columns, figsize=(2.3 * columns + 0.8, 2.5 * len(images) + 0.5), squeeze=False)
        for row, (image, heading, maps, colour) in enumerate(zip(brightened(images), headings, parts, colours, strict=True)):
            show(axes[row, 0], image)
            axes[row, 0].set_title(heading, color=colour)
            strength = [amount.sum(axis=-1) for _, amount in maps]
            largest = max(float(np.quantile(np.abs(one), 0.995)) for one in strength) or 1.0
            for axis in axes[row, 1:]:
                axis.set_axis_off()
            for axis, (name, _), amount in zip(axes[row, 1:], maps, strength, strict=False):
                drawn = show(axis, amount, cmap=DIVERGING, vmin=-largest, vmax=largest)
                axis.set_title(name)
            bar = figure.colorbar(drawn, ax=axes[row, :], shrink=0.75, aspect=14, ticks=[-largest, 0, largest])
            bar.ax.set_yticklabels(["against", "0", "for"])
        add_title(figure, title)
        return figure
