"""Arrays in, matplotlib figures out: one style, legible for the colour-blind, readable at the size MLflow shows them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#767676"
"""Okabe and Ito 2008."""
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
Points = Mapping[str, Sequence[tuple[int, float]]]


def save(figure: Figure, file: Path) -> None:
    """Write a PNG whose bytes depend on the figure alone, and close it."""
    figure.savefig(file, metadata={"Software": None})
    plt.close(figure)


def curves(history: Points, metric: str, best_epoch: int, title: str) -> Figure:
    """Loss and the task's metric over epochs, training and validation; the chosen epoch marked."""
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.6))
        for axis, name in zip(axes, ("loss", metric), strict=True):
            for split, colour, marker in (("train", BLUE, "o"), ("val", ORANGE, "s")):
                epochs, values = zip(*history[f"{split}/{name}"], strict=True)
                every = max(1, len(epochs) // 12)
                axis.plot(epochs, values, color=colour, marker=marker, markersize=4, markevery=every, label=_SPLITS[split])
            axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"chosen: epoch {best_epoch}")
            axis.set(title=name, xlabel="epoch")
            axis.xaxis.get_major_locator().set_params(integer=True)
        axes[1].legend(loc="best")
        figure.suptitle(title, x=0.01, ha="left")
        return figure


def confusion_matrix(counts: npt.NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """How often each class (row) was taken for which (column): counts, and shaded by the share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.0 + 0.42 * len(classes)
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(size + 0.8, size))
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, f"{count:,}", ha="center", va="center", color=colour, fontsize=9)
        ticks = range(len(classes))
        axis.set_xticks(ticks, classes, rotation=45, ha="right", rotation_mode="anchor")
        axis.set_yticks(ticks, classes)
        axis.set(xlabel="predicted", ylabel="true", title=title)
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
        return figure


def forecast(
    time: npt.NDArray[np.int64],
    truth: npt.NDArray[np.float64],
    predicted: npt.NDArray[np.float64],
    naive: npt.NDArray[np.float64],
    unit: str,
    title: str,
) -> Figure:
    """Forecast and truth over the test period, the naive forecast thin behind them, and the residuals below. All `[window]`."""
    days = time.astype("datetime64[s]")
    with plt.style.context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(9, 5.4), sharex=True, height_ratios=(2, 1))
        above.plot(days, naive, color=GREY, linewidth=0.8, linestyle="--", label="naive: as the last step")
        above.plot(days, truth, color="black", linewidth=1.2, label="truth")
        above.plot(days, predicted, color=ORANGE, linewidth=1.5, label="forecast")
        above.set(title=title, ylabel=unit)
        above.legend(loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.0))
        above.margins(y=0.18)
        residual = predicted - truth
        below.axhline(0, color="black", linewidth=0.8)
        below.bar(days, residual, width=0.9, color=np.where(residual > 0, ORANGE, BLUE))
        below.set(ylabel=f"error, {unit}")
        return figure


_SPLITS = {"train": "training", "val": "validation"}
