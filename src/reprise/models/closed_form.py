"""Models whose weights are computed, not trained by gradient descent.

Such a model is a `torch.nn.Module` with buffers for its weights. Before `fit`, they are zero. If it has parameters too, for
example an ensemble of such models and of networks, these are trained by steps after `fit`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

Batches = Iterable[tuple[Any, ...]]
"""Batches of one split in a fixed order, to be iterated any number of times.

The first two entries of a batch are inputs `float32 [B, T, C]` and targets: classes `int64 [B]`, or standardised values
`float32 [B, S, Y]`. If its attribute `lengths` is not None, it holds the steps of each sequence before its padding, `int64 [B]`.
"""


@runtime_checkable
class ClosedForm(Protocol):
    """A model with a closed-form solution: call `fit` once instead of training it."""

    chosen: Mapping[str, float | str]
    """What `fit` chose (regularisation, lookback, …) with the errors that decided, for the record of the run."""

    def fit(self, train: Batches, val: Batches) -> None:
        """Compute the weights from `train`, and choose what is to be chosen on `val` or by leave-one-out on `train`."""
        ...


def is_closed_form(network: nn.Module) -> bool:
    """Return whether a network computes all its weights by `fit` instead of being trained by steps."""
    return isinstance(network, ClosedForm) and not any(True for _ in network.parameters())


def lengths_of(batch: tuple[Any, ...]) -> Tensor | None:
    """Return the lengths of the sequences of a batch; None if they are all as long as the inputs."""
    lengths: Tensor | None = getattr(batch, "lengths", None)
    return lengths


def gather(batches: Batches) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return inputs, targets and lengths of all batches, each as one tensor."""
    parts = [(batch[0], batch[1], lengths_of(batch)) for batch in batches]
    inputs, targets = torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
    lengths = [part[2] for part in parts if part[2] is not None]
    return inputs, targets, torch.cat(lengths) if lengths else None
