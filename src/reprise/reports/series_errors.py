"""Errors of forecasts and baselines by series, as a CSV table and a figure.

Shapes: `N` windows, `S` forecast steps, `Y` target channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data import store
from reprise.data.modalities.series.arrays import Meta
from reprise.data.splits import Indices
from reprise.data.windows import Windows
from reprise.figures.drawing import drawing
from reprise.figures.series_errors import error_by_series
from reprise.figures.style import save
from reprise.reports.forecast_errors import KINDS, as_csv
from reprise.tasks.forecast_metrics import Errors, ForecastMetrics

TABLE, FIGURE = "errors_by_series.csv", "error_by_series.png"


@dataclass(frozen=True)
class SeriesErrors:
    """Errors of the forecast (`forecast`) and of each baseline."""

    series: list[str]
    windows: list[int]
    """Number of windows of each series."""
    errors: Mapping[str, Sequence[Sequence[Errors]]]
    """By method, series and channel. MASE is relative to the naive forecast on the train split of the same series."""

    @classmethod
    def of(
        cls,
        forecasts: Mapping[str, Tensor],
        targets: Tensor,
        empty: ForecastMetrics,
        membership: Indices,
        naive_mae: Mapping[str, Sequence[float]],
    ) -> "SeriesErrors":
        """Compute the errors of standardised forecasts `[N, S, Y]`.

        Args:
            forecasts: by method.
            targets: the true values.
            empty: metrics with the scales of the channels, and the intervals of `forecast`.
            membership: the number of the series of each window, `int64 [N]`.
            naive_mae: the mean absolute error of the naive forecast on train `[Y]`, by series.

        """
        rows = [torch.from_numpy(np.flatnonzero(membership == number)) for number in range(len(naive_mae))]
        errors = {
            method: [
                _errors(empty.emptied(method == "forecast"), forecast[part], targets[part], naive)
                for part, naive in zip(rows, naive_mae.values(), strict=True)
            ]
            for method, forecast in forecasts.items()
        }
        return cls(list(naive_mae), [len(part) for part in rows], errors)

    def table(self, channels: Sequence[str]) -> str:
        """Return a CSV table with a row per series, channel and method."""
        rows = [
            [name, channel, self.windows[number], method, *(errors[number][column].get(kind, "") for kind in KINDS)]
            for number, name in enumerate(self.series)
            for column, channel in enumerate(channels)
            for method, errors in self.errors.items()
        ]
        return as_csv(["series", "channel", "windows", "method", *KINDS], rows)

    def mase(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return the MASE of each series, mean over its channels, by method; NaN if it is undefined."""
        return {method: np.array([_mean_mase(channels) for channels in errors]) for method, errors in self.errors.items()}

    def best_baseline(self) -> str:
        """Return the baseline with the smallest mean MASE."""
        sums = {method: float(np.nansum(mase)) for method, mase in self.mase().items() if method != "forecast"}
        return min(sums, key=sums.__getitem__)  # a series has a MASE by every method or by none

    def better_than(self, baseline: str) -> tuple[int, int]:
        """Return the number of series with a smaller MASE than the baseline's, and of those with a MASE."""
        mase = self.mase()
        known = np.isfinite(mase["forecast"])
        return int((mase["forecast"] < mase[baseline])[known].sum()), int(known.sum())


def _errors(empty: ForecastMetrics, forecast: Tensor, targets: Tensor, naive_mae: Sequence[float]) -> list[Errors]:
    if not len(targets):
        return [{} for _ in naive_mae]
    metrics = empty.emptied()
    metrics.update(forecast, targets)
    result = []
    for errors, naive in zip(metrics.by_target(), naive_mae, strict=True):
        own = {"mase": errors["mae"] / naive} if errors and naive > 0 else {}
        result.append({kind: value for kind, value in errors.items() if kind != "mase"} | own)
    return result


def _mean_mase(channels: Sequence[Errors]) -> float:
    known = [errors["mase"] for errors in channels if "mase" in errors]
    return sum(known) / len(known) if known else float("nan")


def naive_errors(windows: Windows) -> dict[str, list[float]]:
    """Return the mean absolute step of each target channel in the train split of each series, in its unit."""
    meta, values = windows.meta, windows.array("values")
    assert isinstance(meta, Meta)
    result = {}
    for one in meta.series:
        steps = np.diff(np.asarray(values[one.start : one.train, meta.target_columns], np.float64), axis=0)
        result[one.name] = np.abs(steps).mean(axis=0).tolist() if len(steps) else [0.0] * len(meta.targets)
    return result


def series_of(windows: Windows, rows: Tensor) -> Indices:
    """Return the number of the series of each window of the test split, `int64 [N]`. `rows` are indices in the split."""
    meta = windows.meta
    assert isinstance(meta, Meta)
    starts = windows.indices("test")[rows.numpy()]
    found: Indices = np.searchsorted([one.start for one in meta.series], starts, side="right") - 1
    return found


def write(
    folder: Path,
    name: str,
    windows: Windows,
    rows: Tensor,
    forecasts: Mapping[str, Tensor],
    targets: Tensor,
    empty: ForecastMetrics,
) -> None:
    """Write errors_by_series.csv and draw the MASE of each series. `rows` are the windows in the test split, `int64 [N]`."""
    meta = windows.meta
    assert isinstance(meta, Meta)
    found = SeriesErrors.of(forecasts, targets, empty, series_of(windows, rows), naive_errors(windows))
    store.write_atomically(folder / TABLE, found.table(meta.targets).encode())
    best = found.best_baseline()
    better, known = found.better_than(best)
    with drawing(FIGURE):
        title = f"{name}: {len(rows):,} test windows\nbetter than {best} in {better:,} of {known:,} series"
        save(error_by_series(found.mase(), found.series, title), folder / FIGURE)
