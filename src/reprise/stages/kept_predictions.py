"""What `evaluate` keeps of the predictions of the test split, for figures and tables: bounded, where metrics need nothing kept.

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

from reprise.data.datasets import Windows

FORECAST_NUMBERS = 2**24
"""The most numbers of forecasts that are kept (64 MiB): of more windows, every second, third, … is drawn."""


@dataclass(frozen=True)
class Classified:
    """Six numbers a sample, however many classes there are. Classes `int64 [N]`, probabilities `float64 [N]`."""

    target: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    runner_up: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]
    """The probability of the predicted class."""
    runner_up_probability: npt.NDArray[np.float64]
    target_probability: npt.NDArray[np.float64]

    @staticmethod
    def keep(predictions: Tensor, targets: Tensor, batch: int) -> Tensor:
        """Of logits `[B, K]` and classes `int64 [B]`: `float64 [B, 6]`."""
        logits = predictions.float().double()
        probabilities = logits.softmax(-1)
        predicted = logits.argmax(-1)  # the first of equals, as the metrics have it
        others = logits.scatter(-1, predicted[:, None], -torch.inf).argmax(-1) if len(logits) else predicted
        classes = torch.stack([targets, predicted, others], dim=-1)
        chosen = probabilities.gather(-1, classes)
        return torch.cat([classes.double(), chosen[:, 1:], chosen[:, :1]], dim=-1)

    @classmethod
    def of(cls, kept: Tensor) -> Self:
        """From what `keep` kept of all batches, `float64 [N, 6]`."""
        columns = kept.cpu().T
        return cls(*(column.long().numpy() for column in columns[:3]), *(column.numpy() for column in columns[3:]))

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """Whether the predicted class is the true one."""
        return np.equal(self.predicted, self.target)

    def probabilities(self, rows: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float64]:
        """Probabilities `[row, K]` of some samples: of the predicted class, the runner-up and the true one; the others are 0."""
        found = np.zeros((len(rows), classes))
        at = np.arange(len(rows))
        found[at, self.runner_up[rows]] = self.runner_up_probability[rows]
        found[at, self.target[rows]] = self.target_probability[rows]
        found[at, self.predicted[rows]] = self.confidence[rows]
        return found

    def confusion(self, classes: int) -> npt.NDArray[np.int64]:
        """Counts `int64 [true, predicted]`."""
        return np.bincount(self.target * classes + self.predicted, minlength=classes**2).reshape(classes, classes)


@dataclass(frozen=True)
class Forecasts:
    """Standardised forecasts and truth `float32 [M, S, Y]` of evenly spread windows, of all where they are few."""

    rows: Tensor
    """Which windows of the split, `int64 [M]`."""
    predictions: Tensor
    targets: Tensor

    @classmethod
    def of(cls, kept: Tensor, rows: Tensor) -> Self:
        """From what the function of `forecasts_to_keep` kept of all batches, `float32 [M, 2, S, Y]`."""
        predictions, targets = kept.cpu().unbind(1)
        return cls(rows, predictions, targets)


def forecasts_to_keep(windows: int, numbers: int, batch_size: int) -> tuple[Tensor, Callable[[Tensor, Tensor, int], Tensor]]:
    """Which of so many windows, of so many numbers each, are kept (`int64 [M]`), and the function that keeps them by batch."""
    every = -(-windows // max(1, FORECAST_NUMBERS // numbers))
    return torch.arange(0, windows, every), partial(_keep_forecasts, every=every, batch_size=batch_size)


def _keep_forecasts(predictions: Tensor, targets: Tensor, batch: int, every: int, batch_size: int) -> Tensor:
    first = -batch * batch_size % every  # of this batch, the first window whose number in the split is a multiple of `every`
    return torch.stack([predictions[first::every].float(), targets[first::every].float()], dim=1)


class NaiveForecasts:
    """Naive forecasts of the test windows, standardised `float64 [row, S, Y]`.

    repeat_last: every step as the last one read. seasonal_naive: as one season before (left out where the series does not
    reach back so far). Source: Hyndman and Athanasopoulos 2021, section 5.2.
    """

    def __init__(self, windows: Windows) -> None:
        meta, history = windows.meta, windows.history().astype(np.float64)
        mean, std = (np.array([meta["statistics"][key][p] for p in meta["target_positions"]]) for key in ("mean", "std"))
        self._scaled = (history - mean) / std
        self._first = windows.chosen("test") + meta["lookback"]
        """Row of the first step to forecast, of each window."""
        steps = np.arange(meta["horizon"])
        seasons_back = meta["season"] * (1 + steps // meta["season"])
        self._offsets = {"repeat_last": np.full_like(steps, -1), "seasonal_naive": steps - seasons_back}
        """For each step of the horizon, the row that is taken, from the first step on."""
        self.names = [name for name, offsets in self._offsets.items() if self._first.min() + offsets.min() >= 0]

    def of(self, name: str, rows: Tensor) -> Tensor:
        """The forecasts of these windows by the method of this name."""
        return torch.from_numpy(self._scaled[self._first[rows.numpy()][:, None] + self._offsets[name]])
