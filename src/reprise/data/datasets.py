"""One split as tensors: batches are gathered by index and standardized on the device of the arrays.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels. Channels are always last.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data import store
from reprise.errors import UserError

REMAKE_ARRAYS = "make it again with `reprise preprocess`"
REMAKE_WINDOWS = "make it again with `reprise window`"
NANOSECONDS = 10**9
"""Nanoseconds per second."""
SECONDS_A_YEAR = 365.2425 * 86_400
"""Mean length of a year in the Gregorian calendar."""


class Batch(NamedTuple):
    """The batch of one step.

    `inputs` are standardized, `float32 [B, H, W, C]` or `[B, T, C]`; `targets` are classes `int64 [B]` or standardized
    values `float32 [B, horizon, target]`. `loss_weight` weighs the mean loss of this rank's part of the batch, so that the mean
    over ranks is the mean over the whole batch. It is 1 if all ranks have equally many samples.
    """

    inputs: Tensor
    targets: Tensor
    loss_weight: float = 1.0


Augmentation = Callable[[Tensor], Tensor]
"""Maps images `float32 [B, H, W, C]` (0 to 255) to augmented images."""


class Dataset(Protocol):
    """A split. Rows are numbered 0 to `len - 1`."""

    def __len__(self) -> int: ...
    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the batch of these rows, on the device of the arrays. `augment` is applied before standardization."""
        ...

    def raw(self, rows: Tensor) -> Tensor:
        """Return the inputs of these rows before standardization."""
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


