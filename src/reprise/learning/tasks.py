"""What is asked of a network: how its outputs are read, the loss, the metrics.

Shapes: `N` samples, `K` classes, `T` time steps, `C` channels, `S` forecast steps (horizon), `Y` target channels.
"""

from typing import Any, ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor

CALIBRATION_BINS = 15
"""Of the expected calibration error: Guo et al. 2017."""


class Task(Protocol):
    """A task is made with `meta` (windows.json) and the arguments of its config."""

    monitor: ClassVar[str]
    """The validation metric by which the best epoch is chosen."""
    mode: ClassVar[Literal["min", "max"]]
    tolerates_bf16: ClassVar[bool]
    """Whether three significant digits in the activations are enough."""
    outputs: int
    """How many numbers the network gives a sample."""

    def read(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """The network's outputs `[B, outputs]` as predictions shaped for `loss`."""
        ...

    def answer(self, predictions: Tensor) -> Tensor:
        """Predictions as a user wants them: probabilities, or values in the units of the data."""
        ...

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Mean over the batch."""
        ...

    def metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of a whole split at once: exact sums over exact counts."""
        ...


class Classification:
    """One class a sample. Predictions are logits `[N, K]`, targets `int64 [N]`.

    Args:
        meta: windows.json.
        label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7), in training alone.

    """

    monitor: ClassVar[str] = "accuracy"
    mode: ClassVar[Literal["min", "max"]] = "max"
    tolerates_bf16: ClassVar[bool] = True

    def __init__(self, meta: dict[str, Any], label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing={label_smoothing}: must be at least 0 and below 1")
        self.outputs = len(meta["classes"])
        self.label_smoothing = label_smoothing

    def read(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Logits as they are."""
        return outputs

    def answer(self, predictions: Tensor) -> Tensor:
        """Probabilities `[N, K]`."""
        return predictions.float().softmax(-1)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, mean over the batch."""
        return F.cross_entropy(predictions.float(), targets, label_smoothing=self.label_smoothing)

    def metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        """accuracy, f1_macro, ece and loss (without label smoothing)."""
        from torchmetrics.functional.classification import (
            multiclass_accuracy,
            multiclass_calibration_error,
            multiclass_f1_score,
        )

        logits, classes = predictions.float(), self.outputs
        return {
            "loss": F.cross_entropy(logits.double(), targets).item(),
            "accuracy": multiclass_accuracy(logits, targets, classes, average="micro").item(),
            "f1_macro": multiclass_f1_score(logits, targets, classes, average="macro").item(),
            "ece": multiclass_calibration_error(logits.softmax(-1), targets, classes, n_bins=CALIBRATION_BINS).item(),
        }


class Forecasting:
    """The next values of target channels. Predictions and targets are standardised values `[N, S, Y]`.

    Args:
        meta: windows.json.
        loss: mse, mae or huber, of standardised values.
        difference: the network's outputs are added to the last value read, so it learns the change.

    """

    monitor: ClassVar[str] = "mae"
    mode: ClassVar[Literal["min", "max"]] = "min"
    tolerates_bf16: ClassVar[bool] = False
    LOSSES: ClassVar[dict[str, Any]] = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}

    def __init__(self, meta: dict[str, Any], loss: Literal["mse", "mae", "huber"] = "mse", difference: bool = True) -> None:
        positions = meta["target_positions"]
        self.shape = (meta["horizon"], len(positions))
        self.outputs = meta["horizon"] * len(positions)
        self.positions = positions
        self.difference = difference
        dtype = torch.float64 if meta.get("dtype") == "float64" else torch.float32  # as the inputs were standardised
        self.mean, self.std = (
            torch.tensor([meta["statistics"][key][p] for p in positions], dtype=dtype) for key in ("mean", "std")
        )
        self.naive_mae = torch.tensor(meta["statistics"]["naive_mae"], dtype=torch.float64)
        self._loss = self.LOSSES[loss]

    def read(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Outputs `[B, S * Y]` as levels `[B, S, Y]`."""
        forecast = torch.unflatten(outputs, 1, self.shape)
        return forecast + inputs[:, -1:, self.positions] if self.difference else forecast

    def answer(self, predictions: Tensor) -> Tensor:
        """Values in the units of the data `[N, S, Y]`: float64 where the series is, else as the predictions are."""
        values = predictions.to(torch.promote_types(predictions.dtype, self.mean.dtype))
        return values * self.std.to(values) + self.mean.to(values)

    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """The chosen loss of standardised values, mean over the batch."""
        loss: Tensor = self._loss(predictions, targets)
        return loss

    def metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        """mae, mse, rmse in units; mase; mae_scaled, mse_scaled of standardised values; loss.

        mase is the mean absolute error over that of the naive forecast (next = last) within the training split, averaged
        over channels. Source: Hyndman and Koehler 2006, eq. 4.
        """
        from torchmetrics.functional.regression import mean_absolute_error, mean_squared_error

        scaled, true_scaled = predictions.double().contiguous(), targets.double().contiguous()
        values, true = self.answer(scaled).contiguous(), self.answer(true_scaled).contiguous()
        mse = mean_squared_error(values, true).item()
        by_channel = (values - true).abs().mean(dim=(0, 1)).cpu()
        return {
            "loss": self.loss(scaled, true_scaled).item(),
            "mae": mean_absolute_error(values, true).item(),
            "mse": mse,
            "rmse": mse**0.5,
            "mase": (by_channel / self.naive_mae).mean().item(),
            "mae_scaled": mean_absolute_error(scaled, true_scaled).item(),
            "mse_scaled": mean_squared_error(scaled, true_scaled).item(),
        }
