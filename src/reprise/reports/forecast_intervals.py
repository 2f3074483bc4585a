"""Calibrated intervals of the kept test windows. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.tasks.conformal import Margins
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.kept_predictions import Forecasts

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ForecastIntervals:
    """The intervals of forecasts by a task with calibrated margins."""

    kept: Forecasts
    task: Forecasting
    margins: Margins

    @property
    def levels(self) -> list[float]:
        """The levels that val has enough windows for."""
        return [*self.margins.levels]

    def bounds(self, level: float) -> tuple[Values, Values]:
        """Return the lower and the upper bound `float64 [N, S, Y]` in units."""
        lower, upper = (self.task.in_units(bound).numpy() for bound in self._scaled(level))
        return lower, upper

    def coverage(self, level: float) -> Values:
        """Return the share of the true values within the interval at each step and channel, `[S, Y]`."""
        lower, upper = self._scaled(level)
        true = self.kept.targets.double()
        covered: Values = ((lower <= true) & (true <= upper)).double().mean(0).numpy()
        return covered

    def _scaled(self, level: float) -> tuple[Tensor, Tensor]:
        lower, upper = self.task.quantiles.bounds(self.kept.predictions.double(), level)
        margin = self.margins.levels[level].to(torch.float64)
        return lower - margin, upper + margin
