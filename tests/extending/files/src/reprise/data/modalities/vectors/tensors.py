"""Vectors as tensors."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.windows import Windows


class Standardize(InputTransform):
    """Standardize each number."""

    raw_inputs: ClassVar[tuple[str, ...]] = ("values",)
    mean: Tensor
    std: Tensor

    def __init__(self, statistics: dict[str, list[float]]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics["mean"]))
        self.register_buffer("std", torch.tensor(statistics["std"]))

    def forward(self, values: Tensor) -> Tensor:
        return standardize(values, self.mean, self.std)


@dataclass(frozen=True)
class Vectors:
    """Vectors `float32 [B, C]` and labels `int64 [B]`."""

    values: Tensor
    labels: Tensor
    transform: Standardize

    def __len__(self) -> int:
        return len(self.labels)

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        return Batch(self.transform(self.values[rows]), self.labels[rows])

    def raw(self, rows: Tensor) -> tuple[Tensor]:
        return (self.values[rows],)

    def to(self, device: torch.device) -> "Vectors":
        return replace(
            self, values=self.values.to(device), labels=self.labels.to(device), transform=self.transform.copy_to(device)
        )

    @property
    def device(self) -> torch.device:
        return self.values.device

    @property
    def nbytes(self) -> int:
        return self.values.nbytes


def open_split(windows: Windows, split: str) -> Vectors:
    rows = windows.indices(split)
    values, labels = (torch.from_numpy(np.asarray(windows.array(name))[rows]) for name in ("values", "labels"))
    return Vectors(values, labels, input_transform(windows.meta))


def input_transform(meta: WindowsMeta) -> Standardize:
    return Standardize(meta.statistics)


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    return {"kind": meta.kind, "numbers": meta.input_shape[0]}
