"""What a classifier gets right, what it takes for what, and how far its confidence can be believed.

Shapes: `N` samples, `K` classes, `H W C` pixels.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprise.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE, head, picture_grid

Images = npt.NDArray[np.uint8]
Classes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
WRITTEN = 30
"""The most classes for which a confusion matrix has its numbers written in it."""
WORST = 40
"""The most classes whose scores are drawn."""


def samples(images: Images, labels: Classes, names: Sequence[str], title: str) -> Figure:
    """Pictures with the names of their classes."""
    return picture_grid(images, [names[label] for label in labels], ["black"] * len(images), title)


def predictions(images: Images, labels: Classes, probabilities: Probabilities, names: Sequence[str], title: str) -> Figure:
    """Pictures with what they were taken for and how surely: green and ticked when right, red with the truth when wrong."""
    said, colours = [], []
    for label, row in zip(labels, probabilities, strict=True):
        taken = int(row.argmax())
        verdict = f"{names[taken]}, {_percent(row[taken])}"
        said.append(f"✓ {verdict}" if taken == label else f"✗ {verdict}\nis {names[label]}")
        colours.append(GREEN if taken == label else ORANGE)
    return picture_grid(images, said, colours, title)


def answers(images: Images, probabilities: Probabilities, names: Sequence[str], files: Sequence[str], title: str) -> Figure:
    """Pictures whose truth nobody has said, with the class each is taken for and how surely."""
    taken = [f"{names[int(row.argmax())]}, {_percent(row.max())}" for row in probabilities]
    said = [f"{_short(file)}\n{answer}" for file, answer in zip(files, taken, strict=True)]
    return picture_grid(images, said, ["black"] * len(images), title)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share < 0.995 else ">99 %"


def _short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else f"…{name[-length + 1 :]}"


def confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """How often each class (row) was taken for which (column) `[K, K]`: the count, and the share of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = 2.0 + 0.56 * min(len(names), WRITTEN)
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(size + 0.9, size))
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if len(names) <= WRITTEN:
            for (row, column), count in np.ndenumerate(counts):
                if count:
                    colour = "white" if shares[row, column] > 0.5 else "black"
                    text = f"{count:,}\n{100 * shares[row, column]:.1f} %"
                    axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5, linespacing=1.05)
            axis.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="predicted", ylabel="true", title=title)
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
        return figure


def reliability(confidence: Probabilities, right: npt.NDArray[np.bool_], bins: int, ece: float, title: str) -> Figure:
    """Accuracy against confidence in bins of equal width, and how many predictions fall into each.

    Source: Guo, Pleiss, Sun and Weinberger 2017, figure 1.
    """
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    number = np.bincount(place, minlength=bins)
    filled = number > 0
    accuracy = np.bincount(place, right, bins)[filled] / number[filled]
    middle, width = (edges[:-1] + edges[1:])[filled] / 2, 1 / bins
    mean = np.bincount(place, confidence, bins)[filled] / number[filled]
    with plt.style.context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(5.6, 6), sharex=True, height_ratios=(3, 1))
        above.bar(middle, accuracy, 0.92 * width, color=BLUE, label="accuracy")
        above.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="as sure as right")
        above.plot(mean, accuracy, linestyle="none", marker="o", markersize=5, color=ORANGE, label="accuracy at mean confidence")
        above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02), title=f"expected calibration error {ece:.4f}")
        above.legend(loc="upper left")
        below.bar(middle, number[filled], 0.92 * width, color=GREY)
        below.set(xlabel="confidence", ylabel="predictions", yscale="log")
        head(figure, title)
        return figure


def scores(f1: Sequence[float], recall: Sequence[float], precision: Sequence[float], names: Sequence[str], title: str) -> Figure:
    """F1 of every class, worst first, with its precision and recall; of very many classes, the worst."""
    order = np.argsort(f1, kind="stable")[:WORST][::-1]
    names = [names[number] for number in order]
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 1.3 + 0.28 * len(names)))
        rows = np.arange(len(names))
        for row, number in enumerate(order):
            axis.plot([precision[number], recall[number]], [row, row], color="#c8c8c8", linewidth=2, zorder=1)
        axis.scatter(np.array(precision)[order], rows, marker="<", color=BLUE, s=30, zorder=2)
        axis.scatter(np.array(recall)[order], rows, marker=">", color=ORANGE, s=30, zorder=2)
        axis.scatter(np.array(f1)[order], rows, marker="|", color="black", s=90, zorder=3)
        axis.set_yticks(rows, names)
        axis.set(xlabel="score", title=title)
        marks = (("<", BLUE, "precision"), (">", ORANGE, "recall"), ("|", "black", "F1"))
        axis.legend(
            handles=[Line2D([], [], marker=mark, color=colour, linestyle="none", label=label) for mark, colour, label in marks],
            loc="lower left",
        )
        return figure
