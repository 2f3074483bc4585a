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
"""Metrics that are no errors."""
Mode = Literal["min", "max"]


class Task(Protocol):
    """A task is made with `meta` (windows.json) and the arguments of its config."""

    monitor: str
    """The validation metric by which the best epoch is chosen."""
    mode: Mode
    tolerates_bf16: ClassVar[bool]
    """Whether three significant digits in the activations are enough."""
    outputs: int
    """How many numbers the network gives a sample."""
    units: Mapping[str, str]
    """The units of the metrics that have one."""
    undefined: Mapping[str, str]
    """Metrics that these data do not define, each with the reason. They are left out of `new_metrics().compute()`."""

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The network's outputs `[B, outputs]` as predictions shaped for `loss`."""
        ...

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Predictions as a user wants them: probabilities, or values in the units of the data."""
        ...

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch."""
        ...

    def new_metrics(self, device: torch.device | str = "cpu") -> Metrics:
        """Empty metrics of one split, to be updated with predictions and targets."""
        ...


def facts(task: Task) -> dict[str, str]:
    """Tags of a run that tell of its task: the metric that chooses the epoch, units, undefined metrics with the reason."""
    return {
        "monitor": f"val/{task.monitor}",
        "mode": task.mode,
        **{f"unit.{metric}": unit for metric, unit in task.units.items()},
        **{f"undefined.{metric}": reason for metric, reason in task.undefined.items()},
    }


class Classification:
    """One class a sample. Predictions are logits `[N, K]`, targets `int64 [N]`.

    Args:
        meta: windows.json.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7), in training alone.
        monitor: the validation metric that chooses the epoch; by default accuracy.

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
        """Logits as they are."""
        return outputs

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Probabilities `[N, K]`."""
        return predictions.float().softmax(-1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, mean over the batch."""
        return F.cross_entropy(predictions.float(), targets, label_smoothing=self.label_smoothing)

    def new_metrics(self, device: torch.device | str = "cpu") -> ClassificationMetrics:
        """accuracy, f1_macro, ece and loss (without label smoothing)."""
        return ClassificationMetrics(self.outputs, device)


class Forecasting:
    """The next values of target channels. Predictions and targets are standardised values `[N, S, Y]`.

    Args:
        meta: windows.json.
        loss: mse, mae or huber, of standardised values.
        predict_delta: the network's outputs are added to the last value read, so it learns the change.
        monitor: the validation metric that chooses the epoch. By default mae, and of several targets mae_scaled, for their
            units cannot be added up.

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
        dtype = torch.float64 if meta.get("dtype") == "float64" else torch.float32  # as the inputs were standardised
        self.mean, self.std = (
            torch.tensor([meta["statistics"][key][p] for p in positions], dtype=dtype) for key in ("mean", "std")
        )
        self.loss_name = loss
        self._scale = [meta["statistics"]["std"][position] for position in positions]
        self._naive_mae = meta["statistics"]["naive_mae"]
        self.targets = metric_suffixes(meta["targets"])
        self.units = _units(self.targets, meta["units"])
        self.undefined = _undefined(self.targets, self._naive_mae)
        known = self.new_metrics()
        known.update(torch.zeros(1, *self.shape), torch.zeros(1, *self.shape))
        default = "mae" if len(positions) == 1 else "loss" if "mae_scaled" in self.undefined else "mae_scaled"
        self.monitor, self.mode = _monitor(monitor, default, [*known.compute()], self.undefined)

    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Outputs `[B, S * Y]` as levels `[B, S, Y]`."""
        forecast = torch.unflatten(outputs, 1, self.shape)
        return forecast + inputs[:, -1:, self.positions] if self.predict_delta else forecast

    def postprocess(self, predictions: Tensor) -> Tensor:
        """Values in the units of the data `[N, S, Y]`: float64 where the series is, else as the predictions are."""
        values = predictions.to(torch.promote_types(predictions.dtype, self.mean.dtype))
        return values * self.std.to(values) + self.mean.to(values)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The chosen loss of standardised values, mean over the batch."""
        loss: Tensor = self.LOSSES[self.loss_name](predictions, targets)
        return loss

    def new_metrics(self, device: torch.device | str = "cpu") -> ForecastMetrics:
        """mae, mse, rmse in units and mase, by target; mae_scaled, mse_scaled of standardised values; loss.

        mase is the mean absolute error over that of the naive forecast (next = last) within the training split; of several
        targets, the mean. Source: Hyndman and Koehler 2006, eq. 4.
        """
        return ForecastMetrics(self.targets, self._scale, self._naive_mae, self.loss_name, device)


def _monitor(asked: str | None, default: str, known: Sequence[str], undefined: Mapping[str, str]) -> tuple[str, Mode]:
    """The metric that chooses the epoch, and which end of it is better.

    Raises:
        ValueError: when there is no such metric.

    """
    name = default if asked is None else asked
    if name in undefined:
        raise ValueError(f"monitor={name}: undefined, {undefined[name]}; {nearest(name, known)}")
    if name not in known:
        raise ValueError(f"monitor={name}: no such validation metric; {nearest(name, known)}")
    return name, "max" if name in HIGHER_IS_BETTER else "min"


def metric_suffixes(targets: Sequence[str]) -> list[str]:
    """The names of targets as they stand in metric names, all different: MLflow allows letters, digits, blanks and `_ - .`."""
    names: list[str] = []
    for target in targets:
        plain = re.sub(r"[^\w. -]", "_", target)[:100]
        name = plain if plain.strip(" .") else f"_{len(names) + 1}"  # MLflow takes `mae/..` for a path
        while name in names:
            name += "_"
        names.append(name)
    return names


def _units(targets: Sequence[str], units: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for target, unit in zip(targets, units, strict=True):
        if unit:
            suffix = f"/{target}" if len(targets) > 1 else ""
            squared = f"{unit}²" if re.fullmatch(r"[^\s/*·^]+", unit) else f"({unit})²"
            found |= {f"mae{suffix}": unit, f"mse{suffix}": squared, f"rmse{suffix}": unit}
    return found


def _undefined(targets: Sequence[str], naive_mae: Sequence[float]) -> dict[str, str]:
    constant = [target for target, naive in zip(targets, naive_mae, strict=True) if not naive]
    if not constant:
        return {}
    reason = f"{', '.join(constant)}: constant in the training split"
    found = {"mase": reason}
    if len(targets) > 1:
        found |= {f"mase/{target}": f"{target}: constant in the training split" for target in constant}
    if len(constant) == len(targets):
        found |= {"mae_scaled": reason, "mse_scaled": reason}
    return found
