"""Statistics and audits of series splits: pure functions of arrays."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.splits import Borders, Indices, disjoint


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
        "splits are disjoint": disjoint(parts),
        "no window crosses a split border": {"passed": not any(crossing.values()), "crossing": crossing},
    }
