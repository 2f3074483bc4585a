"""Loss of precision when a column is rounded, relative to how much the column changes from row to row."""

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]
TOLERANCE = 1e-3
"""float32 is precise enough for a column if its rounding error is at most this share of the adjacent step."""
LOST = 0.1
"""Above this share, rounding noise hides the changes of the column."""
LARGEST = float(np.finfo(np.float32).max) / 4
"""Differences of values up to this size are in the range of float32."""


def rounding_share(values: Column, rounded: Column) -> float:
    """Return the largest rounding error of a column as a share of the adjacent step; 0 for a constant column."""
    return float((np.abs(values - rounded) / _adjacent_steps(values)).max())


def _adjacent_steps(values: Column) -> Column:
    """Return, for each row, the smaller of the steps to its two neighbours, `float64 [T]`.

    Equal neighbours do not count as a step. Results are at least the lower decile of all steps, because two values can be close
    by chance. Next to an outlier, only the step of the outlier counts.
    """
    steps = np.abs(np.diff(values))
    if not steps.any():
        return np.full(len(values), np.inf)
    steps[steps == 0] = np.inf
    adjacent = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
    minimum = float(np.quantile(steps[np.isfinite(steps)], 0.1))
    return np.maximum(adjacent, minimum)  # type: ignore[no-any-return]


def is_lost(values: Column, rounded: Column) -> bool:
    """Return whether rounding makes different values equal, or changes one by more than `TOLERANCE` of the adjacent step."""
    return len(np.unique(rounded)) < len(np.unique(values)) or rounding_share(values, rounded) > TOLERANCE


def needs_float64(values: Column) -> bool:
    """Return whether float32 would lose differences of a column: small steps at a high level (1e12, 1e12 + 1), or overflow."""
    if np.abs(values).max() > LARGEST:
        return True
    return is_lost(values, values.astype(np.float32).astype(np.float64))


def is_near_resolution(values: Column) -> bool:
    """Return whether steps of a column are so small that float64 itself may have rounded them."""
    return bool((np.spacing(np.abs(values)) / 2 > TOLERANCE * _adjacent_steps(values)).any())
