"""What rounding takes from a column of numbers, measured by how much the column changes from row to row."""

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.float64]
TOLERANCE = 1e-3
"""float32 holds a column if its rounding error is at most this share of the step beside it."""
LOST = 0.1
"""Beyond this share, rounding is a noise that a forecast cannot see through."""
LARGEST = float(np.finfo(np.float32).max) / 4
"""Differences of values up to here are in the range of float32."""


def rounding_share(values: Column, rounded: Column) -> float:
    """Return the largest rounding error of a column as a share of the step beside it; 0 for a column that never changes."""
    return float((np.abs(values - rounded) / _steps_beside(values)).max())


def _steps_beside(values: Column) -> Column:
    """Return, for each row, the smaller of its steps from and to its neighbours, `float64 [T]`; no smaller than most steps are.

    Where two neighbours are equal there is no step. The least is the lower decile of all steps: two values may come close by
    chance. Beside an outlier only the outlier's own step counts.
    """
    steps = np.abs(np.diff(values))
    if not steps.any():
        return np.full(len(values), np.inf)
    steps[steps == 0] = np.inf
    beside = np.minimum(np.append(steps, np.inf), np.insert(steps, 0, np.inf))
    least = float(np.quantile(steps[np.isfinite(steps)], 0.1))
    return np.maximum(beside, least)  # type: ignore[no-any-return]


def is_lost(values: Column, rounded: Column) -> bool:
    """Whether rounding makes different values equal, or moves one by more than `TOLERANCE` of the step beside it."""
    return len(np.unique(rounded)) < len(np.unique(values)) or rounding_share(values, rounded) > TOLERANCE


def needs_float64(values: Column) -> bool:
    """Whether float32 would erase differences of a column: a small step on a high level (1e12, 1e12 + 1), or out of its range."""
    if np.abs(values).max() > LARGEST:
        return True
    return is_lost(values, values.astype(np.float32).astype(np.float64))


def is_near_resolution(values: Column) -> bool:
    """Whether steps of a column are so small that float64 itself may have rounded them."""
    return bool((np.spacing(np.abs(values)) / 2 > TOLERANCE * _steps_beside(values)).any())