def standardize(values: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return `(values - mean) / std` by channel as float32. All standardization in the package uses this function.

    The arithmetic is float64 if an argument is float64: float32 would lose small steps of values far from 0.
    """
    if values.dtype == torch.uint8:
        return values.to(torch.float32).sub_(mean).div_(std)
    return ((values - mean) / std).to(torch.float32)


@dataclass(frozen=True)
class Images:
    """Labelled images: pixels `uint8 [sample, H, W, C]`, labels `int64 [sample]`, and the sample indices of this split."""

    pixels: Tensor
    labels: Tensor
    samples: Tensor
    mean: Tensor
    std: Tensor

    def __len__(self) -> int:
        return len(self.samples)

    def raw(self, rows: Tensor) -> Tensor:
        """Return the pixels of these rows, `uint8 [B, H, W, C]`."""
        return self.pixels[self.samples[rows]]

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the standardized images and the labels of these rows."""
        samples = self.samples[rows]
        pixels = self.pixels[samples]
        return Batch(standardize(augment(pixels.float()) if augment else pixels, self.mean, self.std), self.labels[samples])

    def to(self, device: torch.device) -> Images:
        """Return the split on a device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in vars(self).items()})

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        return self.pixels.device

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.pixels.nbytes + self.labels.nbytes


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of a standardized series `float32 [time, C]`: `lookback` input steps, then `horizon` steps to forecast."""

    series: Tensor
    starts: Tensor
    lookback: int
    horizon: int
    targets: list[int]
    unscaled: Tensor
    """The series in its own units, float32 or float64 as stored, on the host."""

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, rows: Tensor) -> Tensor:
        """Return the input steps `[B, lookback, C]` before standardization."""
        return self.unscaled.unfold(0, self.lookback, 1)[self.starts[rows].cpu()].transpose(1, 2).contiguous()

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the input steps `[B, lookback, C]` and the target channels of the steps to forecast `[B, horizon, target]`."""
        assert augment is None, "a series is not augmented: the config refuses it"
        views = self.series.unfold(0, self.lookback + self.horizon, 1)  # [start, C, T], a view
        windows = views[self.starts[rows]].transpose(1, 2)
        return Batch(windows[:, : self.lookback].contiguous(), windows[:, self.lookback :, self.targets].contiguous())

    def to(self, device: torch.device) -> SeriesWindows:
        """Return the split on a device."""
        return replace(self, series=self.series.to(device), starts=self.starts.to(device))

    @property
    def device(self) -> torch.device:
        """Device of the arrays."""
        return self.series.device

    @property
    def nbytes(self) -> int:
        """Size of the arrays in bytes."""
        return self.series.nbytes


@dataclass(frozen=True)
class Windows:
    """A windows folder and the arrays it indexes. Each file is checked against its manifest when it is opened."""

    folder: Path
    arrays: Path
    meta: dict[str, Any]

    @property
    def input_shape(self) -> list[int]:
        """Shape of one input, channels last: `[H, W, C]` or `[lookback, C]`."""
        return list(self.meta["input_shape"])

    @property
    def digest(self) -> str:
        """Return one hash of the splits, their statistics and the arrays they index, without code versions and notes."""
        indices = {name: sha256 for name, sha256 in self._manifest.items() if name.endswith(".npy")}
        return _hash([indices, {key: value for key, value in self.meta.items() if key not in {"made_by", "notes"}}])

    def samples(self, split: str) -> str:
        """Return one hash of the evaluated samples of a split: its indices and the arrays they index."""
        part = f"{self.meta['parts'][split]}/" if self.meta["kind"] == "images" else ""
        arrays = store.manifest(self.arrays, REMAKE_ARRAYS).items()
        indexed = {name: sha256 for name, sha256 in arrays if name.startswith(part) and name.endswith(".npy")}
        series = {key: self.meta.get(key) for key in ("lookback", "horizon", "target_columns")}
        return _hash([indexed, self._manifest[f"{split}.npy"], series])

    @property
    def _manifest(self) -> dict[str, str]:
        return store.manifest(self.folder, REMAKE_WINDOWS)

    def learning(self) -> tuple[Dataset, Dataset]:
        """Return the train and the val split."""
        return self._open("train"), self._open("val")

    def val(self) -> Dataset:
        """Return the val split."""
        return self._open("val")

    def test(self) -> Dataset:
        """Return the test split. Only `evaluate` calls this; after `lock_test_split` (in training processes) it raises."""
        if _test_split_locked:
            raise UserError("the test split is locked in a process that trains", "only `reprise evaluate` opens it")
        return self._open("test")

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the statistics, and of a series as stored."""
        return torch.float64 if self.meta.get("dtype") == "float64" else torch.float32

    def history(self) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
        """Return the target channels of the series `[time, target]` in their own units, for baselines."""
        return np.asarray(self._array("values")[:, self.meta["target_columns"]])

    def time(self) -> npt.NDArray[np.datetime64]:
        """Return the timestamps of the series, `datetime64[ns] [time]` in UTC."""
        return np.array(self._array("time")).view("datetime64[ns]")

    def chosen(self, split: str) -> npt.NDArray[np.int64]:
        """Return the samples of a split, or the first row of each of its windows."""
        return np.array(store.open_array(store.check(self.folder, f"{split}.npy", REMAKE_WINDOWS)))

    def images(self, split: str) -> npt.NDArray[np.uint8]:
        """Return the array of images that the samples of a split index, `uint8 [sample, H, W, C]`, memory-mapped."""
        return self._array(f"{self.meta['parts'][split]}/images")

    def _array(self, name: str) -> npt.NDArray[Any]:
        return store.open_array(store.check(self.arrays, f"{name}.npy", REMAKE_ARRAYS))

    def _open(self, split: str) -> Dataset:
        chosen = torch.from_numpy(self.chosen(split))
        mean, std = (torch.tensor(self.meta["statistics"][key], dtype=self.dtype) for key in ("mean", "std"))
        if self.meta["kind"] == "images":
            part = self.meta["parts"][split]
            pixels, labels = (_tensor(self._array(f"{part}/{name}")) for name in ("images", "labels"))
            return Images(pixels, labels, chosen, mean, std)
        end = self.meta["borders"][split]  # rows after this split are not touched
        values = np.array(self._array("values")[:end, self.meta["input_columns"]])
        features = calendar(np.array(self._array("time")[:end]), self.meta["calendar"])
        raw = torch.from_numpy(np.concatenate([values, features], axis=1))
        lengths = self.meta["lookback"], self.meta["horizon"]
        return SeriesWindows(standardize(raw, mean, std), chosen, *lengths, self.meta["target_positions"], raw)


def _hash(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def calendar(time: npt.NDArray[np.int64], features: list[str]) -> npt.NDArray[np.float32]:
    """Return sine and cosine of the phase of the year, `float32 [time, 2 * feature]`; `time` is in nanoseconds since 1970."""
    seconds, fraction = time // NANOSECONDS, time % NANOSECONDS / NANOSECONDS  # float64 resolves current dates only to 256 ns
    columns = []
    for feature in features:
        period = {"year": SECONDS_A_YEAR}[feature]
        phase = 2 * np.pi * (seconds % period + fraction) / period
        columns += [np.sin(phase), np.cos(phase)]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.empty((len(time), 0), np.float32)


def open_windows(folder: Path, arrays: Path) -> Windows:
    """Open a windows folder with the arrays it was made from.

    Raises:
        UserError: if the arrays are not those the windows were made from.

    """
    meta = store.read_json(store.check(folder, "windows.json", REMAKE_WINDOWS))
    store.manifest(arrays, REMAKE_ARRAYS)
    if meta["arrays"] != store.digest(arrays):
        raise UserError(f"{folder} was made from other arrays than {arrays} holds", REMAKE_WINDOWS)
    return Windows(folder, arrays, meta)


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    """Return a tensor over a memory-mapped array, without PyTorch's warning about read-only arrays; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


_test_split_locked = False


def lock_test_split() -> None:
    """Make `Windows.test` raise in this process from now on."""
    global _test_split_locked
    _test_split_locked = True
