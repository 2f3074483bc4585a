"""Forecasts against the truth, and their errors. Shapes: `N` windows, `S` forecast steps."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from reprise.figures.style import BLUE, GREEN, GREY, ORANGE, STYLE, head

Values = npt.NDArray[np.float64]
COLOURS = {"forecast": ORANGE, "repeat last": GREY, "seasonal naive": BLUE}


def forecast(time: npt.NDArray[np.datetime64], truth: Values, predicted: Values, naive: Values, unit: str, title: str) -> Figure:
    """Forecast and truth over the test period, the naive forecast thin behind them, and the errors below. All `[N]`."""
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


def residuals(time: npt.NDArray[np.datetime64], truth: Values, predicted: Values, unit: str, title: str) -> Figure:
    """Forecast less truth `[N]`: over time with its running mean, and how often which size occurs."""
    days, residual = time.astype("datetime64[s]"), predicted - truth
    span = min(30, max(3, len(residual) // 5))
    running = np.convolve(residual, np.ones(span) / span, mode="valid")
    with plt.style.context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=(2.4, 1), sharey=True)
        left.axhline(0, color="black", linewidth=0.8)
        left.plot(days, residual, linestyle="none", marker="o", markersize=3, color=BLUE, alpha=0.6, label="forecast − truth")
        middle = days[(span - 1) // 2 : (span - 1) // 2 + len(running)]
        left.plot(middle, running, color=ORANGE, linewidth=2, label=f"mean of {span} steps")
        left.set(ylabel=unit)
        left.tick_params(axis="x", rotation=30)
        left.legend(loc="upper center", ncols=2)
        left.margins(y=0.2)
        right.hist(residual, bins="auto", orientation="horizontal", color=BLUE, edgecolor="white", linewidth=0.4)
        right.axhline(residual.mean(), color=ORANGE, linewidth=2)
        right.axhline(0, color="black", linewidth=0.8)
        right.set(xlabel="windows", title=f"mean {residual.mean():+.2f}, std {residual.std():.2f} {unit}")
        head(figure, title)
        return figure


def error_by_step(errors: Mapping[str, Values], unit: str, title: str) -> Figure:
    """Mean absolute error at each step of the horizon `[S]`, of the forecast and of the naive ones."""
    steps = len(next(iter(errors.values())))
    with plt.style.context(STYLE):
        figure, axis = plt.subplots(figsize=(6.4, 3.8))
        for number, (name, by_step) in enumerate(errors.items()):
            colour = COLOURS.get(name, GREEN)
            if steps == 1:
                axis.bar(name, by_step[0], 0.55, color=colour)
                axis.text(number, by_step[0], f"{by_step[0]:.2f}", ha="center", va="bottom")
            else:
                axis.plot(np.arange(1, steps + 1), by_step, color=colour, marker="o", markersize=4, label=name)
        if steps > 1:
            axis.set(xlabel="steps ahead", ylim=(0, None))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.legend()
        else:
            axis.grid(visible=False, axis="x")
        axis.set(ylabel=f"mean absolute error, {unit}", title=title)
        return figure
