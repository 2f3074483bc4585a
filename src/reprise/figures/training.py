"""Figures of a training."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprise.figures.style import BLUE, GREY, ORANGE, STYLE, add_title, legend_above
from reprise.figures.text import literal, wrap

Points = Mapping[str, Sequence[tuple[int, float]]]
SPLITS = {"train": ("training", BLUE, "o"), "val": ("validation", ORANGE, "s")}
BESIDE_LOSS = ("accuracy", "mae", "mae_scaled")
"""The metrics of which the first is drawn beside the loss if the loss selects the epoch."""


def curves(history: Points, metric: str, best_epoch: int, title: str, units: Mapping[str, str] = MappingProxyType({})) -> Figure:
    """Draw training and validation loss and metric over epochs, and mark the selected epoch.

    If the metric is the loss, another one is drawn beside it.
    """
    if metric == "loss":
        metric = next((name for name in BESIDE_LOSS if f"val/{name}" in history), metric)
    with plt.style.context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.8))
        for axis, name in zip(axes, ("loss", metric), strict=True):
            for split, (label, colour, marker) in SPLITS.items():
                epochs, values = zip(*history[f"{split}/{name}"], strict=True)
                every = max(1, len(epochs) // 12)
                axis.plot(epochs, values, color=colour, marker=marker, markersize=4, markevery=every, label=label)
            axis.axvline(best_epoch, color=GREY, linestyle=":", label=f"selected: epoch {best_epoch}")
            unit = units.get(name, "")
            axis.set(ylabel=wrap(f"{literal(name)}, {literal(unit, 40)}" if unit else literal(name), 2.6, 10), xlabel="epoch")
            axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        legend_above(axes[0])
        add_title(figure, title)
        return figure
