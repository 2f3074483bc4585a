"""Metrics of forecasts. Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels."""

from collections.abc import Sequence
from typing import Literal, final

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.tasks.exact_sums import ExactSums
from reprise.tasks.metrics import Metrics


@final
class ForecastMetrics(Metrics):
    """Errors of standardised forecasts `[N, S, Y]`.

    Errors in units are scaled errors times `std`. With several targets, errors in units and mase are reported for each
    (`mae/NAME`). Only unitless metrics are pooled: mae_scaled and mse_scaled over the targets that have a scale, mase over all
    targets. With one target, names have no suffix. Undefined metrics are omitted.

    Args:
        targets: names of the target channels, as used in metric names.
        std: standard deviation of each target in the training split, in its unit.
        naive_mae: mean absolute error of the naive forecast (next = last) in the training split, in the target's unit. It is 0
            if the target is constant there: then the target has no scale, and mase is undefined.
        loss: mse, mae or huber.
        device: device of predictions and targets.

    """

    def __init__(
        self,
        targets: Sequence[str],
        std: Sequence[float],
        naive_mae: Sequence[float],
        loss: Literal["mse", "mae", "huber"] = "mse",
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(device)
        self.targets, self.std, self.naive_mae, self.loss = targets, std, naive_mae, loss
        kinds = ("mae", "mse") if loss in {"mae", "mse"} else ("mae", "mse", loss)
        self.sums = {kind: ExactSums(len(targets), self.device) for kind in kinds}
        """Sums over samples of the mean over steps, by target."""

    @property
    def state(self) -> dict[str, Tensor]:
        """Sums of errors by target."""
        parts = [sums.state(name) for name, sums in self.sums.items()]
        return super().state | {name: tensor for part in parts for name, tensor in part.items()}

    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        forecast, true = predictions.double(), targets.double()
        error = forecast - true
        self.sums["mae"].add(_mean_over_steps(error.abs()))
        self.sums["mse"].add(_mean_over_steps(error.square()))
        if "huber" in self.sums:
            self.sums["huber"].add(_mean_over_steps(F.huber_loss(forecast, true, reduction="none")))

    def _compute(self, count: int) -> dict[str, float]:
        means = {kind: sums.means([count] * len(self.targets)) for kind, sums in self.sums.items()}
        several, scaled = len(self.targets) > 1, [number for number, naive in enumerate(self.naive_mae) if naive > 0]
        metrics = {"loss": _mean(means[self.loss])}
        mase = {}
        for number, (name, std) in enumerate(zip(self.targets, self.std, strict=True)):
            suffix = f"/{name}" if several else ""
            mae, mse = std * means["mae"][number], std**2 * means["mse"][number]
            metrics |= {f"mae{suffix}": mae, f"mse{suffix}": mse, f"rmse{suffix}": mse**0.5}
            if number in scaled:
                mase[f"mase{suffix}"] = mae / self.naive_mae[number]
        if several and len(scaled) == len(self.targets):
            metrics["mase"] = _mean(list(mase.values()))
        metrics |= mase
        if scaled:
            metrics |= {f"{kind}_scaled": _mean([means[kind][number] for number in scaled]) for kind in ("mae", "mse")}
        return metrics


def _mean_over_steps(values: Tensor) -> Tensor:
    """Return the means `[N, Y]` of `float64 [N, S, Y]`, by pairwise summation.

    `Tensor.sum` may add the numbers of a sample in an order that depends on the batch size.
    """
    steps = values.shape[1]
    while (length := values.shape[1]) > 1:
        half = length // 2
        paired = values[:, :half] + values[:, half : 2 * half]
        if length % 2:
            paired[:, 0] += values[:, -1]
        values = paired
    return values[:, 0] / steps


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
