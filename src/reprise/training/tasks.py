"""Tasks: how a network's outputs are decoded, the loss, the metrics.

Shapes: `N` samples, `K` classes, `T` time steps, `C` channels, `S` forecast steps (horizon), `Y` target channels.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

from reprise.config.targets import nearest
from reprise.training.metrics import ClassificationMetrics, ForecastMetrics, Metrics

HIGHER_IS_BETTER = {"accuracy", "f1_macro"}
"""Metrics to maximise; all others are minimised."""
Mode = Literal["min", "max"]


class Task(Protocol):
    """A task, constructed from `meta` (the content of windows.json) and the arguments in its config."""

    monitor: str
    """The validation metric that selects the best epoch."""
    mode: Mode
    tolerates_bf16: ClassVar[bool]
    """Whether bf16 activations (about three significant digits) are precise enough."""
    outputs: int
    """Number of network outputs per sample."""
    units: Mapping[str, str]
    """Units of the metrics that have one."""
    undefined: Mapping[str, str]
    """Metrics that are undefined on these data, with the reason. `new_metrics().compute()` omits them."""

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the network's outputs `[B, outputs]` as predictions in the shape that `loss` expects."""
        ...

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return probabilities, or values in the units of the data."""
        ...

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the batch."""
        ...

    def new_metrics(self, device: torch.device | str = "cpu") -> Metrics:
        """Return empty metrics of one split."""
        ...


def facts(task: Task) -> dict[str, str]:
    """Return the run tags of a task: the monitored metric, units, and undefined metrics with the reason."""
    return {
        "monitor": f"val/{task.monitor}",
        "mode": task.mode,
        **{f"unit.{metric}": unit for metric, unit in task.units.items()},
        **{f"undefined.{metric}": reason for metric, reason in task.undefined.items()},
    }


class Classification:
    """Classification with one class per sample. Predictions are logits `[N, K]`, targets `int64 [N]`.

    Args:
        meta: windows.json.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7), in training only.
        monitor: the validation metric that selects the best epoch; by default accuracy.

    """

    units: Mapping[str, str] = {}
    undefined: Mapping[str, str] = {}

    tolerates_bf16: ClassVar[bool] = True

    def __init__(self, meta: dict[str, Any], label_smoothing: float = 0.0, monitor: str | None = None) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.outputs = len(meta["classes"])
        self.label_smoothing = label_smoothing
        known = ("loss", "accuracy", "f1_macro", "ece")
        self.monitor, self.mode = _monitor(monitor, "accuracy", known, self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs, which are logits."""
        return outputs

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return probabilities `[N, K]`."""
        return predictions.float().softmax(-1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy over the batch."""
        return F.cross_entropy(predictions.float(), targets, label_smoothing=self.label_smoothing)

    def new_metrics(self, device: torch.device | str = "cpu") -> ClassificationMetrics:
        """Return empty metrics: accuracy, f1_macro, ece and loss (without label smoothing)."""
        return ClassificationMetrics(self.outputs, device)


class Forecasting:
    """Forecasting of the next values of the target channels. Predictions and targets are standardised values `[N, S, Y]`.

    Args:
        meta: windows.json.
        loss: mse, mae or huber of standardised values.
        predict_delta: whether the network predicts the change from the last value of the window instead of the value.
        monitor: the validation metric that selects the best epoch. By default mae; with several targets mae_scaled, because
            errors in different units cannot be averaged.

    """

    tolerates_bf16: ClassVar[bool] = False
    LOSSES: ClassVar[dict[str, Any]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(
        self,
        meta: dict[str, Any],
        loss: Literal["mse", "mae", "huber"] = "mse",
        predict_delta: bool = True,
        monitor: str | None = None,
    ) -> None:
        positions = meta["target_positions"]
        self.shape = (meta["horizon"], len(positions))
        self.outputs = meta["horizon"] * len(positions)
        self.positions = positions
        self.predict_delta = predict_delta
        dtype = torch.float64 if meta.get("dtype") == "float64" else torch.float32  # the dtype of the standardised inputs
        self.mean, self.std = (
            torch.tensor([meta["statistics"][key][p] for p in positions], dtype=dtype) for key in ("mean", "std")
        )
        self.loss_name = loss
        self._scale = [meta["statistics"]["std"][position] for position in positions]
        self._naive_mae = meta["statistics"]["naive_mae"]
        self.targets = metric_suffixes(meta["targets"])
        self.units = _metric_units(self.targets, meta["units"])
        self.undefined = _undefined_metrics(self.targets, self._naive_mae)
        known = self.new_metrics()
        known.update(torch.zeros(1, *self.shape), torch.zeros(1, *self.shape))
        default = "mae" if len(positions) == 1 else "loss" if "mae_scaled" in self.undefined else "mae_scaled"
        self.monitor, self.mode = _monitor(monitor, default, [*known.compute()], self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs `[B, S * Y]` as standardised values `[B, S, Y]`."""
        forecast = torch.unflatten(outputs, 1, self.shape)
        return forecast + inputs[:, -1:, self.positions] if self.predict_delta else forecast

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return values in the units of the data `[N, S, Y]`: float64 if the series is, else in the dtype of the predictions."""
        values = predictions.to(torch.promote_types(predictions.dtype, self.mean.dtype))
        return values * self.std.to(values) + self.mean.to(values)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the configured loss of standardised values, mean over the batch."""
        loss: Tensor = self.LOSSES[self.loss_name](predictions, targets)
        return loss

    def new_metrics(self, device: torch.device | str = "cpu") -> ForecastMetrics:
        """Return empty metrics: mae, mse, rmse in units and mase, by target; mae_scaled, mse_scaled of standardised values; loss.

        mase is the mean absolute error divided by that of the naive forecast (next = last) on the training split; with several
        targets, also the mean over targets. Source: Hyndman and Koehler 2006, eq. 4.
        """
        return ForecastMetrics(self.targets, self._scale, self._naive_mae, self.loss_name, device)


def _monitor(requested: str | None, default: str, known: Sequence[str], undefined: Mapping[str, str]) -> tuple[str, Mode]:
    """Return the metric that selects the best epoch, and whether smaller or larger is better.

    Raises:
        ValueError: if there is no such metric, or it is undefined.

    """
    name = default if requested is None else requested
    if name in undefined:
        raise ValueError(f"monitor={name}: undefined, {undefined[name]}; {nearest(name, known)}")
    if name not in known:
        raise ValueError(f"monitor={name}: no such validation metric; {nearest(name, known)}")
    return name, "max" if name in HIGHER_IS_BETTER else "min"


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
    if len(targets) > 1:
        result |= {f"mase/{target}": f"{target}: constant in the training split" for target in constant}
    if len(constant) == len(targets):
        result |= {"mae_scaled": reason, "mse_scaled": reason}
    return result
