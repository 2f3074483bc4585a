"""Sequences as tensors: the dataset and the input transform.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.modalities.sequences.arrays import Meta
from reprise.data.windows import Windows


class Standardize(InputTransform):
    """Standardize sequences of equal length by channel."""

    raw_inputs: ClassVar[tuple[str, ...]] = ("values",)
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, values: Tensor) -> Tensor:
        """Return `float32 [B, T, C]` of values `[B, T, C]`."""
        return standardize(values, self.mean, self.std)


class StandardizeWithMask(InputTransform):
    """Standardize padded sequences by channel and append the mask of their steps. The padding becomes 0."""

    raw_inputs: ClassVar[tuple[str, ...]] = ("values", "lengths")
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        """Return `float32 [B, T, C + 1]` of values `[B, T, C]` and lengths `int64 [B]`. What the padding holds has no effect."""
        steps = torch.arange(values.shape[1], device=values.device)
        mask = (steps < lengths[:, None]).unsqueeze(-1)  # [B, T, 1]
        scaled = standardize(values, self.mean, self.std).masked_fill(~mask, 0)
        return torch.cat([scaled, mask.to(scaled.dtype)], dim=-1)


@dataclass(frozen=True)
class LabelledSequences:
    """Values `float32 [sample, T, C]`, lengths and labels `int64 [sample]`, and the sample indices of this split."""

    values: Tensor
    lengths: Tensor
    labels: Tensor
    samples: Tensor
    transform: Standardize | StandardizeWithMask

    def __len__(self) -> int:
        return len(self.samples)

    def raw(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the values `[B, T, C]` of these rows and, if lengths differ, the lengths `[B]`."""
        samples = self.samples[rows]
        masked = isinstance(self.transform, StandardizeWithMask)
        return (self.values[samples], self.lengths[samples]) if masked else (self.values[samples],)

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the network inputs and the labels of these rows."""
        assert augment is None, "sequences are not augmented: the config refuses it"
        return Batch(self.transform(*self.raw(rows)), self.labels[self.samples[rows]])

    def to(self, device: torch.device) -> "LabelledSequences":
        """Return the split on a device."""
        moved = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved, transform=self.transform.copy_to(device))

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        return self.values.device

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.values.nbytes + self.lengths.nbytes + self.labels.nbytes


def open_split(windows: Windows, split: str) -> LabelledSequences:
    """Return the sequences and labels of a split."""
    part = windows.meta.array_folder(split)
    values, lengths, labels = (
        torch.from_numpy(np.array(windows.array(f"{part}{name}"))) for name in ("values", "lengths", "labels")
    )
    return LabelledSequences(values, lengths, labels, torch.from_numpy(windows.indices(split)), input_transform(windows.meta))


def input_transform(meta: WindowsMeta) -> Standardize | StandardizeWithMask:
    """Return the standardization with the statistics of the train split."""
    assert isinstance(meta, Meta)
    mean, std = (torch.tensor(meta.statistics[key], dtype=torch.float32) for key in ("mean", "std"))
    return (StandardizeWithMask if meta.masked else Standardize)(mean, std)


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    """Return the classes, the channels and the longest length."""
    assert isinstance(meta, Meta)
    return {"kind": meta.kind, "classes": meta.classes, "channels": meta.channels, "steps": meta.input_shape[0]}
