"""Figures of classifiers: predictions, confusion matrix, calibration, scores by class.

Shapes: `N` samples, `K` classes, `H W C` pixels of an image, `T C` steps and channels of a sequence.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reprise.figures.sequences import Values, sequence_grid
from reprise.figures.style import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    STYLE,
    TITLE_COLUMNS,
    add_title,
    count_scale,
    legend_above,
    picture_grid,
)
from reprise.figures.text import labels, literal, width

Images = npt.NDArray[np.uint8]
Samples = Images | Sequence[Values]
"""Images `[N, H, W, C]`, or sequences `[T, C]` each."""
Classes = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]
MAX_COUNTS = 30
"""Maximum number of classes for which a confusion matrix shows its counts."""
MAX_NAMES = 120
"""Maximum number of classes for which a confusion matrix shows class names."""
MAX_SCORED = 40
"""Maximum number of classes whose scores are drawn."""
WIDEST = 0.95
"""Where the axis of scores begins at the latest, so that small differences do not look large."""
LABEL_COLUMNS = 24
"""Maximum width of a class name along an axis, in columns."""


def samples(chosen: Samples, targets: Classes, names: Sequence[str], title: str, channels: Sequence[str] = ()) -> Figure:
    """Draw samples with their class names. `channels` are the names of the channels of sequences."""
    shown = labels(names, TITLE_COLUMNS)
    return _grid(chosen, [shown[label] for label in targets], ["black"] * len(targets), title, channels)


def _grid(chosen: Samples, texts: Sequence[str], colours: Sequence[str], title: str, channels: Sequence[str]) -> Figure:
    if isinstance(chosen, np.ndarray):
        return picture_grid(chosen, texts, colours, title)
    return sequence_grid(chosen, texts, colours, title, channels)


def predictions(
    chosen: Samples,
    targets: Classes,
    probabilities: Probabilities,
    names: Sequence[str],
    title: str,
    channels: Sequence[str] = (),
) -> Figure:
    """Draw samples with predicted class and confidence: correct ones in green, wrong ones in orange with the true class."""
    shown = labels(names, TITLE_COLUMNS - 2)
    texts, colours = [], []
    for label, row in zip(targets, probabilities, strict=True):
        predicted = int(row.argmax())
        right = predicted == label
        text = _with_percent(f"{'✓' if right else '✗'} {shown[predicted]}", row[predicted])
        texts.append(text if right else f"{text}\nis {literal(shown[label], TITLE_COLUMNS - 3)}")
        colours.append(GREEN if right else ORANGE)
    return _grid(chosen, texts, colours, title, channels)


def file_predictions(
    chosen: Samples,
    probabilities: Probabilities,
    names: Sequence[str],
    files: Sequence[str],
    title: str,
    truth: Sequence[str] = (),
    channels: Sequence[str] = (),
) -> Figure:
    """Draw samples with their name, predicted class and confidence; wrong ones in orange with the class in `truth`."""
    shown = labels(names, TITLE_COLUMNS - 2)
    texts, colours = [], []
    for file, row, true in zip(files, probabilities, truth or [""] * len(files), strict=True):
        predicted = int(row.argmax())
        text = f"{literal(file, TITLE_COLUMNS)}\n" + _with_percent(f"→ {shown[predicted]}", row.max())
        wrong = true not in {"", names[predicted]}
        texts.append(f"{text}\nis {literal(true, TITLE_COLUMNS - 3)}" if wrong else text)
        colours.append(ORANGE if wrong else GREEN if true else "black")
    return _grid(chosen, texts, colours, title, channels)


def _with_percent(text: str, share: float) -> str:
    """Return a class and its probability, in one line if both fit."""
    percent = f"{100 * share:.0f} %" if share < 0.995 else ">99 %"
    return f"{text}, {percent}" if width(text) + len(percent) + 2 <= TITLE_COLUMNS else f"{text}\n{percent}"


def confusion_matrix(counts: npt.NDArray[np.int64], names: Sequence[str], title: str) -> Figure:
    """Draw the confusion matrix `[K, K]`, true classes in rows: counts, and their shares of the row."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    classes = len(names)
    size = 0.56 * classes if classes <= MAX_COUNTS else max(0.3 * MAX_COUNTS, 0.105 * classes) if classes <= MAX_NAMES else 9.0
    margin = 1.5 + 0.075 * max(map(width, labels(names, LABEL_COLUMNS)))
    with plt.style.context(STYLE | {"axes.grid": False}):
        figure, axis = plt.subplots(figsize=(max(size + margin, 4.6), max(size + margin - 0.4, 3.4)))
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if classes <= MAX_COUNTS:
            _write_counts(axis, counts, shares)
        if classes <= MAX_NAMES:
            small: dict[str, Any] = {} if classes <= MAX_COUNTS else {"fontsize": 6}
            shown = labels(names, LABEL_COLUMNS)
            rotation: dict[str, Any] = {"rotation": 90} if small else {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
            axis.set_xticks(range(classes), shown, **rotation, **small)
            axis.set_yticks(range(classes), shown, **small)
        number = "" if classes <= MAX_NAMES else " (number of the class)"
        axis.set(xlabel=f"predicted{number}", ylabel=f"true{number}")
        figure.colorbar(image, ax=axis, shrink=0.8, label="share of the true class")
        add_title(figure, title)
        return figure


def _write_counts(axis: Axes, counts: npt.NDArray[np.int64], shares: npt.NDArray[np.float64]) -> None:
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            text = f"{count:,}\n{100 * shares[row, column]:.1f} %"
            axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=7.5, linespacing=1.05)


