"""Prediction intervals around point forecasts by split conformal prediction.

Source: Lei, G'Sell, Rinaldo, Tibshirani and Wasserman 2018, Distribution-free predictive inference for regression, algorithm 2.
The intervals cover the stated share of new values if their errors are exchangeable with those on val. Errors of a time series
are not exactly so: overlapping windows share errors, and the series may change, so the coverage on later data can differ.

Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data import store
from reprise.data.contracts import Contract
from reprise.data.datasets import Dataset
from reprise.data.windows import Windows
from reprise.inference.predictor import Predictor
from reprise.tasks.forecasting import Forecasting

COVERAGES = (0.5, 0.8, 0.95)
"""Shares of the values that intervals are calibrated for."""
MOST_WINDOWS, MOST_VALUES = 2048, 2**26
"""The most windows of val, and values of them, that are read: evenly spaced ones of a longer split."""


class Intervals(Contract):
    """Half widths of the intervals, calibrated on val."""

    windows: int
    """Number of windows of val that were read."""
    half_widths: dict[str, list[list[float]]]
    """In units of the data, `[S, Y]`, by the share in percent. A share that needs more windows is missing."""

    def half_width(self, coverage: float) -> npt.NDArray[np.float64] | None:
        """Return the half widths `float64 [S, Y]` in units of the data, or None if val was too short for this share."""
        found = self.half_widths.get(_key(coverage))
        return None if found is None else np.array(found, np.float64)


def conformal_half_widths(errors: Tensor, coverage: float) -> Tensor | None:
    """Return the `ceil((N + 1) * coverage)`-th smallest of `N` absolute errors `[N, S, Y]`, `[S, Y]`; None if that is above `N`.

    NaN, the error at a missing value, is left out: `N` is then smaller for its step and target.
    """
    size = errors.abs().flatten(1).nan_to_num(nan=torch.inf)
    counts = (~errors.isnan()).sum(0).flatten()
    ranks = ((counts.double() + 1) * coverage - 1e-9).ceil().long()  # 0.95 * 100 is 95.00000000000001 in floating point
    if (ranks > counts).any():
        return None
    widths = torch.empty_like(size[0])
    for rank in set(ranks.tolist()):
        widths[ranks == rank] = size[:, ranks == rank].kthvalue(rank, dim=0).values
    return widths.view(errors.shape[1:])


def calibrate(predictor: Predictor, windows: Windows, batch_size: int) -> Intervals | None:
    """Return the intervals of a predictor that forecasts, calibrated on val; None for other tasks."""
    if not isinstance(predictor.task, Forecasting):
        return None
    val = windows.val()
    values = max(1, predictor.task.outputs)
    count = min(len(val), MOST_WINDOWS, max(1, MOST_VALUES // values))
    rows = torch.linspace(0, len(val) - 1, count, dtype=torch.float64).round().long()
    with torch.inference_mode():
        errors = torch.cat([_errors(predictor, val, part) for part in torch.split(rows, batch_size)])
    found = {_key(coverage): conformal_half_widths(errors, coverage) for coverage in COVERAGES}
    return Intervals(windows=count, half_widths={key: width.tolist() for key, width in found.items() if width is not None})


def _errors(predictor: Predictor, val: Dataset, rows: Tensor) -> Tensor:
    """Return forecast minus truth in units of the data, `float64 [N, S, Y]`."""
    inputs, targets, *_ = val.gather(rows)
    task = predictor.task
    forecast = task.postprocess(task.decode(predictor.network(inputs), inputs).double())
    return forecast - task.postprocess(targets.double())


def write(intervals: Intervals, file: Path) -> None:
    """Write the intervals to a file."""
    store.write_atomically(file, store.as_json(intervals.model_dump()).encode())


def read(file: Path) -> Intervals | None:
    """Return the intervals of a run; None for a run of an earlier version, which has none."""
    return Intervals.read(file, "train the run again") if file.is_file() else None


def _key(coverage: float) -> str:
    return f"{100 * coverage:g}"
