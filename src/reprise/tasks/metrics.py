"""Base class of running metrics: updated batch by batch, with a state whose size does not depend on the number of samples.

Counts are integers and sums are fixed-point integers (`ExactSums`). Their addition is associative, so results are equal to the
last bit for any order, batch size and number of ranks, and after resuming an interrupted training.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

MAX_BUFFERED = 2**20
"""Number of prediction values that a buffer holds before the state is updated: many small batches cost one update."""
COPIED_TOGETHER = 16
"""Number of batches that are copied into the buffer at once, because copying each by itself costs more than a short step may."""


class Metrics(ABC):
    """Base class of the metrics of one split: `update` adds to sums and counts, `compute` divides them.

    Subclasses add their tensors, which must all be sums, to `state`. `update` never synchronizes with the device.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.count = self.integers(1)
        """Number of samples, `int64 [1]`."""
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._waiting_values = 0
        self._buffer: _Buffer | None = None

    @property
    def state(self) -> dict[str, Tensor]:
        """The tensors of sums and counts, by name. Subclasses add theirs."""
        return {"count": self.count}

    @abstractmethod
    def _add(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch to the state."""

    @abstractmethod
    def _compute(self, count: int) -> dict[str, float]:
        """Return the metrics of the state, which has at least one sample."""

    @final
    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Add a batch. Its tensors must not be modified in place afterwards: they are read some batches later."""
        self._waiting.append((predictions, targets))
        self._waiting_values += predictions.numel()
        if len(self._waiting) == COPIED_TOGETHER or self._waiting_values >= MAX_BUFFERED:
            self._collect()

    @final
    def compute(self) -> dict[str, float]:
        """Return every metric that is defined.

        Raises:
            ValueError: if no sample was added.

        """
        self._flush()
        count = int(self.count)
        if not count:
            raise ValueError("no sample to compute metrics of")
        return self._compute(count)

    @final
    def state_dict(self) -> dict[str, Tensor]:
        """Return a copy of the state on the CPU."""
        self._flush()
        return {name: tensor.cpu().clone() for name, tensor in self.state.items()}

    @final
    @torch.inference_mode()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore a state.

        Raises:
            ValueError: if it is the state of other metrics.

        """
        current = self.state
        if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in current.items()}:
            raise ValueError("the state is that of other metrics")
        self._waiting, self._waiting_values, self._buffer = [], 0, None
        for name, tensor in state.items():
            current[name].copy_(tensor)

    @final
    @torch.inference_mode()
    def merge(self, all_reduce: Callable[[Tensor], Tensor]) -> None:
        """Sum the states of all ranks. `all_reduce` returns the sum over ranks of a one-dimensional tensor."""
        self._flush()
        for dtype in (torch.int64, torch.float64):
            parts = [tensor for tensor in self.state.values() if tensor.dtype == dtype]
            if parts:
                total = all_reduce(torch.cat([part.flatten() for part in parts]))
                for part, new in zip(parts, torch.split(total, [part.numel() for part in parts]), strict=True):
                    part.copy_(new.view_as(part))

    @torch.inference_mode()
    def _collect(self) -> None:
        """Copy the waiting batches into the buffer. If they do not fit, add its content to the state first."""
        batches, self._waiting, self._waiting_values = self._waiting, [], 0
        if not batches:
            return
        predictions, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        if self._buffer is not None and self._buffer.add(predictions, targets):
            return
        self._empty_buffer()
        rows = _rows(predictions, MAX_BUFFERED)
        if len(predictions) < rows:
            self._buffer = _Buffer(predictions, targets, rows)
        else:
            self._add_in_chunks(predictions, targets)

    @torch.inference_mode()
    def _flush(self) -> None:
        """Add all batches to the state."""
        self._collect()
        self._empty_buffer()

    def _empty_buffer(self) -> None:
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._add_in_chunks(*buffer.batches())

    def _add_in_chunks(self, predictions: Tensor, targets: Tensor) -> None:
        """Add samples to the state, at most `MAX_BUFFERED` values at a time to bound the memory used."""
        self.count += len(targets)
        rows = _rows(predictions, MAX_BUFFERED)
        for chunk, true in zip(torch.split(predictions, rows), torch.split(targets, rows), strict=True):
            if len(true):
                self._add(chunk, true)

    def integers(self, *shape: int) -> Tensor:
        """Return counts of 0, `int64`, on the device of the metrics."""
        return torch.zeros(shape, dtype=torch.int64, device=self.device)


class _Buffer:
    """Batches copied one after another into two tensors, which are allocated once.

    Keeping the small tensors themselves would fragment the heap: the memory between them could not be merged again, so that
    the large tensors of the following steps would need new memory.
    """

    def __init__(self, predictions: Tensor, targets: Tensor, rows: int) -> None:
        self.predictions, self.targets = (batch.new_empty(rows, *batch.shape[1:]) for batch in (predictions, targets))
        self.length = 0
        self.add(predictions, targets)

    def add(self, predictions: Tensor, targets: Tensor) -> bool:
        """Copy a batch; return False if it has another shape or type, or does not fit."""
        start, end = self.length, self.length + len(predictions)
        if end > len(self.predictions) or _kind(predictions, targets) != _kind(self.predictions, self.targets):
            return False
        self.predictions[start:end].copy_(predictions)
        self.targets[start:end].copy_(targets)
        self.length = end
        return True

    def batches(self) -> tuple[Tensor, Tensor]:
        """Return the predictions and the targets of all batches."""
        return self.predictions[: self.length], self.targets[: self.length]


def _kind(predictions: Tensor, targets: Tensor) -> tuple[object, ...]:
    """Return what the batches of one buffer have in common."""
    return predictions.dtype, predictions.shape[1:], targets.dtype, targets.shape[1:]


def _rows(predictions: Tensor, values: int) -> int:
    """Return how many samples hold at most `values` values, at least 1."""
    return max(1, values // max(1, math.prod(predictions.shape[1:])))
