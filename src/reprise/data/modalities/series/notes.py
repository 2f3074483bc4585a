"""Notes on what of a series cannot be learned, measured or represented."""

from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import rounding, store
from reprise.data.modalities.series.defaults import ResolvedWindow
from reprise.data.modalities.series.splitting import BLOCK


def of_fold(window: ResolvedWindow) -> list[str]:
    """Return a note on the fold, if the windows are one of several."""
    if window.folds is None or window.fold is None:
        return []
    block = f"block {window.fold + 1} of {window.folds} of test"
    return [f"window.fold={window.fold}: tests on {block}, and trains on rows before it"]


def of_precision(values: npt.NDArray[Any], columns: list[int], names: list[str], fitted: dict[str, list[float]]) -> list[str]:
    """Return a note on each input channel of which float32, the precision of the inputs, loses differences."""
    notes = []
    for position, (column, name) in enumerate(zip(columns, names, strict=True)):
        mean, std = fitted["mean"][position], fitted["std"][position]
        if any(_is_lost(values[start : start + BLOCK, column], mean, std) for start in range(0, len(values), BLOCK)):
            notes.append(
                f"{name}: its steps are small compared with its range, and float32, the precision of the inputs, loses a tenth "
                "of them or more; forecast its differences or its logarithm"
            )
    return notes


def _is_lost(values: npt.NDArray[Any], mean: float, std: float) -> bool:
    scaled = (values.astype(np.float64) - mean) / std
    store.release_pages(values)
    return rounding.rounding_share(scaled, scaled.astype(np.float32).astype(np.float64)) > rounding.LOST


def of_target(targets: list[str], naive_mae: list[float]) -> list[str]:
    """Return a note on each target whose metrics are undefined."""
    return [
        f"window.targets={target}: constant in the training split, so nothing of it can be learned; its mase and its "
        "scaled errors are undefined and left out"
        for target, naive in zip(targets, naive_mae, strict=True)
        if naive == 0
    ]


def of_baseline(window: ResolvedWindow, first_forecast: int) -> list[str]:
    """Return notes on baselines that are left out. `first_forecast` is the row of the first forecast in test."""
    notes = []
    if first_forecast < window.season:
        reach = f"the series reaches back {first_forecast} steps from test"
        notes.append(f"window.season={window.season}: {reach}, so the seasonal-naive forecast is left out")
    if window.lookback < window.season:
        notes.append(f"window.lookback={window.lookback}: shorter than window.season, so the seasonal-mean forecast is left out")
    return notes
