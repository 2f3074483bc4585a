"""Forecasts that need no training. Shapes: `B` windows, `S` forecast steps (horizon), `Y` target channels, `T` rows."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data.modalities.series.arrays import Meta
from reprise.data.splits import Indices
from reprise.data.windows import Windows

Values = npt.NDArray[np.float64]


class NaiveForecasts:
    """Naive forecasts of the windows of a split, test by default, standardised `float64 [B, S, Y]`.

    - repeat_last: the last value of the lookback at every step.
    - seasonal_naive: the value one season before; left out if the series starts too late for it, or the season is one step.
    - seasonal_mean: the mean of all values of the lookback at the same phase of the season; left out if the lookback is shorter
      than a season. With hourly data and a season of 24 it is the mean by hour of the day.
    - drift: the straight line through the first and the last value of the lookback; left out if that is one value.

    Source, except for seasonal_mean: Hyndman and Athanasopoulos 2021, section 5.2.
    """

    def __init__(self, windows: Windows, split: str = "test") -> None:
        meta = windows.meta
        assert isinstance(meta, Meta), "the task checked it"
        self._meta, self._values = meta, windows.array("values")
        self._mean, self._std = (
            np.array([meta.statistics[key][position] for position in meta.target_positions]) for key in ("mean", "std")
        )
        self._first = windows.indices(split) + meta.lookback
        """Row of the first forecast step of each window."""
        self._methods: dict[str, tuple[int, Callable[[Values, Indices], Values]]] = {
            "repeat_last": (1, self._repeat_last),
            "seasonal_naive": (meta.season, self._seasonal_naive),
            "seasonal_mean": (meta.lookback, self._seasonal_mean),
            "drift": (meta.lookback, self._drift),
        }
        """How many rows before the first forecast step each method reads, and its function of these rows and first steps."""
        left_out = {
            "seasonal_naive": meta.season == 1 or meta.rows_before(self._first).min() < meta.season,
            "seasonal_mean": meta.lookback < meta.season,
            "drift": meta.lookback == 1,
        }
        self.names = [name for name in self._methods if not left_out.get(name)]

    def of(self, name: str, rows: Tensor) -> Tensor:
        """Return the forecasts of these windows by the method `name`. Only the rows of the series that they need are read."""
        reach, method = self._methods[name]
        first = self._first[rows.numpy()]
        start = int(first.min()) - reach
        history = self._values[start : int(first.max()), self._meta.target_columns].astype(np.float64)
        return torch.from_numpy(method((np.asarray(history) - self._mean) / self._std, first - start))

    def _repeat_last(self, history: Values, first: Indices) -> Values:
        """Return forecasts of windows whose first forecast step is row `first` of (or after) `history`, `float64 [T, Y]`."""
        return np.repeat(history[first - 1][:, None], self._meta.horizon, axis=1)

    def _seasonal_naive(self, history: Values, first: Indices) -> Values:
        phase = np.arange(self._meta.horizon) % self._meta.season
        forecast: Values = history[first[:, None] + phase - self._meta.season]
        return forecast

    def _seasonal_mean(self, history: Values, first: Indices) -> Values:
        season, lookback = self._meta.season, self._meta.lookback
        phases = min(season, self._meta.horizon)
        total = np.zeros((len(first), phases, history.shape[1]))
        for back in range(season, lookback + phases, season):
            inside = np.arange(max(0, back - lookback), phases)  # of the oldest season, the lookback holds only the last phases
            total[:, inside] += history[first[:, None] + inside - back]
        counts = (lookback + np.arange(phases)) // season
        mean: Values = (total / counts[:, None])[:, np.arange(self._meta.horizon) % season]
        return mean

    def _drift(self, history: Values, first: Indices) -> Values:
        last = history[first - 1]
        slope = (last - history[first - self._meta.lookback]) / (self._meta.lookback - 1)
        forecast: Values = last[:, None] + slope[:, None] * np.arange(1, self._meta.horizon + 1)[:, None]
        return forecast
