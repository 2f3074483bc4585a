"""Counts of classes in words: how unequal they are."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

IMBALANCED = 3
"""Classes are imbalanced if the largest has at least this many times the samples of the smallest."""
REMEDY = "task.class_weights=balanced weighs all classes equally in the loss"


def imbalance(counts: npt.NDArray[np.int64], names: Sequence[str]) -> str:
    """Return a sentence on the largest and the smallest class, or "" if classes are not imbalanced.

    `counts` `int64 [K]` holds the samples of each class. Classes without a sample are not compared.
    """
    present = np.flatnonzero(counts)
    if not len(present):
        return ""
    most, least = present[counts[present].argmax()], present[counts[present].argmin()]
    if counts[most] < IMBALANCED * counts[least]:
        return ""
    return (
        f"imbalanced: {100 * counts[most] / counts.sum():.0f} % are {names[most]} ({counts[most]:,}), {names[least]} has "
        f"{counts[least]:,}: accuracy hides how small classes do, so read balanced_accuracy and the scores of each class"
    )
