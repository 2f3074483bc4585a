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
    """Standardised forecasts and targets of evenly spaced windows, or of all if they are few."""

    rows: Tensor
    """Indices of the windows in the split, `int64 [M]`."""
    predictions: Tensor
    """`float32 [M, S, Y]`; of quantiles `[M, S, Y, Q]`."""
    targets: Tensor
    """`float32 [M, S, Y]`."""

    @classmethod
    def of(cls, kept: Tensor, rows: Tensor, quantiles: bool = False) -> Self:
        """Return the forecasts from the output of `EvenlySpaced.keep` over all batches."""
        kept = kept.cpu()
        predictions, targets = kept[:, :-1], kept[:, -1]
        return cls(rows, predictions.movedim(1, -1) if quantiles else predictions[:, 0], targets)


@dataclass(frozen=True)
class EvenlySpaced:
    """Every window of a split whose index is a multiple of `every`."""

    windows: int
    """Number of windows of the split."""
    every: int

    @classmethod
    def at_most(cls, windows: int, most: int) -> Self:
        """Return as many as possible, at most `most` (if that is 1 or more)."""
        return cls(windows, -(-windows // max(1, most)))

    @property
    def rows(self) -> Tensor:
        """The indices of the windows, `int64 [M]`."""
        return torch.arange(0, self.windows, self.every)

    def keep(self, batch_size: int) -> Callable[[Tensor, Tensor, int], Tensor]:
        """Return the function that selects these windows from a batch, `float32 [m, Q + 1, S, Y]`.

        Targets come last; `Q` is 1 for point forecasts.
        """
        return partial(_keep_forecasts, every=self.every, batch_size=batch_size)


def _keep_forecasts(predictions: Tensor, targets: Tensor, batch: int, every: int, batch_size: int) -> Tensor:
    first = -batch * batch_size % every  # the first window of this batch whose index in the split is a multiple of `every`
    forecasts = predictions[first::every].float()
    by_quantile = forecasts.movedim(-1, 1) if forecasts.dim() > targets.dim() else forecasts[:, None]
    return torch.cat([by_quantile, targets[first::every, None].float()], dim=1)
