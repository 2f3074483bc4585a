"""Forecasting. Shapes: `N` windows, `T` time steps, `C` channels, `S` forecast steps (horizon), `Y` target channels."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.modalities.series.arrays import Meta
from reprise.data.windows import Windows
from reprise.tasks.forecast_metrics import MAX_NAMED_TARGETS, ForecastMetrics
from reprise.tasks.kept_predictions import Forecasts, forecasts_to_keep
from reprise.tasks.metric_names import LOSS, MAE, MAE_SCALED
from reprise.tasks.naive_forecasts import NaiveForecasts
from reprise.tasks.task import Baseline, Keep, Task, choose_monitor


class Forecasting(Task):
    """Forecasting of the next values of the target channels. Predictions and targets are standardised values `[N, S, Y]`.

    Args:
        meta: windows.json.
        loss: mse, mae or huber of standardised values.
        predict_delta: whether the network predicts the change from the last value of the window instead of the value.
        monitor: the validation metric that selects the best epoch. By default mae; with several targets mae_scaled, because
            errors in different units cannot be averaged.

    """

    report: ClassVar[str] = "reprise.reports.forecasting"
    tolerates_bf16: ClassVar[bool] = False
    mean: Tensor
    std: Tensor
    LOSSES: ClassVar[dict[str, Any]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(
        self,
        meta: WindowsMeta,
        loss: Literal["mse", "mae", "huber"] = "mse",
        predict_delta: bool = True,
        monitor: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(meta, Meta):
            raise ValueError(f"needs windows of a series, and the data are {meta.kind}")
        self.positions = meta.target_positions
        self.output_shape = (meta.horizon, len(self.positions))
        self.predict_delta = predict_delta
        dtype = torch.float64 if meta.dtype == "float64" else torch.float32
        level, scale = ([meta.statistics[key][position] for position in self.positions] for key in ("mean", "std"))
        self.register_buffer("mean", torch.tensor(level, dtype=dtype))
        self.register_buffer("std", torch.tensor(scale, dtype=dtype))
        self.loss_name, self._has_missing = loss, any(meta.missing_targets.values())
        self._level, self._scale, self._naive_mae = level, scale, meta.statistics["naive_mae"]
        self.targets = metric_suffixes(meta.targets)
        self.units = _metric_units(self.targets, meta.units)
        self.undefined = _undefined_metrics(self.targets, self._naive_mae)
        known = self.new_metrics()
        known.update(torch.zeros(1, *self.output_shape), torch.zeros(1, *self.output_shape))
        default = MAE if len(self.positions) == 1 else LOSS if MAE_SCALED in self.undefined else MAE_SCALED
        self.monitor, self.mode = choose_monitor(monitor, default, [*known.compute()], self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs `[B, S * Y]` as standardised values `[B, S, Y]`."""
        forecast = torch.unflatten(outputs, 1, self.output_shape)
        return forecast + inputs[:, -1:, self.positions] if self.predict_delta else forecast

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return values in the units of the data `[N, S, Y]`: float64 if the series is, else in the dtype of the predictions."""
        values = predictions.to(torch.promote_types(predictions.dtype, self.mean.dtype))
        return values * self.std.to(values.dtype) + self.mean.to(values.dtype)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the configured loss of standardised values, mean over the batch. A missing target (NaN) adds 0.

        Missing targets count in the divisor, so that an observed value has the same weight in every batch and on every rank.
        """
        if self._has_missing:
            missing = targets.isnan()
            predictions, targets = (values.masked_fill(missing, 0.0) for values in (predictions, targets))
        loss: Tensor = self.LOSSES[self.loss_name](predictions, targets)
        return loss

    def new_metrics(self, device: torch.device | str = "cpu") -> ForecastMetrics:
        """Return empty metrics: mae, mse, rmse in units, mase and smape, by target; mae_scaled, mse_scaled (standardised); loss.

        mase is the mean absolute error divided by that of the naive forecast (next = last) on the training split. Source: Hyndman
        and Koehler 2006, eq. 4. smape is the mean of twice the absolute error divided by the sum of the absolute values, from 0
        to 2. Source: Makridakis, Spiliotis and Assimakopoulos 2020, The M4 Competition. With several targets, mase and smape are
        also means over targets.
        """
        return ForecastMetrics(self.targets, self._level, self._scale, self._naive_mae, self.loss_name, device)

    def baselines(self, windows: Windows) -> Mapping[str, Baseline]:
        """Return the naive forecasts of the test windows: see `NaiveForecasts`."""
        naive = NaiveForecasts(windows)
        return {name: partial(naive.of, name) for name in naive.names}

    def keep(self, samples: int, batch_size: int) -> Keep:
        """Return the function that keeps the forecasts of evenly spaced windows."""
        return forecasts_to_keep(samples, self.outputs, batch_size)[1]

    def kept(self, rows: Tensor, samples: int) -> Forecasts:
        """Return the kept forecasts."""
        return Forecasts.of(rows, forecasts_to_keep(samples, self.outputs, 1)[0])


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
