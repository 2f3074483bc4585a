"""Shared parts of all figures: colours, fonts, titles, legends, scales, image grids, and saving."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from reprise.figures.text import DEFAULT_FONT, literal, set_fonts, wrap

BLUE, ORANGE, GREEN, GREY, PURPLE = "#0072B2", "#D55E00", "#009E73", "#767676", "#CC79A7"
"""Colour-blind-safe palette of Okabe and Ito 2008."""
CHANNELS = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)
"""Colours of the channels of a sequence, of the same palette; of more channels, colours repeat."""
DIVERGING = "PuOr_r"
"""Orange above zero, purple below; colour-blind safe."""
LITERAL: dict[str, Any] = {"text.parse_math": False, "font.family": DEFAULT_FONT}
"""Class names, channels, titles and units are user text, so text between two `$` is not parsed as a formula."""
NO_LAYOUT: dict[str, Any] = {"figure.constrained_layout.use": False, "figure.autolayout": False}
"""No layout engine for figures."""
STYLE: dict[str, Any] = LITERAL | {
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
PICTURES = STYLE | {
    "axes.grid": False,
    "axes.titlelocation": "center",
    "axes.titlesize": 9,
    "axes.titlepad": 3,
    "axes.titley": 1.0,
}
DARK = 31
"""Grey values up to this one look black."""
TITLE_SIZE = 12
"""Font size of figure titles, in points."""


def save(figure: Figure, file: Path) -> None:
    """Write the figure as a PNG, and close it.

    The bytes depend only on the figure and, for unusual characters, on the installed fonts.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with plt.style.context(LITERAL | NO_LAYOUT):  # tick labels are created while saving
        set_fonts(figure)
        _lay_out(figure)
        figure.savefig(file, metadata={"Software": None})
    plt.close(figure)


def _lay_out(figure: Figure) -> None:
    """Compute the layout and remove its engine: with one, `savefig` draws every figure twice, first without output."""
    if (engine := figure.get_layout_engine()) is not None and figure.axes:
        with contextlib.suppress(ValueError):  # as in `Figure.draw`
            engine.execute(figure)
        figure.set_layout_engine(None)


def add_title(figure: Figure, title: str) -> None:
    """Add a left-aligned, wrapped title to the figure."""
    lines = "\n".join(literal(line) if line else "" for line in title.split("\n"))
    figure.suptitle(wrap(lines, 0.97 * figure.get_figwidth(), TITLE_SIZE), x=0.01, ha="left", fontsize=TITLE_SIZE)


def legend_above(axis: Axes, **options: Any) -> None:
    """Put the legend above the axes, where it covers no data."""
    columns = len(options["handles"] if "handles" in options else axis.get_legend_handles_labels()[1])
    axis.legend(
        **{"ncols": columns} | options, loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, columnspacing=1.2
    )


def count_scale(axis: Axes, counts: npt.NDArray[Any]) -> None:
    """Scale a vertical axis of counts: linear with integer ticks, or logarithmic if the counts differ by more than 50 times."""
    if counts.max() <= 50 * counts.min():
        axis.yaxis.set_major_locator(MaxNLocator(4, integer=True, min_n_ticks=1))
    else:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.yaxis.set_minor_formatter(NullFormatter())


def show(axis: Axes, image: npt.NDArray[Any], **options: Any) -> Any:
    """Draw an image without ticks: `uint8 [H, W, C]` with C = 1 (grey) or 3 (colour), or `[H, W]` with a colour map."""
    axis.set_axis_off()
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if image.dtype == np.uint8:
        options = {"cmap": "gray", "vmin": 0, "vmax": 255} | options
    return axis.imshow(image, **options)


def brightened(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images `[N, H, W, C]`; if no value exceeds `DARK`, scaled so that the largest of all becomes 255."""
    largest = int(images.max(initial=0))
    return (images.astype(np.uint16) * 255 // largest).astype(np.uint8) if 0 < largest <= DARK else images


def picture_grid(
    images: npt.NDArray[np.uint8], titles: Sequence[str], colours: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """Draw a grid of images `[N, H, W, C]`, each with a title at most `TITLE_COLUMNS` wide."""
    columns = min(columns, max(3, len(images)))
    cell = 1.5, 1.45 + LINE * _lines_of(titles)
    with plt.style.context(PICTURES):
        figure, axis = plt.subplots(figsize=(cell[0] * columns, cell[1] * -(-len(images) // columns) + 0.35))
        show_grid(axis, images, titles, colours, columns, cell, 8.5)
        add_title(figure, title)
        return figure


def _lines_of(titles: Sequence[str]) -> int:
    """Return the number of lines of the longest title."""
    return 1 + max((text.count("\n") for text in titles), default=0)


def show_grid(
    axis: Axes,
    images: npt.NDArray[Any],
    titles: Sequence[str],
    colours: Sequence[str],
    columns: int,
    cell: tuple[float, float],
    fontsize: float,
    **options: Any,
) -> Any:
    """Draw images `[N, H, W, C]` or `[N, H, W]`, each below its title, into one axes.

    An axes for each takes ten times as long. `cell` is the width and height of an image with its title in inches. Return the last
    image drawn.
    """
    images = brightened(images) if images.dtype == np.uint8 else images
    (width, height), text = cell, LINE * _lines_of(titles)
    scale = min((width - GAP) / images.shape[2], (height - text - GAP) / images.shape[1])
    across, down = images.shape[2] * scale / 2, images.shape[1] * scale
    for number, (image, title, colour) in enumerate(zip(images, titles, colours, strict=True)):
        row, column = divmod(number, columns)
        middle, top = (column + 0.5) * width, row * height + text
        drawn = show(axis, image, extent=(middle - across, middle + across, top + down, top), **options)
        axis.text(middle, top - GAP / 2, title, ha="center", va="bottom", fontsize=fontsize, color=colour)
    axis.set(xlim=(0, columns * width), ylim=(-(-len(images) // columns) * height, 0), anchor="N")
    return drawn


def sample_grid(
    draw: Sequence[Callable[[Axes], Any]], titles: Sequence[str], colours: Sequence[str], title: str, columns: int = 6
) -> Figure:
    """Draw a grid of samples, each by its function and with a title at most `TITLE_COLUMNS` wide."""
    columns = min(columns, max(3, len(draw)))
    rows = -(-len(draw) // columns)
    height = 1.45 + LINE * _lines_of(titles)
    with plt.style.context(PICTURES):
        figure, axes = plt.subplots(rows, columns, figsize=(1.5 * columns, height * rows + 0.5), squeeze=False)
        for axis in axes.flat[len(draw) :]:
            axis.set_axis_off()
        for axis, one, text, colour in zip(axes.flat, draw, titles, colours, strict=False):
            one(axis)
            axis.set_title(text, color=colour, fontsize=8.5)
        add_title(figure, title)
        return figure


LINE, GAP = 0.17, 0.08
"""Height of a line of the title above an image, and the gap between images, in inches."""
TITLE_COLUMNS = 17
"""Maximum width of the title above an image of the grid, in columns."""
