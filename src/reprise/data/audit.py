"""Audit of the statistics in windows.json: compute them again from the files, by another algorithm."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import store

Floats = npt.NDArray[np.float64]

BLOCK = 256
"""Block size of the sums: BLOCK images, or BLOCK * BLOCK steps of a series."""
EPSILON = np.finfo(np.float64).eps
TOLERANCE = 1e-9
"""Rounding tolerance relative to the standard deviation. One more row would change a statistic of n rows by about 1/n."""


@dataclass
class Moments:
    """Running mean and sum of squared deviations of each channel, merged block by block.

    Source: Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance, equations 2.1.
    """

    count: int
    mean: Floats
    deviations: Floats
    low: Floats
    high: Floats

    @classmethod
    def of(cls, blocks: Iterable[Floats]) -> "Moments":
        """Return the moments of all blocks `float64 [sample, channel]`."""
        merged: Moments | None = None
        for block in blocks:
            mean = block.mean(axis=0)
            new = cls(len(block), mean, np.square(block - mean).sum(axis=0), block.min(axis=0), block.max(axis=0))
            merged = merged.merge(new) if merged else new
        assert merged is not None, "no split is empty"
        return merged

    def merge(self, other: "Moments") -> "Moments":
        """Return the moments of both sets of samples together."""
        count, gap = self.count + other.count, other.mean - self.mean
        return Moments(
            count,
            self.mean + gap * (other.count / count),
            self.deviations + other.deviations + np.square(gap) * (self.count * other.count / count),
            np.minimum(self.low, other.low),
            np.maximum(self.high, other.high),
        )

    @property
    def std(self) -> Floats:
        """Population standard deviation; 1 for constant channels, which are not scaled."""
        return np.where(self.high > self.low, np.sqrt(self.deviations / self.count), 1.0)


def statistics(windows: Path, arrays: Path) -> dict[str, Any]:
    """Check the statistics in windows.json against those of the train split on disk.

    Returns:
        `passed`, the `stated` statistics (windows.json) and the `found` ones (recomputed).

    """
    meta = store.read_json(windows / "windows.json")
    train = np.array(store.open_array(windows / "train.npy"))
    stated = {key: np.array(values, np.float64) for key, values in meta["statistics"].items()}
    if meta["kind"] == "images":
        images = store.open_array(arrays / meta["parts"]["train"] / "images.npy")
        found = _of_images(images, train)
    else:
        rows = store.open_array(arrays / "values.npy")[train[0] : meta["borders"]["train"]]
        found = _of_series(rows, meta)
    slack = _rounding(found, meta)
    return {
        "passed": stated.keys() == found.keys() and all(_is_close(stated[key], found[key], slack[key]) for key in found),
        "stated": {key: values.tolist() for key, values in stated.items()},
        "found": {key: values.tolist() for key, values in found.items()},
    }


def _is_close(stated: Floats, found: Floats, slack: Floats) -> bool:
    return stated.shape == found.shape and bool((np.abs(stated - found) <= slack).all())


def _rounding(found: dict[str, Floats], meta: dict[str, Any]) -> dict[str, Floats]:
    """Return the allowed difference of each statistic: rounding errors at the level of the values."""
    mean, std = found["mean"], found["std"]
    step = TOLERANCE * std + 4 * EPSILON * np.abs(mean)
    if meta["kind"] == "images":  # the variance was computed as a difference of squares
        return {"mean": step, "std": step + 8 * EPSILON * np.square(mean) / std}
    return {"mean": step, "std": step, "naive_mae": step[meta["target_positions"]]}


def _of_images(images: npt.NDArray[np.uint8], chosen: npt.NDArray[np.int64]) -> dict[str, Floats]:
    def blocks() -> Iterator[Floats]:
        for start in range(0, len(chosen), BLOCK):
            block = images[chosen[start : start + BLOCK]]
            yield block.reshape(-1, block.shape[-1]).astype(np.float64)

    moments = Moments.of(blocks())
    return {"mean": moments.mean, "std": moments.std}


def _of_series(rows: npt.NDArray[np.floating[Any]], meta: dict[str, Any]) -> dict[str, Floats]:
    """Return mean and std of the input channels (calendar features are not scaled) and the mean absolute step of the targets."""
    starts = range(0, len(rows), BLOCK * BLOCK)
    moments = Moments.of(rows[start : start + BLOCK * BLOCK, meta["input_columns"]].astype(np.float64) for start in starts)
    targets = rows[:, meta["target_columns"]]
    steps = Moments.of(
        np.abs(np.diff(targets[start : start + BLOCK * BLOCK + 1].astype(np.float64), axis=0))
        for start in starts
        if start + 1 < len(rows)
    )
    features = np.zeros(len(meta["inputs"]) - len(meta["input_columns"]))
    return {
        "mean": np.concatenate([moments.mean, features]),
        "std": np.concatenate([moments.std, features + 1]),
        "naive_mae": steps.mean,
    }
