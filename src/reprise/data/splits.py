"""Splits and windows as index arrays: pure functions."""

import heapq
import itertools
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

    def span(self, split: str, reach: int = 0) -> tuple[int, int]:
        """Return the first row of a split and the row after its last. Val and test begin up to `reach` rows earlier."""
        start, stop = {"train": (0, self.train), "val": (self.train, self.val), "test": (self.val, self.test)}[split]
        return max(0, start - reach), stop


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
        raise UserError(f"val and test ask for {sum(sizes)} of {total} samples and leave none to train on")
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


def time_borders(length: int, val_size: int | float, test_size: int | float) -> Borders:
    """Return borders with the last steps as test, those before as val, and the rest as train."""
    test = count(test_size, length)
    val = count(val_size, length)
    if val + test >= length:
        raise UserError(f"val and test ask for {val + test} of {length} time steps and leave none to train on")
    return Borders(length - val - test, length - test, length)


def fold_borders(borders: Borders, folds: int, fold: int) -> Borders:
    """Return the borders of a fold of a rolling-origin evaluation.

    Test is cut into consecutive blocks of equal length, up to a step; the fold tests on one of them. Val, as long as before,
    precedes it, and train is all rows before val. So later folds train on more rows, and every test row is in one fold.
    """
    rows = borders.test - borders.val
    first, stop = (borders.val + rows * number // folds for number in (fold, fold + 1))
    return Borders(first - (borders.val - borders.train), first, stop)


def window_starts(span: tuple[int, int], size: int, stride: int = 1) -> Indices:
    """Return the starts of all windows `[start, start + size)` inside the span, `stride` apart."""
    start, stop = span
    return np.arange(start, stop - size + 1, stride, dtype=np.int64)


def disjoint(parts: Mapping[str, Indices]) -> dict[str, Any]:
    """Audit that no sample is in two splits, or twice in one, and that no split is empty."""
    shared = np.array([], np.int64)
    if not _increase([parts[split] for split in SPLITS]):
        values, counts = np.unique(np.concatenate([parts[split] for split in SPLITS]), return_counts=True)
        shared = values[counts > 1]
    return {
        "passed": not len(shared) and all(len(parts[split]) > 0 for split in SPLITS),
        "counts": {split: len(parts[split]) for split in SPLITS},
        "shared": shared[:100].tolist(),
    }


def _increase(parts: Sequence[Indices]) -> bool:
    """Return whether indices increase within each part and from each to the next. Copies none of them."""
    within = all(len(part) and bool((part[1:] > part[:-1]).all()) for part in parts)
    return within and all(before[-1] < after[0] for before, after in itertools.pairwise(parts))


def warnings_of_small_classes(labels: Mapping[str, Indices], classes: Sequence[str], samples: str) -> list[str]:
    """Return a warning for each split with classes of fewer than `FEW` samples. `samples` is what they are called."""
    warnings = []
    for name, of_split in labels.items():
        counts = np.bincount(of_split, minlength=len(classes)).tolist()
        few = [(kind, number) for kind, number in zip(classes, counts, strict=True) if number < FEW]
        if few:
            shown = sorted(few, key=lambda item: item[1])[:10]
            listed = ", ".join(f"{kind} ({number})" for kind, number in shown) + (" and others" if len(few) > 10 else "")
            warnings.append(f"{name} has fewer than {FEW} {samples} of {listed}: its metrics are unreliable for them")
    return warnings
