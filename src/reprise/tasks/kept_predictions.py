"""The test predictions that `evaluate` keeps for figures and tables, in bounded memory. Metrics need none of them.

Shapes: `N` samples, `K` classes, `S` forecast steps (horizon), `Y` target channels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FORECAST_NUMBERS = 2**24
"""The most forecast values that are kept (64 MiB). Of more windows, every second, third, … is kept."""


@dataclass(frozen=True)
class Classified:
    """Six numbers per sample, for any number of classes. Classes `int64 [N]`, probabilities `float64 [N]`."""

    target: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    runner_up: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    """The probability of the predicted class."""
    runner_up_probability: npt.NDArray[np.float64]
    target_probability: npt.NDArray[np.float64]

    @staticmethod
    def keep(predictions: Tensor, targets: Tensor, batch: int) -> Tensor:
        """Return the numbers `float64 [B, 6]` to keep, from logits `[B, K]` and classes `int64 [B]`."""
        logits = predictions.float().double()
        probabilities = logits.softmax(-1)
        predicted = logits.argmax(-1)  # ties: the first class, as in the metrics
        others = logits.scatter(-1, predicted[:, None], -torch.inf).argmax(-1) if len(logits) else predicted
        classes = torch.stack([targets, predicted, others], dim=-1)
        chosen = probabilities.gather(-1, classes)
        return torch.cat([classes.double(), chosen[:, 1:], chosen[:, :1]], dim=-1)

    @classmethod
    def of(cls, kept: Tensor) -> Self:
        """Return the classifications from the output of `keep` over all batches, `float64 [N, 6]`."""
        columns = kept.cpu().T
        return cls(*(column.long().numpy() for column in columns[:3]), *(column.numpy() for column in columns[3:]))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the true one, per sample."""
        return np.equal(self.predicted, self.target)

    def probabilities(self, rows: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
        """Return probabilities `[row, K]` of some samples: of the predicted, second and true class; the others are 0."""
        result = np.zeros((len(rows), classes))
        index = np.arange(len(rows))
        result[index, self.runner_up[rows]] = self.runner_up_probability[rows]
        result[index, self.target[rows]] = self.target_probability[rows]
        result[index, self.predicted[rows]] = self.confidence[rows]
        return result

    def confusion(self, classes: int) -> npt.NDArray[np.int64]:
        """Return the confusion matrix `int64 [true, predicted]`."""
        return np.bincount(self.target * classes + self.predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Forecasts:
    """Standardised forecasts and targets `float32 [M, S, Y]` of evenly spaced windows, or of all if they are few."""

    rows: Tensor
    """Indices of the windows in the split, `int64 [M]`."""
    predictions: Tensor
    targets: Tensor

    @classmethod
    def of(cls, kept: Tensor, rows: Tensor) -> Self:
        """Return the forecasts from the output of the `forecasts_to_keep` function over all batches, `float32 [M, 2, S, Y]`."""
        predictions, targets = kept.cpu().unbind(1)
        return cls(rows, predictions, targets)


def forecasts_to_keep(windows: int, numbers: int, batch_size: int) -> tuple[Tensor, Callable[[Tensor, Tensor, int], Tensor]]:
    """Return the indices of the windows to keep (`int64 [M]`), and the function that selects them from a batch.

    `windows` is the number of windows, `numbers` the number of forecast values in each.
    """
    every = -(-windows // max(1, FORECAST_NUMBERS // numbers))
    return torch.arange(0, windows, every), partial(_keep_forecasts, every=every, batch_size=batch_size)


def _keep_forecasts(predictions: Tensor, targets: Tensor, batch: int, every: int, batch_size: int) -> Tensor:
    first = -batch * batch_size % every  # the first window of this batch whose index in the split is a multiple of `every`
    return torch.stack([predictions[first::every].float(), targets[first::every].float()], dim=1)