def reliability(confidence: Probabilities, right: npt.NDArray[np.bool_], bins: int, ece: float, title: str) -> Figure:
    """Draw accuracy against confidence in bins of equal width, and the number of predictions in each.

    Source: Guo, Pleiss, Sun and Weinberger 2017, figure 1.
    """
    edges = np.linspace(0, 1, bins + 1)
    bin_index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    number = np.bincount(bin_index, minlength=bins)
    filled = number > 0
    accuracy = np.bincount(bin_index, right, bins)[filled] / number[filled]
    middle, width = (edges[:-1] + edges[1:])[filled] / 2, 1 / bins
    mean = np.bincount(bin_index, confidence, bins)[filled] / number[filled]
    with plt.style.context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(5.6, 6.2), sharex=True, height_ratios=(3, 1))
        bars = above.bar(middle, accuracy, 0.92 * width, color=BLUE, label="accuracy")
        points: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 5, "color": ORANGE}
        (diagonal,) = above.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="calibrated")
        (centres,) = above.plot(mean, accuracy, **points, label="mean confidence")
        above.set(ylabel="accuracy", xlim=(0, 1), ylim=(0, 1.02))
        legend_above(above, handles=[bars, centres, diagonal])
        below.bar(middle, number[filled], 0.92 * width, color=GREY)
        below.set(xlabel="confidence", ylabel="predictions")
        count_scale(below, number[filled])
        figure.align_ylabels()
        add_title(figure, f"{title}\nexpected calibration error {ece:.4f}")
        return figure


def scores(f1: Sequence[float], recall: Sequence[float], precision: Sequence[float], names: Sequence[str], title: str) -> Figure:
    """Draw F1, precision and recall of every class, worst first, or of the `MAX_SCORED` worst classes."""
    order = np.argsort(f1, kind="stable")[:MAX_SCORED][::-1]
    shown = labels(names, LABEL_COLUMNS)
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 1.6 + 0.28 * len(order)))
        rows = np.arange(len(order))
        for row, number in enumerate(order):
            axis.plot([precision[number], recall[number]], [row, row], color="#c8c8c8", linewidth=2, zorder=1)
        axis.scatter(np.array(precision)[order], rows, marker="<", color=BLUE, s=30, zorder=2)
        axis.scatter(np.array(recall)[order], rows, marker=">", color=ORANGE, s=30, zorder=2)
        axis.scatter(np.array(f1)[order], rows, marker="|", color="black", s=90, zorder=3)
        axis.set_yticks(rows, [shown[number] for number in order])
        lowest = float(np.nanmin([np.array(score)[order] for score in (f1, recall, precision)], initial=WIDEST))
        margin = 0.03 * (1 - lowest)
        axis.set(xlabel="score", xlim=(lowest - margin, 1 + margin), ylim=(-0.7, len(order) - 0.3))
        marks = (("<", BLUE, "precision"), (">", ORANGE, "recall"), ("|", "black", "F1"))
        handles = [Line2D([], [], marker=mark, color=colour, linestyle="none", label=label) for mark, colour, label in marks]
        legend_above(axis, handles=handles)
        worst = f", the {MAX_SCORED} with the lowest F1 of {len(names):,}" if len(names) > MAX_SCORED else ""
        add_title(figure, f"{title}{worst}")
        return figure
