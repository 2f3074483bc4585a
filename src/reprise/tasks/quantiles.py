"""Quantile forecasts. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels, `Q` quantiles."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MEDIAN = 0.5
CLOSE = 1e-9
"""Levels that differ less are the same: 1 - 0.9 is 0.09999999999999998 in floating point."""


@dataclass(frozen=True)
class Quantiles:
    """Which quantiles the predictions `[N, S, Y, Q]` hold; without any, predictions are point forecasts `[N, S, Y]`.

    Raises:
        ValueError: if the quantiles are not increasing numbers between 0 and 1, or 0.5 is missing: the point forecast.

    """

    levels: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        inside = all(0 < level < 1 for level in self.levels)
        if not inside or list(self.levels) != sorted(set(self.levels)):
            raise ValueError(f"quantiles={list(self.levels)}: needs increasing numbers between 0 and 1")
        if self.levels and MEDIAN not in self.levels:
            raise ValueError(f"quantiles={list(self.levels)}: needs {MEDIAN}, the point forecast")

    def __bool__(self) -> bool:
        return bool(self.levels)

    def point(self, predictions: Tensor) -> Tensor:
        """Return the point forecast `[N, S, Y]`: the median of quantiles."""
        return predictions[..., self.levels.index(MEDIAN)] if self.levels else predictions

    def bounds(self, predictions: Tensor, coverage: float) -> tuple[Tensor, Tensor]:
        """Return the bounds `[N, S, Y]` that an interval of this coverage is calibrated from.

        They are the widest pair of quantiles around the median within the coverage, so that a wider interval contains a narrower
        one of the same pair; without such a pair, twice the point forecast.
        """
        upper = [level for level in self.levels if level > MEDIAN and 2 * level - 1 <= coverage + CLOSE]
        pairs = [(low, high) for high in upper for low in self.levels if abs(low + high - 1) < CLOSE]
        if not pairs:
            return self.point(predictions), self.point(predictions)
        low, high = (predictions[..., self.levels.index(level)] for level in pairs[-1])
        return low, high


def pinball(predictions: Tensor, targets: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the mean of the quantile losses of predictions `[…, Q]` for targets `[…]`.

    The loss of the quantile `q` is `q * (y - p)` if the true value `y` is above the prediction `p`, else `(1 - q) * (p - y)`.
    Source: Koenker and Bassett 1978, Regression quantiles.
    """
    total = torch.zeros_like(targets)
    for level, predicted in zip(levels, predictions.unbind(-1), strict=True):  # `mean` may add in an order of its own
        above = targets - predicted
        total = total + torch.maximum(level * above, (level - 1) * above)
    return total / len(levels)
