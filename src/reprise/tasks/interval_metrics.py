"""Coverage and width of prediction intervals, and the weighted quantile loss.

Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels, `Q` quantiles.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from reprise.tasks.conformal import MEASURED, Margins, percent
from reprise.tasks.exact_sums import ExactSums, mean_over_steps
from reprise.tasks.quantiles import Quantiles, pinball

DECILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The quantiles of the weighted quantile loss in GIFT-Eval (Aksu et al. 2024), taken of calibrated point forecasts."""


class IntervalSums:
    """Sums of coverage and width of the levels in `MEASURED`, by target, of standardised values."""

    def __init__(self, margins: Margins, quantiles: Quantiles, device: torch.device) -> None:
        self.quantiles = quantiles
        columns = margins.values.shape[2]
        self.margins = {level: margins.levels[level].to(device) for level in MEASURED if level in margins.levels}
        self.covered = {level: torch.zeros(columns, dtype=torch.int64, device=device) for level in self.margins}
        self.width = {level: ExactSums(columns, device) for level in self.margins}

    @property
    def state(self) -> dict[str, Tensor]:
        """The sums by name."""
        state = {f"covered_{percent(level)}": count for level, count in self.covered.items()}
        for level, sums in self.width.items():
            state |= sums.state(f"width_{percent(level)}")
        return state

    def add(self, predictions: Tensor, true: Tensor) -> None:
        """Add a batch: predictions `float64 [N, S, Y]`, or `[N, S, Y, Q]` of quantiles, and true values `[N, S, Y]` or NaN."""
        for level, margin in self.margins.items():
            lower, upper = self.quantiles.bounds(predictions, level)
            lower, upper = lower - margin, upper + margin
            self.covered[level] += ((lower <= true) & (true <= upper)).sum((0, 1))
            self.width[level].add(mean_over_steps((upper - lower).clamp_min(0)))

    def by_target(self, count: int, observed: Sequence[int], std: Sequence[float]) -> list[dict[str, float]]:
        """Return coverage and width of each target, the width in units and standardised.

        `count` is the number of windows, `observed` that of the true values of each target, `std` the target's scale.
        """
        found: list[dict[str, float]] = [{} for _ in std]
        for level, covered in self.covered.items():
            widths = self.width[level].means([count] * len(std))
            for metrics, inside, values, width, scale in zip(found, covered.tolist(), observed, widths, std, strict=True):
                metrics[f"coverage_{percent(level)}"] = inside / values if values else math.nan
                metrics[f"width_{percent(level)}"] = width * scale
                metrics[f"width_{percent(level)}_scaled"] = width
        return found


class QuantileLossSums:
    """Sums for the weighted quantile loss, by target.

    Args:
        levels: the quantiles.
        offsets: what to add to point forecasts to get each quantile, standardised `float64 [S, Y, Q]`; None if predictions hold
            the quantiles.
        mean: mean of each target in the training split, in its unit, `float64 [Y]`.
        std: standard deviation likewise.

    """

    def __init__(self, levels: Sequence[float], offsets: Tensor | None, mean: Tensor, std: Tensor) -> None:
        self.levels, self._mean, self._std = levels, mean, std
        self._offsets = None if offsets is None else offsets.to(mean.device)
        self.loss, self.size = ExactSums(len(mean), mean.device), ExactSums(len(mean), mean.device)

    @property
    def state(self) -> dict[str, Tensor]:
        """The sums by name."""
        return self.loss.state("quantile_loss") | self.size.state("size")

    def add(self, predictions: Tensor, true: Tensor) -> None:
        """Add a batch: predictions `float64 [N, S, Y]`, or `[N, S, Y, Q]` of quantiles, and true values `[N, S, Y]` or NaN."""
        forecasts = predictions if self._offsets is None else predictions[..., None] + self._offsets
        self.loss.add(mean_over_steps((pinball(forecasts, true, self.levels) * self._std).nan_to_num()))
        self.size.add(mean_over_steps((true * self._std + self._mean).abs().nan_to_num()))

    def by_target(self, count: int) -> list[dict[str, float]]:
        """Return the weighted quantile loss of each target: empty if all of its true values are 0."""
        means = zip(*(sums.means([count] * len(self._std)) for sums in (self.loss, self.size)), strict=True)
        return [{"wql": 2 * loss / size} if size > 0 else {} for loss, size in means]


def decile_offsets(margins: Margins) -> Tensor | None:
    """Return what to add to point forecasts to get `DECILES`, `float64 [S, Y, 9]`: the ends of the 20, 40, 60 and 80 % intervals.

    None if val has too few windows for one of them.
    """
    zero = torch.zeros(margins.values.shape[1:], dtype=torch.float64)
    known = margins.levels | {0.0: zero}
    signed = [(math.copysign(1.0, decile - 0.5), round(abs(2 * decile - 1), 9)) for decile in DECILES]
    if not {coverage for _, coverage in signed} <= known.keys():
        return None
    return torch.stack([sign * known[coverage] for sign, coverage in signed], dim=-1)
