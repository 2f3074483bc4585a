"""Images as tensors: the dataset and the input transform.

Shapes: `B` batch, `H W` pixels, `C` channels.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.modalities.images.arrays import Meta
from reprise.data.windows import Windows


class Normalize(InputTransform):
    """Standardize pixels `uint8` or `float32 [B, H, W, C]` (0 to 255) by channel."""

    raw_inputs: ClassVar[tuple[str, ...]] = ("pixels",)
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return `float32 [B, H, W, C]`."""
        return standardize(pixels, self.mean, self.std)


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels `uint8 [sample, H, W, C]`, labels `int64 [sample]`, and the sample indices of this split."""

    pixels: Tensor
    labels: Tensor
    samples: Tensor
    transform: "Normalize"

    def __len__(self) -> int:
        return len(self.samples)

    def raw(self, rows: Tensor) -> tuple[Tensor]:
        """Return the pixels of these rows, `uint8 [B, H, W, C]`."""
        return (self.pixels[self.samples[rows]],)

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the standardized images and the labels of these rows."""
        samples = self.samples[rows]
        pixels = self.pixels[samples]
        return Batch(self.transform(augment(pixels.float()) if augment else pixels), self.labels[samples])

    def to(self, device: torch.device) -> "Images":
        """Return the split on a device."""
        moved = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved, transform=self.transform.copy_to(device))

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        return self.pixels.device

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.pixels.nbytes + self.labels.nbytes

    @property
    def sample_nbytes(self) -> None:
        """None: images are large enough to be gathered batch by batch."""
        return None


def open_split(windows: Windows, split: str) -> Images:
    """Return the images and labels of a split, over memory-mapped arrays."""
    part = windows.meta.array_folder(split)
    pixels, labels = (_tensor(windows.array(f"{part}{name}")) for name in ("images", "labels"))
    return Images(pixels, labels, torch.from_numpy(windows.indices(split)), input_transform(windows.meta))


def input_transform(meta: WindowsMeta) -> Normalize:
    """Return the normalisation with the statistics of the train split."""
    return Normalize(*(torch.tensor(meta.statistics[key], dtype=torch.float32) for key in ("mean", "std")))


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    """Return the classes and what the pixels are."""
    assert isinstance(meta, Meta)
    channels = meta.input_shape[-1]
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    return {"kind": meta.kind, "classes": meta.classes, "pixels": f"{colours}, 0 to 255, channels last"}


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor over a memory-mapped array, without PyTorch's warning about read-only arrays; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
