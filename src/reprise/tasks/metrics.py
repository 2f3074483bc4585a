"""Base class of running metrics: updated batch by batch, with a state whose size does not depend on the number of samples.

Counts are integers and sums are fixed-point integers (`ExactSums`). Their addition is associative, so results are equal to the
last bit for any order, batch size and number of ranks, and after resuming an interrupted training.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

MAX_BUFFERED = 2**20
"""Number of buffered prediction values at which the state is updated: many small batches cost one update."""


class Metrics(ABC):
    """Base class of the metrics of one split: `update` adds to sums and counts, `compute` divides them.

    Subclasses add their tensors, which must all be sums, to `state`. `update` never synchronizes with the device.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.count = self.integers(1)
        """Number of samples, `int64 [1]`."""
        self._buffer: list[tuple[Tensor, Tensor]] = []
        self._buffered = 0

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
        """Add a batch. It is buffered, so its tensors must not be modified in place."""
        self._buffer.append((predictions, targets))
        self._buffered += predictions.numel()
        if self._buffered >= MAX_BUFFERED:
            self._flush()

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
        self._buffer, self._buffered = [], 0
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
    def _flush(self) -> None:
        """Add the buffered batches to the state, in chunks of `MAX_BUFFERED` values to bound the memory used."""
        batches, self._buffer, self._buffered = self._buffer, [], 0
        if not batches:
            return
        predictions, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
        self.count += len(targets)
        rows = max(1, MAX_BUFFERED // max(1, predictions[:1].numel()))
        for chunk, true in zip(torch.split(predictions, rows), torch.split(targets, rows), strict=True):
            if len(true):
                self._add(chunk, true)

    def integers(self, *shape: int) -> Tensor:
        """Return counts of 0, `int64`, on the device of the metrics."""
        return torch.zeros(shape, dtype=torch.int64, device=self.device)
