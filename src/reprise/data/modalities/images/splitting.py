"""Duplicates, statistics and audits of image splits: pure functions of arrays."""

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.splits import Indices, disjoint


def image_statistics(images: npt.NDArray[np.uint8], chosen: Indices) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel over the chosen images, in pixel units (0 to 255), by integer sums."""
    histogram = np.zeros((images.shape[-1], 256), np.int64)
    for start in range(0, len(chosen), 4096):
        block = images[chosen[start : start + 4096]]
        for channel in range(images.shape[-1]):
            histogram[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256)
    total = histogram.sum(axis=1)
    mean = (histogram @ values) / total
    variance = (histogram @ values**2) / total - mean**2
    return {"mean": mean.tolist(), "std": np.where(variance > 0, np.sqrt(np.maximum(variance, 0)), 1.0).tolist()}


def identical_images(*parts: npt.NDArray[np.uint8]) -> Indices:
    """Return a group number for each image of the parts, in order; identical images share one.

    Groups are numbered by first appearance. Only hashes are held in memory: the images may be larger.
    """
    groups: dict[bytes, int] = {}
    hashes = (hashlib.sha256(image.tobytes()).digest() for image in itertools.chain(*parts))
    return np.array([groups.setdefault(one, len(groups)) for one in hashes], np.int64)


def audit_images(
    parts: Mapping[str, Indices],
    groups: npt.NDArray[np.int64],
    known_duplicates: int,
) -> dict[str, Any]:
    """Audit an image split; `parts` index into `groups`. `audit.statistics` checks the statistics.

    Returns:
        checks by name, each with `passed` and its counts.

    """
    splits_of: dict[int, set[str]] = {}
    for split, chosen in parts.items():
        for group in groups[chosen].tolist():
            splits_of.setdefault(group, set()).add(split)
    shared = [group for group, splits in splits_of.items() if len(splits) > 1]
    return {
        "splits are disjoint": disjoint(parts),
        "identical images in two splits": {
            "passed": len(shared) <= known_duplicates,  # window.limit can remove some
            "count": len(shared),
            "known": known_duplicates,
            "samples": [np.flatnonzero(groups == group).tolist() for group in shared[:100]],
        },
    }
