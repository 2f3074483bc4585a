"""Splits, windows, train-only statistics and their audit: pure functions of arrays."""

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
"""Samples of a class below which a split says little about it: each of 4 is a quarter of its recall."""


@dataclass(frozen=True)
class Borders:
    """A series cut in time: train is rows [0, train), val [train, val), test [val, test)."""

    train: int
    val: int
    test: int

    def span(self, split: str) -> tuple[int, int]:
        """First row of a split and the row after its last."""
        return {"train": (0, self.train), "val": (self.train, self.val), "test": (self.val, self.test)}[split]


def count(size: int | float | None, of: int) -> int:
    """A size as a count: itself, or that share of `of`, rounded."""
    if size is None:
        return 0
    return size if isinstance(size, int) else round(size * of)


def stratified_split(
    labels: npt.NDArray[np.int64], sizes: Sequence[int], seed: int, groups: Indices | None = None
) -> list[Indices]:
    """Disjoint draws of `sizes` samples, each with the classes in the shares they have in `labels`; the rest comes last.

    Up to every border between parts, each class is less than one sample off its exact share. Samples of one group (identical
    images) fall into one part: where a border would part a group, it moves behind the group. Every part is sorted; the result
    depends on `labels`, `sizes`, `seed` and `groups` alone.
    """
    total = len(labels)
    if sum(sizes) >= total:
        raise UserError(f"val and test ask for {sum(sizes)} of {total} images and leave none to train on")
    order = np.random.Generator(np.random.PCG64(seed)).permutation(total)
    _, classes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    rank = np.empty(total, np.int64)  # the samples of a class, shuffled, take its turns
    rank[order[np.argsort(classes[order], kind="stable")]] = np.argsort(_turns(counts.tolist()), kind="stable")
    cuts = np.cumsum([0, *sizes])
    if groups is None:
        ranked = np.argsort(rank)
    else:
        lowest = np.full(int(groups.max()) + 1, total)
        np.minimum.at(lowest, groups, rank)
        ranked = np.lexsort((rank, lowest[groups]))  # a group stands together, where its first sample stood
        cuts = np.array([_whole_group(groups[ranked], int(cut)) for cut in cuts])
    parts = [ranked[start:stop] for start, stop in zip(cuts, [*cuts[1:], total], strict=True)]
    return [np.sort(part).astype(np.int64) for part in parts]


def _turns(counts: Sequence[int]) -> list[int]:
    """Classes in an order each of whose beginnings holds every class within one sample of its share.

    The `n`-th sample of a class may come no earlier and no later than keeps its class within one sample; of those that may
    come, the one that must come soonest does. Source: Steiner and Yeomans 1993, Level schedules for mixed-model, just-in-time
    processes.
    """
    total = sum(counts)
    samples = sorted(
        (n * total // count, -(-(n + 1) * total // count), kind) for kind, count in enumerate(counts) for n in range(count)
    )
    turns: list[int] = []
    waiting: list[tuple[int, int]] = []
    for earliest, latest, kind in samples:
        while len(turns) < earliest:
            turns.append(heapq.heappop(waiting)[1])
        heapq.heappush(waiting, (latest, kind))
    return turns + [kind for _, kind in sorted(waiting)]


def _whole_group(groups: Indices, cut: int) -> int:
    """The next cut at or after `cut` that parts no group."""
    while 0 < cut < len(groups) and groups[cut] == groups[cut - 1]:
        cut += 1
    return cut


def limit_stratified(chosen: Indices, labels: npt.NDArray[np.int64], limit: int | None, seed: int) -> Indices:
    """At most `limit` of the chosen samples, the classes in the same shares."""
    if limit is None or limit >= len(chosen):
        return chosen
    return chosen[stratified_split(labels[chosen], [limit], seed)[0]]


def few_of_a_class(labels: npt.NDArray[np.int64], classes: Sequence[str]) -> list[tuple[str, int]]:
    """The classes of which there are fewer than `FEW` samples, and how many there are, the fewest first."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    few = [(name, number) for name, number in zip(classes, counts, strict=True) if number < FEW]
    return sorted(few, key=lambda item: item[1])


def time_borders(length: int, val_size: int | float, test_size: int | float) -> Borders:
    """Borders that leave the last steps to test, those before to val, the rest to train."""
    test = count(test_size, length)
    val = count(val_size, length)
    if val + test >= length:
        raise UserError(f"val and test ask for {val + test} of {length} time steps and leave none to train on")
    return Borders(length - val - test, length - test, length)


def window_starts(span: tuple[int, int], size: int, stride: int = 1) -> Indices:
    """Starts of all windows `[start, start + size)` that lie whole inside the span, `stride` apart."""
    start, stop = span
    return np.arange(start, stop - size + 1, stride, dtype=np.int64)


def image_statistics(images: npt.NDArray[np.uint8], chosen: Indices) -> dict[str, list[float]]:
    """Mean and standard deviation of each channel over the chosen images, in pixel units (0 to 255); exact integer sums."""
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
    """Mean, standard deviation and mean absolute step (the in-sample error of the naive forecast) of each channel in the span.

    A series is float64 where its steps are small beside its level: its first row is subtracted before it is summed. A constant
    channel has a naive_mae of 0 and, because it is not to be scaled, a std of 1.
    """
    level = np.array(values[span[0]]) if values.dtype == np.float64 else np.zeros(values.shape[1])
    inside = values[slice(*span)].astype(np.float64) - level
    return {
        "mean": (level + inside.mean(axis=0)).tolist(),
        # Not where std is 0: rounding of the mean leaves a constant channel a std of 1e-17, say.
        "std": np.where(np.ptp(inside, axis=0) > 0, inside.std(axis=0), 1.0).tolist(),
        "naive_mae": np.abs(np.diff(inside, axis=0)).mean(axis=0).tolist(),
    }


def _nonzero(scale: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A constant channel is left as it is, not divided by nothing."""
    return np.where(scale > 0, scale, 1.0)


def identical_images(images: npt.NDArray[np.uint8]) -> Indices:
    """A group number for each image; identical images share one. Groups are numbered by first appearance."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    keys = rows.view(np.dtype((np.void, rows.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def audit_images(
    parts: Mapping[str, Indices],
    groups: npt.NDArray[np.int64],
    known_duplicates: int,
) -> dict[str, Any]:
    """What must hold of an image split; `parts` index into `groups`. `audit.statistics` checks the statistics.

    Returns:
        checks by name, each with `passed` and what was counted.

    """
    where: dict[int, set[str]] = {}
    for split, chosen in parts.items():
        for group in groups[chosen].tolist():
            where.setdefault(group, set()).add(split)
    shared = [group for group, splits in where.items() if len(splits) > 1]
    return {
        "splits are disjoint": _disjoint(parts),
        "identical images in two splits": {
            "passed": len(shared) <= known_duplicates,  # fewer where window.limit leaves some out
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
    """What must hold of a series split into windows of `size` steps. `audit.statistics` checks the statistics."""
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
