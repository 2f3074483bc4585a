"""Prediction intervals by split conformal prediction.

Sources: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, Distribution-free predictive inference for regression, algorithm 2,
for point forecasts; Romano, Patterson and Candès 2019, Conformalized quantile regression, algorithm 1, for quantile forecasts.

Each step and channel is calibrated by itself, on windows of val. The intervals contain at least the stated share of new values if
their errors are exchangeable with those on val. Errors of a time series are not exactly so: overlapping windows share errors, and
the series may change, so `evaluate` measures the share on test.

Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels, `L` levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Shares of the values that intervals are calibrated for."""
MEASURED = (0.8, 0.95)
"""Levels whose coverage and width are metrics."""
MAX_WINDOWS, MAX_NUMBERS = 4096, 2**23
"""The most windows of val, and values of them, that intervals are calibrated on: evenly spaced ones of a longer split."""


def percent(level: float) -> str:
    """Return a level in percent, as used in names: `80`."""
    return f"{100 * level:g}"


def fewest_windows(level: float) -> int:
    """Return how many windows the calibration of a level needs at least: the smallest `N` with `(N + 1) * level <= N`."""
    return math.ceil(level / (1 - level) - 1e-9)  # 0.95 / (1 - 0.95) is 18.999999999999982 in floating point


def conformal_quantile(scores: Tensor, level: float) -> Tensor | None:
    """Return the `ceil((N + 1) * level)`-th smallest of `N` scores `[N, S, Y]`, `[S, Y]`; None if that is above `N`.

    NaN, the score at a missing value, is left out: `N` is then smaller for its step and target.
    """
    columns = scores.flatten(1)
    counts = (~columns.isnan()).sum(0)
    ranks = ((counts.double() + 1) * level - 1e-9).ceil().long()  # 0.95 * 100 is 95.00000000000001 in floating point
    if (ranks > counts).any():
        return None
    found, columns = torch.empty_like(columns[0]), columns.nan_to_num(nan=torch.inf)
    for rank in set(ranks.tolist()):
        found[ranks == rank] = columns[:, ranks == rank].kthvalue(rank, dim=0).values
    return found.view(scores.shape[1:])


def conformal_margins(bounds: Sequence[tuple[Tensor, Tensor]], targets: Tensor) -> Tensor:
    """Return the margins `float64 [L, S, Y]` from bounds `[N, S, Y]` for each of `LEVELS`, and the true values `[N, S, Y]`.

    The bounds of a point forecast are the forecast itself. Margins of a level that needs more windows are NaN.
    """
    true, found = targets.double(), []
    for level, (lower, upper) in zip(LEVELS, bounds, strict=True):
        margin = conformal_quantile(torch.maximum(lower.double() - true, true - upper.double()), level)
        found.append(true.new_full(true.shape[1:], math.nan) if margin is None else margin)
    return torch.stack(found)


@dataclass(frozen=True)
class Margins:
    """How far the interval of each level reaches beyond the point forecast, or beyond its two quantiles, in standardised values.

    A margin of quantiles is negative if they are too far apart.
    """

    windows: int
    """Number of windows of val that intervals were calibrated on."""
    values: Tensor
    """`float64 [L, S, Y]`; NaN for a level that needs more windows."""

    @cached_property
    def levels(self) -> dict[float, Tensor]:
        """The margins `float64 [S, Y]` of each level that val has enough windows for."""
        return {level: margin for level, margin in zip(LEVELS, self.values, strict=True) if not bool(margin.isnan().any())}
