"""Prediction intervals of new forecasts, calibrated on val: see `reprise.tasks.conformal`.

Shapes: `N` windows, `S` forecast steps (horizon), `Y` target channels.
"""

from collections.abc import Sequence
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
from reprise.tasks.conformal import Margins, percent
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.kept_predictions import EvenlySpaced

Values = npt.NDArray[np.float64]


class Intervals(Contract):
    """How far the intervals reach beyond the forecast, or beyond its quantiles, calibrated on val."""

    windows: int
    """Number of windows of val that were read."""
    half_widths: dict[str, list[list[float]]]
    """In units of the data, `[S, Y]`, by the share in percent. A share that needs more windows is missing."""

    def half_width(self, coverage: float) -> Values | None:
        """Return the half widths `float64 [S, Y]` in units of the data, or None if val was too short for this share."""
        found = self.half_widths.get(percent(coverage))
        return None if found is None else np.array(found, np.float64)


def calibrate(predictor: Predictor, windows: Windows, batch_size: int) -> Intervals | None:
    """Return the intervals of a predictor that forecasts, calibrated on val; None for other tasks."""
    task = predictor.task
    if not isinstance(task, Forecasting):
        return None
    val = windows.val()
    rows = task.calibration_windows(len(val)).rows
    keep = EvenlySpaced(len(rows), 1).keep(batch_size)
    with torch.inference_mode():
        kept = [keep(*_decoded(predictor, val, part), number) for number, part in enumerate(torch.split(rows, batch_size))]
    levels = Margins(len(rows), task.calibrate(torch.cat(kept))).levels
    scale = task.std.double()
    return Intervals(
        windows=len(rows), half_widths={percent(level): (margin * scale).tolist() for level, margin in levels.items()}
    )


@torch.inference_mode()
def forecast(
    predictor: Predictor, raw: Sequence[Tensor], intervals: Intervals | None, coverage: float
) -> tuple[Values, Values | None, Values | None]:
    """Return forecasts `float64 [B, S, Y]` in units, and the ends of their intervals; None without intervals of this coverage."""
    task = predictor.task
    assert isinstance(task, Forecasting)
    inputs = predictor.transform(*predictor.move(raw))
    predictions = task.decode(predictor.network(inputs), inputs)
    point = task.postprocess(predictions).double().cpu().numpy()
    if intervals is None or (beyond := intervals.half_width(coverage)) is None:
        return point, None, None
    lower, upper = (task.in_units(bound).double().cpu().numpy() for bound in task.quantiles.bounds(predictions, coverage))
    return point, lower - beyond, upper + beyond


def _decoded(predictor: Predictor, val: Dataset, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return standardised forecasts and true values of some windows."""
    inputs, targets, *_ = val.gather(rows)
    return predictor.task.decode(predictor.network(inputs), inputs), targets


def write(intervals: Intervals, file: Path) -> None:
    """Write the intervals to a file."""
    store.write_atomically(file, store.as_json(intervals.model_dump()).encode())


def read(file: Path) -> Intervals | None:
    """Return the intervals of a run; None for a run of an earlier version, which has none."""
    return Intervals.read(file, "train the run again") if file.is_file() else None
