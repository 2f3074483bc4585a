"""The base class of tasks."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from reprise.config.targets import nearest
from reprise.data.datasets import Dataset
from reprise.data.windows import Windows
from reprise.tasks import metric_names
from reprise.tasks.metrics import Metrics

Mode = Literal["min", "max"]
Keep = Callable[[Tensor, Tensor, int], Tensor]
"""Maps predictions and targets of a batch, and the index of the batch in the split, to the rows to keep `[rows, …]`."""
Baseline = Callable[[Tensor], Tensor]
"""Maps the rows of a split `int64 [B]` to predictions that need no training."""


class Task(nn.Module, ABC):
    """What a network is trained for. Constructed from `meta` (the content of windows.json) and the arguments in its config.

    Statistics are buffers: they move with the model, and are part of an exported graph.
    """

    report: ClassVar[str]
    """Import path of the module that writes the figures and tables of an evaluated run: `write(folder, run, task)`."""
    tolerates_bf16: ClassVar[bool]
    """Whether bf16 activations (about three significant digits) are precise enough."""
    output_shape: tuple[int, ...]
    """Shape of the network's outputs for one sample."""
    monitor: str
    """The validation metric that selects the best epoch."""
    mode: Mode
    """Whether the monitored metric is minimised or maximised."""
    units: Mapping[str, str]
    """Units of the metrics that have one."""
    undefined: Mapping[str, str]
    """Metrics that are undefined on these data, with the reason. `new_metrics().compute()` omits them."""

    @abstractmethod
    def decode(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return the network's outputs `[B, outputs]` as predictions in the shape that `loss` expects."""

    def combine(self, predictions: Tensor, tiles: Tensor) -> Tensor:
        """Return the predictions of samples from those of their tiles; `tiles` `int64 [S]` is the number of tiles of each sample.

        Raises:
            NotImplementedError: if the task is not one of pictures.

        """
        raise NotImplementedError(f"{type(self).__name__} combines no tiles")

    @abstractmethod
    def postprocess(self, predictions: Tensor) -> Tensor:
        """Return probabilities, or values in the units of the data."""

    @abstractmethod
    def loss(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the batch."""

    def fit_to_train(self, train: Dataset) -> None:
        """Compute what the loss needs of the training split. Called once, before the first step."""

    @abstractmethod
    def new_metrics(self, device: torch.device | str = "cpu") -> Metrics:
        """Return empty metrics of one split."""

    def baselines(self, windows: Windows) -> Mapping[str, Baseline]:
        """Return the predictions for the test split that need no training, by name."""
        return {}

    @abstractmethod
    def keep(self, samples: int, batch_size: int) -> Keep:
        """Return the function that selects what is kept of the predictions of a split with `samples` samples."""

    @abstractmethod
    def kept(self, rows: Tensor, samples: int) -> Any:
        """Return what `keep` selected of all batches, concatenated, for the report."""

    def keep_to_calibrate(self, samples: int, batch_size: int) -> Keep | None:
        """Return the function that selects the predictions of val for `calibrate`; None if the task needs no calibration."""
        return None

    def calibrate(self, kept: Tensor) -> Tensor:
        """Return the calibration on what `keep_to_calibrate` selected of all batches of val."""
        raise NotImplementedError(f"{type(self).__name__}.keep_to_calibrate selects nothing")

    def calibrated(self, calibration: Tensor, samples: int) -> Self:
        """Return a copy of the task with this calibration, for the test split. `samples` is the number of samples of val."""
        raise NotImplementedError(f"{type(self).__name__}.keep_to_calibrate selects nothing")

    @property
    def outputs(self) -> int:
        """Number of network outputs per sample."""
        return int(torch.Size(self.output_shape).numel())

    def facts(self) -> dict[str, str]:
        """Return the tags of a run: the monitored metric, units, and undefined metrics with the reason."""
        return {
            "monitor": f"val/{self.monitor}",
            "mode": self.mode,
            **{f"unit.{metric}": unit for metric, unit in self.units.items()},
            **{f"undefined.{metric}": reason for metric, reason in self.undefined.items()},
        }


def choose_monitor(requested: str | None, default: str, known: Sequence[str], undefined: Mapping[str, str]) -> tuple[str, Mode]:
    """Return the metric that selects the best epoch, and whether smaller or larger is better.

    Raises:
        ValueError: if there is no such metric, or it is undefined.

    """
    name = default if requested is None else requested
    if name in undefined:
        raise ValueError(f"monitor={name}: undefined, {undefined[name]}; {nearest(name, known)}")
    if name not in known:
        raise ValueError(f"monitor={name}: no such validation metric; {nearest(name, known)}")
    return name, "max" if metric_names.higher_is_better(name) else "min"
