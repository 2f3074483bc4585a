"""Splits as tensors: batches are gathered by index, and transformed on the device of the arrays.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels. Channels are always last.
"""

import copy
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn


class Batch(NamedTuple):
    """The batch of one step.

    `inputs` are standardized, `float32 [B, H, W, C]` or `[B, T, C]`; `targets` are classes `int64 [B]` or standardized
    values `float32 [B, horizon, target]`, NaN where a value is missing. `loss_weight` weighs the mean loss of this rank's part
    of the batch, so that the mean over ranks is the mean over the whole batch. It is 1 if all ranks have equally many samples.
    With `tiles` `int64 [S]`, the inputs are the tiles of `S` samples one after another, that many of each, and targets are `[S]`.
    """

    inputs: Tensor
    targets: Tensor
    loss_weight: float = 1.0
    tiles: Tensor | None = None


INPUTS = 1024
"""Network inputs that are gathered at a time where only the targets are needed."""
Augmentation = Callable[[Tensor], Tensor]
"""Maps images `float32 [B, H, W, C]` (0 to 255) to augmented images."""


class Dataset(Protocol):
    """A split. Rows are numbered 0 to `len - 1`."""

    def __len__(self) -> int: ...
    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the batch of these rows, on the device of the arrays. `augment` is applied before standardization."""
        ...

    def raw(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the raw inputs of these rows, as the input transform takes them."""
        ...

    def to(self, device: torch.device) -> Self:
        """Return the split with its arrays on a device."""
        ...

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        ...

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        ...


def largest_row(dataset: Dataset) -> int:
    """Return the largest number of network inputs of a row of a split: 1, unless rows are pictures that are cut into tiles."""
    return int(getattr(dataset, "largest_row", 1))


def sample_nbytes(dataset: Dataset) -> int | None:
    """Return the size of a gathered sample in bytes if a dataset states it: its samples do not depend on the batch."""
    return getattr(dataset, "sample_nbytes", None)


def targets_of(dataset: Dataset, rows: Tensor) -> Tensor:
    """Return the targets of some rows. Of rows with many inputs, few are gathered at a time."""
    if largest_row(dataset) == 1:
        return dataset.gather(rows).targets
    return torch.cat([dataset.gather(some).targets for some in torch.split(rows, max(1, INPUTS // largest_row(dataset)))])


def standardize(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `(values - mean) / std` by channel as float32. All standardization in the package uses this function.

    The arithmetic is float64 if an argument is float64: float32 would lose small steps of values far from 0.
    """
    if values.dtype == torch.uint8:
        return values.to(torch.float32).sub_(mean).div_(std)
    return ((values - mean) / std).to(torch.float32)


class InputTransform(nn.Module):
    """Maps raw inputs to network inputs: part of the model in training, evaluation, prediction and export.

    `forward` takes one tensor `[B, …]` for each name in `raw_inputs`, in their order.
    """

    raw_inputs: ClassVar[tuple[str, ...]]

    def copy_to(self, device: torch.device) -> Self:
        """Return a copy on a device. `to` would move this module itself, which other splits use."""
        return copy.deepcopy(self).to(device)
