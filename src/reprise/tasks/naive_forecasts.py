"""Forecasts that need no training. Shapes: `S` forecast steps (horizon), `Y` target channels."""

import numpy as np
import torch
from torch import Tensor

from reprise.data.modalities.series.arrays import Meta
from reprise.data.windows import Windows


class NaiveForecasts:
    """Naive forecasts of the test windows, standardised `float64 [row, S, Y]`.

    repeat_last: the last value of the lookback at every step. seasonal_naive: the value one season before; left out if the series
    starts too late for it. Source: Hyndman and Athanasopoulos 2021, section 5.2.
    """

    def __init__(self, windows: Windows) -> None:
        meta = windows.meta
        assert isinstance(meta, Meta), "the task checked it"
        history = np.asarray(windows.array("values")[:, meta.target_columns]).astype(np.float64)
        mean, std = (np.array([meta.statistics[key][p] for p in meta.target_positions]) for key in ("mean", "std"))
        self._scaled = (history - mean) / std
        self._first = windows.indices("test") + meta.lookback
        """Row of the first forecast step of each window."""
        steps = np.arange(meta.horizon)
        seasons_back = meta.season * (1 + steps // meta.season)
        self._offsets = {"repeat_last": np.full_like(steps, -1), "seasonal_naive": steps - seasons_back}
        """For each step of the horizon, the row of its forecast, relative to the first step."""
        self.names = [name for name, offsets in self._offsets.items() if self._first.min() + offsets.min() >= 0]

    def of(self, name: str, rows: Tensor) -> Tensor:
        """Return the forecasts of these windows by the method `name`."""
        return torch.from_numpy(self._scaled[self._first[rows.numpy()][:, None] + self._offsets[name]])
