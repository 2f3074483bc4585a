"""What a network sees: its first filters, its feature maps, and what of an image speaks for a class.

Shapes: `F` features, `H W` positions, `C` channels.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reprise.figures.style import DIVERGING, PICTURES, head, show

Array = npt.NDArray[np.float32]
SHOWN = 16
"""The most features of one convolution in a figure."""


def filters(weights: Array, title: str) -> Figure:
    """First-layer filters `[F, height, width, C]`: weights of either sign, or, over three channels, as colours around grey."""
    columns = min(8, len(weights))
    rows = -(-len(weights) // columns)
    largest = np.abs(weights).max()
    with plt.style.context(PICTURES):
        figure, axes = plt.subplots(rows, columns, figsize=(0.95 * columns + 1.2, 1.1 * rows + 0.6), squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for number, (axis, one) in enumerate(zip(axes.flat, weights, strict=False)):
            if one.shape[-1] == 3:
                show(axis, 0.5 + one / (2 * largest))
            else:
                image = show(axis, one.mean(axis=-1), cmap=DIVERGING, vmin=-largest, vmax=largest)
            axis.set_title(str(number))
        if weights.shape[-1] != 3:
            figure.colorbar(image, ax=axes, shrink=0.8, label="weight")
        head(figure, title)
        return figure


def feature_maps(images: npt.NDArray[np.uint8], names: Sequence[str], maps: Array, title: str) -> Figure:
    """One row a picture: itself, then what the most active features of one convolution make of it `[N, H, W, F]`."""
    strongest = np.sort(np.argsort(maps.mean(axis=(0, 1, 2)))[::-1][:SHOWN])
    with plt.style.context(PICTURES):
        size = (0.72 * (len(strongest) + 1) + 0.9, 0.76 * len(images) + 0.9)
        figure, axes = plt.subplots(len(images), len(strongest) + 1, figsize=size, squeeze=False)
        for row, (image, name, features) in enumerate(zip(images, names, maps, strict=True)):
            show(axes[row, 0], image)
            axes[row, 0].text(-0.15, 0.5, name, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=9)
            for axis, number in zip(axes[row, 1:], strongest, strict=True):
                show(axis, features[..., number], cmap="viridis")
                if row == 0:
                    axis.set_title(str(number))
        head(figure, title)
        return figure


def attribution(
    images: npt.NDArray[np.uint8],
    headings: Sequence[str],
    colours: Sequence[str],
    parts: Sequence[Mapping[str, Array]],
    title: str,
) -> Figure:
    """One row a picture: itself, then for each class asked about (by its heading) what speaks for it and what against it."""
    with plt.style.context(PICTURES):
        columns = 1 + max(len(asked) for asked in parts)
        figure, axes = plt.subplots(len(images), columns, figsize=(2.3 * columns + 0.8, 2.5 * len(images) + 0.5), squeeze=False)
        for row, (image, heading, asked, colour) in enumerate(zip(images, headings, parts, colours, strict=True)):
            show(axes[row, 0], image)
            axes[row, 0].set_title(heading, color=colour)
            strength = [amount.sum(axis=-1) for amount in asked.values()]
            largest = max(float(np.quantile(np.abs(one), 0.995)) for one in strength) or 1.0
            for axis in axes[row, 1:]:
                axis.set_axis_off()
            for axis, name, amount in zip(axes[row, 1:], asked, strength, strict=False):
                seen = show(axis, amount, cmap=DIVERGING, vmin=-largest, vmax=largest)
                axis.set_title(name)
            bar = figure.colorbar(seen, ax=axes[row, :], shrink=0.75, aspect=14, ticks=[-largest, 0, largest])
            bar.ax.set_yticklabels(["against", "0", "for"])
        head(figure, title)
        return figure
