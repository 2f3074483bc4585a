"""Errors of forecasts and baselines by step and by channel, as CSV tables. Shapes: `S` forecast steps, `Y` target channels."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from reprise.tasks.forecast_metrics import Errors, ForecastMetrics, errors_by_step

INTERVALS = ("wql", "coverage_80", "width_80", "coverage_95", "width_95")
"""Columns of forecasts with calibrated intervals; empty for baselines."""
KINDS = ("mae", "mse", "rmse", "mase", "smape", "mae_scaled", "mse_scaled", *INTERVALS)


@dataclass(frozen=True)
class ForecastErrors:
    """Errors of the forecast (`forecast`) and of each baseline, by method."""

    by_step: Mapping[str, Sequence[Sequence[Errors]]]
    """By method, step and channel."""
    by_channel: Mapping[str, Sequence[Errors]]
    """By method and channel, over all steps."""

    @classmethod
    def of(cls, forecasts: Mapping[str, Tensor], targets: Tensor, empty: ForecastMetrics) -> "ForecastErrors":
        """Compute the errors of standardised forecasts `[N, S, Y]`, or of quantiles `[N, S, Y, Q]`.

        `empty` gives the scales of the channels, and the intervals of `forecast`.
        """
        metrics = {method: empty.emptied(intervals=method == "forecast") for method in forecasts}
        return cls(
            {method: errors_by_step(metrics[method], forecast, targets) for method, forecast in forecasts.items()},
            {method: _by_channel(metrics[method], forecast, targets) for method, forecast in forecasts.items()},
        )

    def mae_by_step(self, channel: int) -> dict[str, npt.NDArray[np.float64]]:
        """Return the mean absolute error of a channel in its unit at each step `[S]`, by method; NaN if no value is known."""
        return {
            method: np.array([errors[channel].get("mae", np.nan) for errors in steps]) for method, steps in self.by_step.items()
        }

    def scaled_by_step(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the mean absolute error of the standardised values of all channels at each step `[S]`, by method."""
        return {method: np.array([_mean_scaled(errors) for errors in steps]) for method, steps in self.by_step.items()}

    def scaled_by_channel(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the mean absolute error of the standardised values of each channel `[Y]`, by method; NaN if it is undefined."""
        return {
            method: np.array([errors.get("mae_scaled", np.nan) for errors in channels])
            for method, channels in self.by_channel.items()
        }

    def best_baseline(self) -> str:
        """Return the baseline with the smallest mean absolute error of standardised values."""
        scaled = {method: _mean_scaled(channels) for method, channels in self.by_channel.items() if method != "forecast"}
        return min(scaled, key=scaled.__getitem__)

    def step_table(self, channels: Sequence[str]) -> str:
        """Return a CSV table with a row per method, step (from 1) and channel."""
        rows = [
            [method, step, channel, *_cells(errors)]
            for method, steps in self.by_step.items()
            for step, by_channel in enumerate(steps, 1)
            for channel, errors in zip(channels, by_channel, strict=True)
        ]
        return as_csv(["method", "step", "channel", *KINDS], rows)

    def channel_table(self, channels: Sequence[str]) -> str:
        """Return a CSV table with a row per method and channel."""
        rows = [
            [method, channel, *_cells(errors)]
            for method, by_channel in self.by_channel.items()
            for channel, errors in zip(channels, by_channel, strict=True)
        ]
        return as_csv(["method", "channel", *KINDS], rows)


def _by_channel(empty: ForecastMetrics, forecast: Tensor, targets: Tensor) -> list[Errors]:
    metrics = empty.emptied()
    metrics.update(forecast, targets)
    return metrics.by_target()


def _mean_scaled(errors: Sequence[Errors]) -> float:
    """Return the mean of mae_scaled over the channels that have a scale; NaN if none has."""
    scaled = [one["mae_scaled"] for one in errors if "mae_scaled" in one]
    return sum(scaled) / len(scaled) if scaled else float("nan")


def _cells(errors: Errors) -> list[float | str]:
    """Return the errors of a row; empty if undefined."""
    return [errors.get(kind, "") for kind in KINDS]


def as_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table as CSV text."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue()
