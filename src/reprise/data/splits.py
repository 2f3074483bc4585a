"""Splits, windows, statistics of the train split, and audits: pure functions of arrays."""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

Indices = npt.NDArray[np.int64]
SPLITS = ("train", "val", "test")
FEW = 5
"""With fewer samples of a class, its metrics are unreliable: with 4, each sample changes the recall by a quarter."""


@dataclass(frozen=True)
class Borders:
    """Split borders of a series: train is rows [0, train), val [train, val), test [val, test)."""

    train: int
    val: int
    test: int

    def span(self, split: str) -> tuple[int, int]:
        """Return the first row of a split and the row after its last."""
        return {"train": (0, self.train), "val": (self.train, self.val), "test": (self.val, self.test)}[split]


def count(size: int | float | None, of: int) -> int:
    """Return a size as a count: a count unchanged, a share multiplied by `of` and rounded, None as 0."""
    if size is None:
        return 0
    return size if isinstance(size, int) else round(size * of)


def stratified_split(
    labels: npt.NDArray[np.int64], sizes: Sequence[int], seed: int, groups: Indices | None = None
) -> list[Indices]:
    """Return disjoint stratified parts with `sizes` samples, then a part with the rest.

    Up to each border between parts, every class is within one sample of its exact share. Samples of one group (identical images)
    are in the same part: a border inside a group moves behind the group. Every part is sorted. The result depends only on
    `labels`, `sizes`, `seed` and `groups`.
    """
    total = len(labels)
    if sum(sizes) >= total:
        raise UserError(f"val and test ask for {sum(sizes)} of {total} images and leave none to train on")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(total, np.int64)  # assign the shuffled samples of each class to its positions
    rank[order[np.argsort(classes[order], kind="stable")]] = np.argsort(_class_order(counts.tolist()), kind="stable")
    cuts = np.cumsum([0, *sizes])
    if groups is None:
        ranked = np.argsort(rank)
    else:
        lowest = np.full(int(groups.max()) + 1, total)
        np.minimum.at(lowest, groups, rank)
        ranked = np.lexsort((rank, lowest[groups]))  # move each group to the position of its first sample
        cuts = np.array([_whole_group(groups[ranked], int(cut)) for cut in cuts])
    parts = [ranked[start:stop] for start, stop in zip(cuts, [*cuts[1:], total], strict=True)]
    return [np.sort(part).astype(np.int64) for part in parts]


def _class_order(counts: Sequence[int]) -> list[int]:
    """Return a sequence of classes in which every prefix contains each class within one sample of its share.

    The `n`-th sample of a class has an earliest and a latest position that keep its class within one sample. Of the samples
    allowed at a position, the one with the earliest deadline is chosen. Source: Steiner and Yeomans 1993, Level schedules for
    mixed-model, just-in-time processes.
    """
    total = sum(counts)
    samples = sorted(
        (n * total // count, -(-(n + 1) * total // count), kind) for kind, count in enumerate(counts) for n in range(count)
    )
    order: list[int] = []
    waiting: list[tuple[int, int]] = []
    for earliest, latest, kind in samples:
        while len(order) < earliest:
            order.append(heapq.heappop(waiting)[1])
        heapq.heappush(waiting, (latest, kind))
    return order + [kind for _, kind in sorted(waiting)]


def _whole_group(groups: Indices, cut: int) -> int:
    """Return the next border at or after `cut` that does not split a group."""
    while 0 < cut < len(groups) and groups[cut] == groups[cut - 1]:
        cut += 1
    return cut


def limit_stratified(chosen: Indices, labels: npt.NDArray[np.int64], limit: int | None, seed: int) -> Indices:
    """Return at most `limit` of the chosen samples, stratified by class."""
    if limit is None or limit >= len(chosen):
        return chosen
    return chosen[stratified_split(labels[chosen], [limit], seed)[0]]


def few_of_a_class(labels: npt.NDArray[np.int64], classes: Sequence[str]) -> list[tuple[str, int]]:
    """Return the classes with fewer than `FEW` samples and their counts, smallest first."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    few = [(name, number) for name, number in zip(classes, counts, strict=True) if number < FEW]
    return sorted(few, key=lambda item: item[1])


def time_borders(length: int, val_size: int | float, test_size: int | float) -> Borders:
    """Return borders with the last steps as test, those before as val, and the rest as train."""
    test = count(test_size, length)
    val = count(val_size, length)
    if val + test >= length:
        raise UserError(f"val and test ask for {val + test} of {length} time steps and leave none to train on")
    return Borders(length - val - test, length - test, length)


def window_starts(span: tuple[int, int], size: int, stride: int = 1) -> Indices:
    """Return the starts of all windows `[start, start + size)` inside the span, `stride` apart."""
    start, stop = span
    return np.arange(start, stop - size + 1, stride, dtype=np.int64)


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
    return {"mean": mean.tolist(), "std": _nonzero(np.sqrt(np.maximum(variance, 0))).tolist()}


def series_statistics(values: npt.NDArray[np.float32] | npt.NDArray[np.float64], span: tuple[int, int]) -> dict[str, list[float]]:
    """Return mean, standard deviation and mean absolute step (in-sample error of the naive forecast) of each channel in the span.

    If the series is float64, its steps are small compared to its level, so its first row is subtracted before summing. A constant
    channel has a naive_mae of 0 and a std of 1, so that it is not scaled.
    """
    level = np.array(values[span[0]]) if values.dtype == np.float64 else np.zeros(values.shape[1])
    inside = values[slice(*span)].astype(np.float64) - level
    return {
        "mean": (level + inside.mean(axis=0)).tolist(),
        # Do not test for std == 0: rounding of the mean can give a constant channel a std of about 1e-17.
        "std": np.where(np.ptp(inside, axis=0) > 0, inside.std(axis=0), 1.0).tolist(),
        "naive_mae": np.abs(np.diff(inside, axis=0)).mean(axis=0).tolist(),
    }


def _nonzero(scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Replace 0 by 1, so that constant channels are not scaled."""
    return np.where(scale > 0, scale, 1.0)


def identical_images(images: npt.NDArray[np.uint8]) -> Indices:
    """Return a group number for each image; identical images share one. Groups are numbered by first appearance."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


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
        "splits are disjoint": _disjoint(parts),
        "identical images in two splits": {
            "passed": len(shared) <= known_duplicates,  # window.limit can remove some
            "count": len(shared),
            "known": known_duplicates,
            "samples": [np.flatnonzero(groups == group).tolist() for group in shared[:100]],
        },
    }


def audit_series(
    parts: Mapping[str, Indices],
    borders: Borders,
    size: int,
) -> dict[str, Any]:
    """Audit a series split into windows of `size` steps. `audit.statistics` checks the statistics."""
    crossing = {
        split: [
            int(start) for start in starts if not (borders.span(split)[0] <= start and start + size <= borders.span(split)[1])
        ]
        for split, starts in parts.items()
    }
    return {
        "train before val before test": {
            "passed": 0 < borders.train < borders.val < borders.test,
            "borders": vars(borders),
        },
        "splits are disjoint": _disjoint(parts),
        "no window crosses a split border": {"passed": not any(crossing.values()), "crossing": crossing},
    }


def _disjoint(parts: Mapping[str, Indices]) -> dict[str, Any]:
    together = np.concatenate([parts[split] for split in SPLITS])
    values, counts = np.unique(together, return_counts=True)
    return {
        "passed": bool((counts == 1).all()) and all(len(parts[split]) > 0 for split in SPLITS),
        "counts": {split: len(parts[split]) for split in SPLITS},
        "shared": values[counts > 1][:100].tolist(),
    }
