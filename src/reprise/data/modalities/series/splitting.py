"""Statistics and audits of series splits: pure functions of arrays."""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.config.modalities.series import SplitBorders
from reprise.data import store
from reprise.data.modalities.series.filled import Mask, observed_steps
from reprise.data.splits import SPLITS, Borders, Indices, disjoint
from reprise.errors import UserError

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.float32] | Floats
LISTED = 100
"""The most windows that an audit lists for each split."""
BLOCK = 2**17
"""Rows that statistics are computed of at once. A larger series has statistics that differ in the last digits from those of other
block sizes."""


def borders_at(ends: SplitBorders, time: npt.NDArray[np.int64]) -> Borders:
    """Return the borders at the given ends of the splits. `time` holds the timestamps of the series, nanoseconds since 1970.

    Raises:
        UserError: if an end lies after the series, or a split has no row.

    """
    rows = {split: _row(split, getattr(ends, split), time) for split in SPLITS}
    if not 0 < rows["train"] < rows["val"] < rows["test"]:
        counts = ", ".join(f"{split} ends after {row} rows" for split, row in rows.items())
        raise UserError(f"window.borders: {counts}", "each split must end after the one before, and train after the first row")
    return Borders(**rows)


def _row(split: str, end: int | str | None, time: npt.NDArray[np.int64]) -> int:
    """Return the number of rows before the end of a split."""
    if end is None:
        return len(time)
    last = time[-1].astype("datetime64[ns]").astype("datetime64[s]")
    error = UserError(
        f"window.borders.{split}={end}: the series has {len(time)} rows, the last at {last}", "choose an earlier end"
    )
    if isinstance(end, int):
        if end > len(time):
            raise error
        return end
    date = datetime.fromisoformat(end)
    utc = date.astimezone(UTC).replace(tzinfo=None) if date.tzinfo else date
    moment = np.datetime64(utc, "us").astype("datetime64[ns]").astype(np.int64)
    if moment > 2 * time[-1] - time[-2]:  # one step after the last row would follow
        raise error
    return int(np.searchsorted(time, moment))


def series_statistics(
    values: Values, spans: Sequence[tuple[int, int]], filled: Mask | None = None, columns: Sequence[int] | None = None
) -> dict[str, list[float]]:
    """Return mean, standard deviation and mean absolute step of each channel, or of the given columns, in the spans.

    The mean absolute step is the error of the naive forecast on train.
    If the series is float64, its steps are small compared to its level, so its first row is subtracted before summing. A constant
    channel has a naive_mae of 0 and a std of 1, so that it is not scaled. No step leads from one span to the next.
    Steps from or to a cell in the mask `filled` (of the chosen columns) are left out; mean and std are those of all cells: the
    inputs hold filled ones. Memory does not grow with the length of the spans.
    """
    chosen = slice(None) if columns is None else list(columns)
    level = np.array(values[spans[0][0]][chosen] if values.dtype == np.float64 else np.zeros(values.shape[1])[chosen])

    def rows(start: int, stop: int) -> Floats:
        """Return rows as float64 above the level, `[row, channel]`."""
        block: Floats = values[start:stop][:, chosen].astype(np.float64) - level
        store.release_pages(values)
        return block

    blocks = [(start, min(start + BLOCK, stop)) for first, stop in spans for start in range(first, stop, BLOCK)]
    count = sum(stop - start for start, stop in blocks)
    mean = np.sum([rows(*block).sum(axis=0) for block in blocks], axis=0) / count
    squares = np.sum([np.square(rows(*block) - mean).sum(axis=0) for block in blocks], axis=0)
    high = np.max([rows(*block).max(axis=0) for block in blocks], axis=0)
    low = np.min([rows(*block).min(axis=0) for block in blocks], axis=0)
    return {
        "mean": (level + mean).tolist(),
        # Do not test for std == 0: rounding of the mean can give a constant channel a std of about 1e-17.
        "std": np.where(high > low, np.sqrt(squares / count), 1.0).tolist(),
        "naive_mae": _mean_steps(rows, spans, filled).tolist(),
    }


def _mean_steps(rows: Callable[[int, int], Floats], spans: Sequence[tuple[int, int]], filled: Mask | None) -> Floats:
    """Return the mean absolute step of each channel. `rows` returns the rows from a first one to that before a last one."""
    seen = None if filled is None else observed_steps([filled[slice(*span)] for span in spans])
    sums, counts = [], []
    for number, (first, stop) in enumerate(spans):
        for start in range(first, stop - 1, BLOCK):
            steps = np.abs(np.diff(rows(start, min(start + BLOCK + 1, stop)), axis=0))
            observed = None if seen is None else seen[number][start - first : start - first + BLOCK]
            sums.append((steps if observed is None else steps * observed).sum(axis=0))
            counts.append(np.full(steps.shape[1], len(steps)) if observed is None else observed.sum(axis=0))
    mean: Floats = np.sum(sums, axis=0) / np.sum(counts, axis=0)
    return mean


def audit_series(parts: Mapping[str, Indices], borders: Borders, size: int, reach: int = 0) -> dict[str, Any]:
    """Audit a series split into windows of `size` steps, and state the rule. `audit.statistics` checks the statistics.

    The first `reach` steps of a window, its lookback, may lie before the border of val or test. The others, its targets, may not.
    """
    crossing, reaching = {}, {}
    for split, starts in parts.items():
        allowed = 0 if split == "train" else reach
        first, stop = borders.span(split)
        outside = (starts < 0) | (starts + allowed < first) | (starts + size > stop)
        crossing[split] = starts[outside][:LISTED].tolist()
        reaching[split] = int(np.count_nonzero(starts < first))
    rule: dict[str, Any] = {"passed": not any(crossing.values()), "crossing": crossing}
    if reach:
        rule["windows whose lookback reaches back over a border"] = reaching
    return {
        "train before val before test": {
            "passed": 0 < borders.train < borders.val < borders.test,
            "borders": vars(borders),
        },
        "splits are disjoint": disjoint(parts),
        "no target crosses a split border" if reach else "no window crosses a split border": rule,
    }
