"""Audit of the statistics in windows.json: compute them again from the files, by another algorithm."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import store
from reprise.data.contracts import WindowsMeta
from reprise.data.modality import arrays_of

Floats = npt.NDArray[np.float64]

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


def statistics(windows: Path, arrays: Path, meta: WindowsMeta) -> dict[str, Any]:
    """Check the statistics of `meta` against those of the train split on disk.

    Returns:
        `passed`, the `stated` statistics (of `meta`) and the `found` ones (recomputed).

    """
    train = np.array(store.open_array(windows / "train.npy"))
    stated = {key: np.array(values, np.float64) for key, values in meta.statistics.items()}
    found, slack = arrays_of(meta.kind).statistics(meta, train, arrays)
    return {
        "passed": stated.keys() == found.keys() and all(_is_close(stated[key], found[key], slack[key]) for key in found),
        "stated": {key: values.tolist() for key, values in stated.items()},
        "found": {key: values.tolist() for key, values in found.items()},
    }


def _is_close(stated: Floats, found: Floats, slack: Floats) -> bool:
    return stated.shape == found.shape and bool((np.abs(stated - found) <= slack).all())
