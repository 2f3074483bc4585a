"""Metrics of forecasts. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Self, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.tasks import metric_names
from reprise.tasks.conformal import Margins
from reprise.tasks.exact_sums import ExactSums, mean_over_steps
from reprise.tasks.interval_metrics import DECILES, IntervalSums, QuantileLossSums, decile_offsets
from reprise.tasks.metrics import Metrics
from reprise.tasks.quantiles import Quantiles, pinball

MAX_NAMED_TARGETS = 8
"""Up to this number of targets, each has metrics of its own. With more, metrics are pooled only."""
RESOLUTION = 2.0**-22
"""Relative error of float32 targets: a smaller error of a forecast counts as none in smape, which would divide 0 by 0."""
Errors = dict[str, float]
POINT = Quantiles()
"""Predictions are point forecasts."""


@final
class ForecastMetrics(Metrics):
    """Errors of standardised forecasts `[N, S, Y]`, or of the median of quantiles `[N, S, Y, Q]`.

    Errors in units are scaled errors times `std`. With several targets, all but the scaled metrics are reported for each
    (`mae/NAME`), up to `MAX_NAMED_TARGETS` targets. Only unitless metrics are pooled: scaled ones over the targets that have a
    scale, the others over all targets. With one target, names have no suffix. Undefined metrics are omitted.

    Calibrated intervals have coverage_80, width_80 (in units), width_80_scaled, and the same of 95 %. wql is the weighted
    quantile loss: twice the sum of the pinball losses in units divided by the sum of the absolute values, mean over quantiles.
    The quantiles are those of the predictions; of point forecasts, the deciles that calibrated intervals give. Source:
    `mean_weighted_sum_quantile_loss` of GluonTS, as reported by GIFT-Eval (Aksu et al. 2024); there, targets are pooled.

    mae_scaled and mse_scaled are means over all windows, steps and targets, as published for the ETT data.

    A target value that is missing (NaN) is left out of all metrics. Means over targets give each target the same weight. A target
    without any value has no metrics.

    Args:
        targets: names of the target channels, as used in metric names.
        mean: mean of each target in the training split, in its unit.
        std: standard deviation of each target in the training split, in its unit.
        naive_mae: mean absolute error of the naive forecast (next = last) in the training split, in the target's unit. It is 0
            if the target is constant there: then the target has no scale, and mase is undefined.
        loss: mse, mae, huber or pinball.
        device: device of predictions and targets.
        quantiles: the quantiles that predictions hold.
        margins: those of calibrated intervals.

    """

    def __init__(
        self,
        targets: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        naive_mae: Sequence[float],
        loss: str = "mse",
        device: torch.device | str = "cpu",
        quantiles: Quantiles = POINT,
        margins: Margins | None = None,
    ) -> None:
        super().__init__(device)
        self.quantiles, self.margins = quantiles, margins
        self.targets, self.mean, self.std, self.naive_mae, self.loss = targets, mean, std, naive_mae, loss
        self._mean, self._std = (torch.tensor(values, dtype=torch.float64, device=self.device) for values in (mean, std))
        kinds = ["mae", "mse", "smape"] + [loss] * (loss not in {"mae", "mse"})
        self.sums = {kind: ExactSums(len(targets), self.device) for kind in kinds}
        """Sums over samples of the mean over steps, by target. A missing value adds 0."""
        self.values, self.missing = self.integers(1), self.integers(len(targets))
        """Number of values of each target with the missing ones, and of the missing ones by target."""
        offsets = decile_offsets(margins) if margins and not quantiles else None
        self.intervals = IntervalSums(margins, quantiles, self.device) if margins else None
        self.wql = (
            QuantileLossSums(quantiles.levels or DECILES, offsets, self._mean, self._std)
            if quantiles or offsets is not None
            else None
        )

    def emptied(self, intervals: bool = True) -> Self:
        """Return empty metrics like these, with or without those of intervals."""
        scales = self.targets, self.mean, self.std, self.naive_mae
        return type(self)(*scales, self.loss, self.device, self.quantiles, self.margins if intervals else None)

    @property
    def state(self) -> dict[str, Tensor]:
        """Sums of errors, and numbers of missing values, by target."""
        parts = [sums.state(name) for name, sums in self.sums.items()]
        parts += [sums.state for sums in (self.intervals, self.wql) if sums]
        own = {name: tensor for part in parts for name, tensor in part.items()}
        return super().state | own | {"values": self.values, "missing": self.missing}

    def by_target(self) -> list[Errors]:
        """Return the errors of each target, without those that are undefined."""
        self._flush()
        return self._by_target(self._means(int(self.count)))

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        forecast, true = self.quantiles.point(predictions).double(), targets.double()
        missing = true.isnan()
        self.values += true[..., 0].numel()
        self.missing += missing.sum((0, 1))
        for sums in (self.intervals, self.wql):
            if sums:
                sums.add(predictions.double(), true)
        if "pinball" in self.sums:
            losses = pinball(predictions.double(), true, self.quantiles.levels)
            self.sums["pinball"].add(mean_over_steps(losses.nan_to_num()))
        true = torch.where(missing, forecast, true)  # so that all its errors are 0
        error = forecast - true
        self.sums["mae"].add(mean_over_steps(error.abs()))
        self.sums["mse"].add(mean_over_steps(error.square()))
        self.sums["smape"].add(mean_over_steps(self._symmetric(forecast, true)))
        if "huber" in self.sums:
            self.sums["huber"].add(mean_over_steps(F.huber_loss(forecast, true, reduction="none")))

    def _symmetric(self, forecast: Tensor, true: Tensor) -> Tensor:
        """Return twice the absolute error divided by the sum of the absolute values, `float64 [N, S, Y]`; 0 for no error."""
        error = (forecast - true).abs()
        size = (forecast * self._std + self._mean).abs() + (true * self._std + self._mean).abs()
        return torch.where(error <= RESOLUTION * true.abs(), 0.0, 2 * error * self._std / size)

    def _means(self, count: int) -> dict[str, list[float]]:
        """Return the mean errors of each target; NaN if it has no value."""
        values = int(self.values)
        counts = [Fraction(count * (values - missing), values) for missing in self.missing.tolist()]
        return {kind: sums.means(counts) for kind, sums in self.sums.items()}

    def _by_target(self, means: dict[str, list[float]]) -> list[Errors]:
        result: list[Errors] = []
        absent = (self.missing == self.values).tolist()
        observed = (self.values - self.missing).tolist()
        wql = self.wql.by_target(int(self.count)) if self.wql else [{}] * len(self.std)
        intervals = self.intervals.by_target(int(self.count), observed, self.std) if self.intervals else [{}] * len(self.std)
        for number, (std, naive) in enumerate(zip(self.std, self.naive_mae, strict=True)):
            if absent[number]:
                result.append({})
                continue
            mae, mse = std * means["mae"][number], std**2 * means["mse"][number]
            errors = {"mae": mae, "mse": mse, "rmse": mse**0.5, "smape": means["smape"][number]}
            if naive > 0:
                scaled = {f"{kind}_scaled": means[kind][number] for kind in ("mae", "mse")}
                errors |= {"mase": mae / naive, **scaled}
            errors |= wql[number] | {
                kind: value for kind, value in intervals[number].items() if naive > 0 or "_scaled" not in kind
            }
            result.append(errors)
        return result

    def _compute(self, count: int) -> dict[str, float]:
        means = self._means(count)
        targets = self._by_target(means)
        present = [number for number, errors in enumerate(targets) if errors]
        metrics = {"loss": _mean([means[self.loss][number] for number in present])} if present else {}
        if len(targets) == 1:
            return metrics | targets[0]
        for kind in dict.fromkeys(kind for errors in targets for kind in errors):
            values = [errors[kind] for errors in targets if kind in errors]
            if not metric_names.in_units(kind) and (kind.endswith("_scaled") or len(values) == len(present)):
                metrics[kind] = _mean(values)
        if len(targets) <= MAX_NAMED_TARGETS:
            for name, errors in zip(self.targets, targets, strict=True):
                metrics |= {f"{kind}/{name}": value for kind, value in errors.items() if not kind.endswith("_scaled")}
        return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def errors_by_step(metrics: ForecastMetrics, predictions: Tensor, targets: Tensor) -> list[list[Errors]]:
    """Return the errors of each target at each step, `[S][Y]`. `metrics` gives scales and intervals, and is not changed."""
    steps = predictions.shape[1]
    margins = metrics.margins and Margins(metrics.margins.windows, metrics.margins.values.flatten(1)[:, None])
    mean, std, naive_mae = (list(values) * steps for values in (metrics.mean, metrics.std, metrics.naive_mae))
    columns = ForecastMetrics(list(metrics.targets) * steps, mean, std, naive_mae, quantiles=metrics.quantiles, margins=margins)
    columns.update(predictions.flatten(1, 2)[:, None], targets.flatten(1)[:, None])
    errors, count = columns.by_target(), len(metrics.targets)
    return [errors[step * count : (step + 1) * count] for step in range(steps)]
