"""Cells that were filled when a table was read: loss and metrics must not count them as true values.

Shapes: `T` time steps, `Y` target channels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reprise.data import store
from reprise.data.splits import SPLITS, Indices
from reprise.errors import UserError

Mask = npt.NDArray[np.bool_]
ARRAY = "filled"
"""Name of the array bool [T, channel]; it exists if a cell was filled."""


def of_columns(arrays: Path, columns: Sequence[int]) -> Mask | None:
    """Return the mask of the filled cells of some channels, bool [T, channel]; None if there is none."""
    if not (arrays / f"{ARRAY}.npy").is_file():
        return None
    filled = np.asarray(store.open_array(arrays / f"{ARRAY}.npy")[:, list(columns)])
    return filled if filled.any() else None


def missing_targets(
    filled: Mask | None, parts: Mapping[str, Indices], lookback: int, horizon: int, targets: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Return how many values to forecast are filled in each split, and a note on each split with some.

    `filled` is the mask of the targets `[T, Y]`, or None; `parts` holds the first row of each window. If no value is filled, the
    counts are empty.

    Raises:
        UserError: if all values of a target in a split are filled.

    """
    counts: dict[str, int] = {}
    notes: list[str] = []
    if filled is None:
        return counts, notes
    for split in SPLITS:
        missing = filled[_target_rows(parts[split] + lookback, horizon, len(filled))]
        for target in np.flatnonzero(missing.all(axis=0))[:1]:
            raise UserError(
                f"window.targets={targets[target]}: the file has none of its values to forecast in {split}: all are filled",
                "choose other sizes of the splits, or leave it out of window.targets",
            )
        counts[split] = int(missing.sum())
        if counts[split]:
            left_out = "the loss leaves" if split == "train" else "its metrics leave"
            notes.append(f"{split}: {counts[split]:,} of {missing.size:,} values to forecast are filled; {left_out} them out")
    return (counts if any(counts.values()) else {}), notes


def _target_rows(first: Indices, horizon: int, rows: int) -> Mask:
    """Return which rows are among the `horizon` rows from any of the given first rows on, bool [rows]."""
    changes = np.zeros(rows + 1, np.int64)
    np.add.at(changes, first, 1)
    np.subtract.at(changes, first + horizon, 1)
    return changes.cumsum()[:rows] > 0


def observed_steps(filled: Sequence[Mask]) -> list[Mask]:
    """Return whether neither end of a step from one row to the next is filled, bool [T - 1, channel], for each span of rows.

    Of a channel without such a step in any span, all steps count as observed.
    """
    observed = [~(span[1:] | span[:-1]) for span in filled]
    none = ~np.any([span.any(axis=0) for span in observed], axis=0)
    return [span | none for span in observed]
