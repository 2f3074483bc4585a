"""Figures that compare experiments."""

from collections.abc import Sequence

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from reprise.figures.style import BLUE, GREY, STYLE
from reprise.figures.text import labels, literal


def ablation(names: Sequence[str], means: Sequence[float], spreads: Sequence[float], metric: str, seeds: int) -> Figure:
    """Draw mean and standard deviation of each variant, from top to bottom. The first one is the reference."""
    rows = np.arange(len(names))[::-1]
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(7.5, 1.2 + 0.42 * len(names)))
        axis.axvspan(means[0] - spreads[0], means[0] + spreads[0], color="#eeeeee", zorder=0)
        axis.axvline(means[0], color=GREY, linestyle="--", linewidth=1)
        for row, mean, spread in zip(rows, means, spreads, strict=True):
            colour = GREY if row == rows[0] else BLUE
            axis.errorbar(mean, row, xerr=spread, color=colour, marker="o", markersize=7, capsize=4, linewidth=2)
            axis.annotate(f"{mean:.4f}", (mean, row), (0, 7), textcoords="offset points", ha="center", fontsize=9)
        axis.set_yticks(rows, labels(names, 40))
        title = f"mean ± standard deviation over {seeds} seeds"
        axis.set(xlabel=literal(metric), title=title, ylim=(-0.5, len(names) - 0.3))
        axis.margins(x=0.08)
        return figure
