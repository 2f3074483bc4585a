"""Duplicates, statistics and audits of splits of sequences: pure functions of arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.splits import Indices, disjoint

Values = npt.NDArray[np.float32]
SHOWN = 100
"""The most pairs of identical sequences that an audit names."""


def identical_sequences(values: Values, lengths: Indices) -> Indices:
    """Return a group number for each sequence `[sample, T, C]`; sequences of equal values and length share one."""
    rows = np.ascontiguousarray(values.reshape(len(values), -1) + np.float32(0))  # -0.0 becomes 0.0
    keys = np.concatenate([rows.view(np.uint8).reshape(len(rows), -1), lengths.astype(np.int64)[:, None].view(np.uint8)], axis=1)
    _, first, inverse = np.unique(
        np.ascontiguousarray(keys).view(np.dtype((np.void, keys.shape[1]))).ravel(), return_index=True, return_inverse=True
    )
    return np.argsort(np.argsort(first))[inverse].astype(np.int64)


def valid_rows(values: Values, lengths: Indices, chosen: Indices) -> npt.NDArray[np.float64]:
    """Return the values of all valid steps of the chosen sequences, `float64 [step, C]`."""
    inside = np.arange(values.shape[1]) < np.asarray(lengths[chosen])[:, None]
    rows: npt.NDArray[np.float64] = np.asarray(values[chosen], np.float64)[inside]
    return rows


def sequence_statistics(values: Values, lengths: Indices, chosen: Indices) -> dict[str, list[float]]:
    """Return mean and standard deviation of each channel over the valid steps of the chosen sequences; std 1 if constant."""
    rows = valid_rows(values, lengths, chosen)
    mean = rows.mean(axis=0)
    std = np.where(rows.min(axis=0) < rows.max(axis=0), rows.std(axis=0), 1.0)
    return {"mean": mean.tolist(), "std": std.tolist()}


def audit_sequences(parts: Mapping[str, Indices], groups: Indices, known_duplicates: int) -> dict[str, Any]:
    """Audit a split; `parts` index into `groups`. `audit.statistics` checks the statistics.

    Returns:
        checks by name, each with `passed` and its counts.

    """
    in_split = np.stack([np.bincount(groups[chosen], minlength=int(groups.max()) + 1) > 0 for chosen in parts.values()])
    shared = np.flatnonzero(in_split.sum(axis=0) > 1)
    return {
        "splits are disjoint": disjoint(parts),
        "identical sequences in two splits": {
            "passed": len(shared) <= known_duplicates,
            "count": len(shared),
            "known": known_duplicates,
            "samples": [np.flatnonzero(groups == group).tolist() for group in shared[:SHOWN]],
        },
    }
