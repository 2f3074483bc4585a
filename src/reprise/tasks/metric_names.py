"""Names of metrics and what is known about them. Other modules ask here instead of naming a metric. Imports no PyTorch."""

import math
import re

LOSS, ACCURACY, BALANCED_ACCURACY, F1_MACRO, ECE = "loss", "accuracy", "balanced_accuracy", "f1_macro", "ece"
MAE, MAE_SCALED, MSE_SCALED, MASE = "mae", "mae_scaled", "mse_scaled", "mase"
MAIN = (ACCURACY, MAE, MAE_SCALED, LOSS)
"""The main metric of a run is the first of these that it has."""
SPEED = ("train/seconds", "train/samples_per_second")
"""Metrics that differ between repetitions of a run."""
FORECAST_COLUMNS = (MAE, "rmse", MASE, "coverage_80", "width_80")
"""Metrics of the results table of forecasts, by target."""
_SCORES = re.compile(r"(accuracy|balanced_accuracy|f1|auc|auroc|precision|recall|r2)(_|$)")
_IN_UNIT_INTERVAL = re.compile(r"(accuracy|balanced_accuracy|precision|recall|f1|ece|auroc|coverage)(_|$)")
_NOT_NEGATIVE = re.compile(r"(loss|mae|mse|rmse|mase|smape|wql|width)(_|$)")
_IN_UNITS = re.compile(r"(mae|mse|rmse|width_\d+)$")


def higher_is_better(metric: str) -> bool:
    """Return whether a metric, with or without its split (`test/accuracy`), is a score rather than an error."""
    return bool(_SCORES.match(_base_name(metric)))


def bounds(metric: str) -> tuple[float, float]:
    """Return the smallest and the largest possible value of a metric, by its name; infinite for an unknown metric."""
    name = _base_name(metric)
    if _IN_UNIT_INTERVAL.match(name):
        return 0.0, 1.0
    return (0.0, math.inf) if _NOT_NEGATIVE.match(name) else (-math.inf, math.inf)


def in_units(metric: str) -> bool:
    """Return whether a metric of a forecast is in the unit of its target, or its square."""
    return bool(_IN_UNITS.match(_base_name(metric)))


def digits(metric: str) -> int:
    """Return the number of decimals with which a metric is printed."""
    return 4 if _IN_UNIT_INTERVAL.match(_base_name(metric)) else 3


def _base_name(metric: str) -> str:
    """Return the name without split and target: `mae` for `best/test/mae/temp_max`, and for `mae`."""
    _, *parts = f"/{metric.removeprefix('best/')}".split("/")
    return parts[1] if len(parts) > 1 else parts[0]
