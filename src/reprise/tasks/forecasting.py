"""Forecasting.

Shapes: `N` windows, `T` time steps, `C` channels, `S` forecast steps (horizon), `Y` target channels, `Q` quantiles.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.modalities.series.arrays import Meta
from reprise.data.windows import Windows
from reprise.tasks.conformal import (
    LEVELS,
    MAX_NUMBERS,
    MAX_WINDOWS,
    MEASURED,
    Margins,
    conformal_margins,
    fewest_windows,
    percent,
)
from reprise.tasks.forecast_metrics import MAX_NAMED_TARGETS, ForecastMetrics
from reprise.tasks.kept_predictions import FORECAST_NUMBERS, EvenlySpaced, Forecasts
from reprise.tasks.metric_names import LOSS, MAE, MAE_SCALED
from reprise.tasks.naive_forecasts import NaiveForecasts
from reprise.tasks.quantiles import Quantiles, pinball
from reprise.tasks.task import Baseline, Keep, Task, choose_monitor


class Forecasting(Task):
    """Forecasting of the next values of the target channels.

    Predictions and targets are standardised values `[N, S, Y]`; predictions of quantiles are `[N, S, Y, Q]`, in increasing order.

    Args:
        meta: windows.json.
        loss: mse, mae or huber of standardised values; by default mse. Of quantiles it is the mean pinball loss.
        predict_delta: whether the network predicts the change from the last value of the window instead of the value.
        quantiles: the quantiles to forecast, such as `[0.1, 0.5, 0.9]`. The median is the point forecast.
        monitor: the validation metric that selects the best epoch. By default mae; with several targets mae_scaled, because
            errors in different units cannot be averaged.

    """

    report: ClassVar[str] = "reprise.reports.forecasting"
    tolerates_bf16: ClassVar[bool] = False
    mean: Tensor
    std: Tensor
    positions: Tensor
    """Positions of the target channels among the inputs, `int64 [Y]`."""
    LOSSES: ClassVar[dict[str, Any]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(
        self,
        meta: WindowsMeta,
        loss: Literal["mse", "mae", "huber"] | None = None,
        predict_delta: bool = True,
        monitor: str | None = None,
        quantiles: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(meta, Meta):
            raise ValueError(f"needs windows of a series, and the data are {meta.kind}")
        self.quantiles = Quantiles(tuple(quantiles or ()))
        if self.quantiles and loss is not None:
            raise ValueError(f"loss={loss}: quantiles have the pinball loss; leave out loss, or quantiles")
        self.register_buffer("positions", torch.tensor(meta.target_positions), persistent=False)
        self.output_shape = (meta.horizon, len(meta.targets), *([len(self.quantiles.levels)] if self.quantiles else []))
        self.predict_delta = predict_delta
        dtype = torch.float64 if meta.dtype == "float64" else torch.float32
        level, scale = ([meta.statistics[key][position] for position in meta.target_positions] for key in ("mean", "std"))
        self.register_buffer("mean", torch.tensor(level, dtype=dtype))
        self.register_buffer("std", torch.tensor(scale, dtype=dtype))
        self.loss_name = "pinball" if self.quantiles else loss or "mse"
        self.margins: Margins | None = None
        """Margins of the intervals that metrics measure, of a calibrated task."""
        self._has_missing = any(meta.missing_targets.values())
        self._level, self._scale, self._naive_mae = level, scale, meta.statistics["naive_mae"]
        self.targets = metric_suffixes(meta.targets)
        self.units = _metric_units(self.targets, meta.units)
        self.undefined = _undefined_metrics(self.targets, self._naive_mae)
        known = self.new_metrics()
        known.update(torch.zeros(1, *self.output_shape), torch.ones(1, *self.output_shape[:2]))
        default = MAE if len(meta.targets) == 1 else LOSS if MAE_SCALED in self.undefined else MAE_SCALED
        self.monitor, self.mode = choose_monitor(monitor, default, [*known.compute()], self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs `[B, S * Y]` as standardised values `[B, S, Y]`; `[B, S * Y * Q]` as quantiles `[B, S, Y, Q]`.

        Quantiles are sorted so that none crosses another, which never increases the pinball loss. Source: Chernozhukov,
        Fernández-Val and Galichon 2010, Quantile and probability curves without crossing.
        """
        forecast = torch.unflatten(outputs, 1, self.output_shape)
        if self.predict_delta:
            last = inputs[:, -1:].index_select(2, self.positions)
            forecast = forecast + (last[..., None] if self.quantiles else last)
        return forecast.sort(dim=-1).values if self.quantiles else forecast

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return point forecasts in the units of the data `[N, S, Y]`: of quantiles the median. See `in_units`."""
        return self.in_units(self.quantiles.point(predictions))

    def in_units(self, values: Tensor) -> Tensor:
        """Return values `[…, Y]` in the units of the data: float64 if the series is, else in their dtype."""
        values = values.to(torch.promote_types(values.dtype, self.mean.dtype))
        return values * self.std.to(values.dtype) + self.mean.to(values.dtype)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the configured loss of standardised values, mean over the batch. A missing target (NaN) adds 0.

        Missing targets count in the divisor, so that an observed value has the same weight in every batch and on every rank.
        """
        if self._has_missing:
            missing = targets.isnan()
            predictions = predictions.masked_fill(missing[..., None] if self.quantiles else missing, 0.0)
            targets = targets.masked_fill(missing, 0.0)
        if self.quantiles:
            return pinball(predictions, targets, self.quantiles.levels).mean()
        loss: Tensor = self.LOSSES[self.loss_name](predictions, targets)
        return loss

    def new_metrics(self, device: torch.device | str = "cpu") -> ForecastMetrics:
        """Return empty metrics: mae, mse, rmse in units, mase and smape, by target; mae_scaled, mse_scaled (standardised); loss.

        mase is the mean absolute error divided by that of the naive forecast (next = last) on the training split. Source: Hyndman
        and Koehler 2006, eq. 4. smape is the mean of twice the absolute error divided by the sum of the absolute values, from 0
        to 2. Source: Makridakis, Spiliotis and Assimakopoulos 2020, The M4 Competition. With several targets, mase and smape are
        also means over targets. Quantiles, and intervals of a calibrated task, have the metrics that `ForecastMetrics` names.
        """
        scales = self.targets, self._level, self._scale, self._naive_mae
        return ForecastMetrics(*scales, self.loss_name, device, self.quantiles, self.margins)

    def of_point(self, forecast: Tensor) -> Tensor:
        """Return a point forecast `[N, S, Y]` as predictions: all quantiles are the same."""
        return forecast[..., None].expand(-1, *self.output_shape) if self.quantiles else forecast

    def baselines(self, windows: Windows) -> Mapping[str, Baseline]:
        """Return the naive forecasts of the test windows: see `NaiveForecasts`."""
        naive = NaiveForecasts(windows)
        return {name: partial(self._baseline, naive, name) for name in naive.names}

    def _baseline(self, naive: NaiveForecasts, name: str, rows: Tensor) -> Tensor:
        return self.of_point(naive.of(name, rows))

    def keep(self, samples: int, batch_size: int) -> Keep:
        """Return the function that keeps the forecasts of evenly spaced windows."""
        return self._kept_windows(samples).keep(batch_size)

    def kept(self, rows: Tensor, samples: int) -> Forecasts:
        """Return the kept forecasts."""
        return Forecasts.of(rows, self._kept_windows(samples).rows, bool(self.quantiles))

    def _kept_windows(self, samples: int) -> EvenlySpaced:
        return EvenlySpaced.at_most(samples, FORECAST_NUMBERS // max(1, self.outputs))

    def calibration_windows(self, samples: int) -> EvenlySpaced:
        """Return the windows of val that intervals are calibrated on. `samples` is the number of windows of val."""
        return EvenlySpaced.at_most(samples, min(MAX_WINDOWS, MAX_NUMBERS // max(1, self.outputs)))

    def keep_to_calibrate(self, samples: int, batch_size: int) -> Keep:
        """Return the function that keeps the windows of `calibration_windows`."""
        return self.calibration_windows(samples).keep(batch_size)

    def calibrate(self, kept: Tensor) -> Tensor:
        """Return the margins of the intervals `float64 [L, S, Y]`: see `Margins`."""
        forecasts = Forecasts.of(kept, torch.arange(len(kept)), bool(self.quantiles))
        bounds = [self.quantiles.bounds(forecasts.predictions, level) for level in LEVELS]
        return conformal_margins(bounds, forecasts.targets)

    def calibrated(self, calibration: Tensor, samples: int) -> Self:
        """Return a copy of the task whose metrics include coverage and width of the intervals with these margins."""
        margins = Margins(len(self.calibration_windows(samples).rows), calibration)
        task = copy.deepcopy(self)
        task.margins = margins
        for level in MEASURED:
            coverage, width = f"coverage_{percent(level)}", f"width_{percent(level)}"
            if level in margins.levels:
                units = {name: unit for name, unit in self.units.items() if name.partition("/")[0] == MAE}
                task.units = {**task.units, **{name.replace(MAE, width, 1): unit for name, unit in units.items()}}
            else:
                reason = f"val has {margins.windows:,} windows; the interval needs {fewest_windows(level)}"
                task.undefined = {**task.undefined, coverage: reason, width: reason}
        return task


def metric_suffixes(targets: Sequence[str]) -> list[str]:
    """Return unique names of the targets for metric names. MLflow allows letters, digits, blanks and `_ - .`."""
    names: list[str] = []
    for target in targets:
        plain = re.sub(r"[^\w. -]", "_", target)[:100]
        name = plain if plain.strip(" .") else f"_{len(names) + 1}"  # MLflow takes `mae/..` for a path
        while name in names:
            name += "_"
        names.append(name)
    return names


def _metric_units(targets: Sequence[str], units: Sequence[str]) -> dict[str, str]:
    result: dict[str, str] = {}
    if len(targets) > MAX_NAMED_TARGETS:
        return result
    for target, unit in zip(targets, units, strict=True):
        if unit:
            suffix = f"/{target}" if len(targets) > 1 else ""
            squared = f"{unit}²" if re.fullmatch(r"[^\s/*·^]+", unit) else f"({unit})²"
            result |= {f"mae{suffix}": unit, f"mse{suffix}": squared, f"rmse{suffix}": unit}
    return result


def _undefined_metrics(targets: Sequence[str], naive_mae: Sequence[float]) -> dict[str, str]:
    constant = [target for target, naive in zip(targets, naive_mae, strict=True) if not naive]
    if not constant:
        return {}
    reason = f"{', '.join(constant)}: constant in the training split"
    result = {"mase": reason}
    if 1 < len(targets) <= MAX_NAMED_TARGETS:
        result |= {f"mase/{target}": f"{target}: constant in the training split" for target in constant}
    if len(constant) == len(targets):
        result |= {"mae_scaled": reason, "mse_scaled": reason}
    return result
