"""Images as tensors: the dataset and the input transform.

Shapes: `B` batch, `H W` pixels, `C` channels.
"""

import warnings
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.modalities.images import tiling
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
        # index_select copies whole images; `pixels[samples]` copies pixel by pixel and takes five times as long.
        samples = self.samples.index_select(0, rows)
        pixels = self.pixels.index_select(0, samples)
        return Batch(self.transform(augment(pixels.float()) if augment else pixels), self.labels.index_select(0, samples))

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
    def sample_nbytes(self) -> int:
        """Size of a gathered sample in bytes."""
        return self.pixels[0].numel() * torch.float32.itemsize


@dataclass(frozen=True)
class TiledPictures:
    """Labelled pictures that are cut into tiles: a row is a picture, and its network inputs are its tiles."""

    whole: Tensor
    """Whole pictures reduced to the size of a tile, `uint8 [picture, H, W, C]`."""
    tiles: Tensor
    """`uint8 [tile, H, W, C]`."""
    first: Tensor
    """`int64 [picture + 1]`: the tiles of picture `i` are `first[i]` to before `first[i + 1]`."""
    labels: Tensor
    samples: Tensor
    """The pictures of this split."""
    largest_row: int
    """The largest number of tiles of a picture of this split."""
    transform: "Normalize"

    def __len__(self) -> int:
        return len(self.samples)

    def raw(self, rows: Tensor) -> tuple[Tensor]:
        """Return whole pictures reduced to the size of a tile, `uint8 [B, H, W, C]`, for figures."""
        return (self.whole[self.samples[rows]],)

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the standardized tiles of these pictures, one picture after another, and a label for each picture."""
        samples = self.samples[rows]
        counts = self.first[samples + 1] - self.first[samples]
        before = counts.cumsum(0) - counts
        number = torch.arange(int(counts.sum()), device=self.device) - before.repeat_interleave(counts)
        pixels = self.tiles[self.first[samples].repeat_interleave(counts) + number]
        return Batch(self.transform(augment(pixels.float()) if augment else pixels), self.labels[samples], tiles=counts)

    def to(self, device: torch.device) -> "TiledPictures":
        """Return the split on a device."""
        moved: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved, transform=self.transform.copy_to(device))

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        return self.tiles.device

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.tiles.nbytes + self.whole.nbytes + self.labels.nbytes


def open_split(windows: Windows, split: str) -> Images | TiledPictures:
    """Return the images and labels of a split, over memory-mapped arrays.

    If pictures are cut into tiles, a row of train is a tile, and a row of val and test a picture.
    """
    part, samples = windows.meta.array_folder(split), windows.indices(split)
    pixels, labels = (_tensor(windows.array(f"{part}{name}")) for name in ("images", "labels"))
    transform = input_transform(windows.meta)
    if not getattr(windows.meta, "tiled", False):
        return Images(pixels, labels, torch.from_numpy(samples), transform)
    tiles, first = _tensor(windows.array(f"{part}{tiling.TILES}")), np.array(windows.array(f"{part}{tiling.FIRST}"))
    counts = np.diff(first)
    if split == "train":
        rows = torch.from_numpy(tiling.rows_of(first, samples))
        return Images(tiles, labels.repeat_interleave(torch.from_numpy(counts)), rows, transform)
    pictures = torch.from_numpy(samples)
    return TiledPictures(pixels, tiles, torch.from_numpy(first), labels, pictures, int(counts[samples].max()), transform)


def input_transform(meta: WindowsMeta) -> Normalize:
    """Return the normalisation with the statistics of the train split."""
    return Normalize(*(torch.tensor(meta.statistics[key], dtype=torch.float32) for key in ("mean", "std")))


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    """Return the classes and what the pixels are."""
    assert isinstance(meta, Meta)
    channels = meta.input_shape[-1]
    colours = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    of_tiles = "; of one tile: the answer for a picture is the mean over its tiles" if meta.tiled else ""
    return {"kind": meta.kind, "classes": meta.classes, "pixels": f"{colours}, 0 to 255, channels last{of_tiles}"}


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor over a memory-mapped array, without PyTorch's warning about read-only arrays; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)
