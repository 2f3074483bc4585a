"""Functions from raw inputs to answers: what `predict`, the server and the tests of equality call.

Shapes: `B` samples, `K` classes, `S` forecast steps (horizon), `Y` target channels.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.inference import intervals
from reprise.inference.intervals import Intervals
from reprise.inference.predictor import Predictor

Values = npt.NDArray[np.float64]
Answer = tuple[Values | None, ...]
"""Arrays `[B, …]`; None for what the model does not have."""
Compute = Callable[[Sequence[Tensor]], Answer]
"""Maps raw inputs `[B, …]`, in the order of the predictor's `raw_inputs`, to answers."""
COVERAGE = 0.8
"""The share of new values that the intervals of forecasts are made to contain."""


def classifier(predictor: Predictor) -> Compute:
    """Return the function to probabilities `float64 [B, K]`."""

    def compute(raw: Sequence[Tensor]) -> Answer:
        with torch.inference_mode():
            return (predictor(*predictor.move(raw)).double().cpu().numpy(),)

    return compute


def forecaster(predictor: Predictor, calibrated: Intervals | None) -> Compute:
    """Return the function to forecasts in units and the ends of their intervals, each `float64 [B, S, Y]`."""

    def compute(raw: Sequence[Tensor]) -> Answer:
        return intervals.forecast(predictor, raw, calibrated, COVERAGE)

    return compute


def probabilities(compute: Compute, raw: Sequence[Tensor]) -> Values:
    """Return the probabilities `float64 [B, K]` of a classifier."""
    (found,) = compute(raw)
    assert found is not None
    return found
