"""The result of one experiment: its metrics.json, its config, and the baselines that it is compared with."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reprise.stages.summary import Summary
from reprise.tasks import metric_names
from reprise.tasks.metric_names import ACCURACY, LOSS, MAE, MAE_SCALED, MSE_SCALED
from reprise.tracking.trained import Trained

TITLES = {ACCURACY: "accuracy", MAE: "MAE", MSE_SCALED: "MSE (scaled)", MAE_SCALED: "MAE (scaled)", LOSS: "loss"}
"""Metrics and their printed names. A row shows the first that it has: of several targets the MSE, as published tables do."""
FITTED_BASELINE = "reprise.models.ridge_forecaster.RidgeForecaster"
"""The model whose experiments are a baseline of the other experiments on the same targets."""


@dataclass(frozen=True)
class Result:
    """The result of an experiment over its seeds."""

    name: str
    summary: Summary
    config: Mapping[str, Any]
    """The resolved config; empty if conf/ has no such experiment."""
    runs: list[Trained]
    """The runs of this project that trained it; none in a fresh clone."""
    long: bool
    """Whether it belongs to the list `long` of conf/pipeline.yaml."""

    @property
    def metric(self) -> str:
        """Return the name of the metric that its row shows."""
        return next((metric for metric in TITLES if self.summary.test.get(metric) is not None), LOSS)

    @property
    def has_several_targets(self) -> bool:
        """Return whether it forecasts several targets, whose errors are compared after standardisation."""
        return self.metric == MSE_SCALED

    @property
    def published(self) -> Mapping[str, Any]:
        """Return the published value of its metric and a note on it; empty if there is none."""
        return self.config.get("published") or {}

    @property
    def window(self) -> Mapping[str, Any]:
        """Return the section `window` of its config."""
        return self.config.get("window") or {}

    @property
    def is_fitted_baseline(self) -> bool:
        """Return whether its model is itself a baseline of others."""
        return (self.config.get("model") or {}).get("_target_") == FITTED_BASELINE

    def same_targets(self, other: "Result") -> bool:
        """Return whether both forecast the same steps of the same windows and channels of one data set."""
        keys = ["horizon", "stride", "targets", "inputs", "borders", "val_size", "test_size", "lookback_crosses"]
        if not self.window.get("lookback_crosses"):
            keys.append("lookback")  # decides the first window of test
        same = all(self.window.get(key) == other.window.get(key) for key in keys)
        return bool(self.window) and same and self.summary.data == other.summary.data and self.metric == other.metric

    def cell(self, split: str, metric: str) -> str:
        """Return mean ± standard deviation of a metric; the mean alone of one seed, or of a model without randomness."""
        values, spreads = getattr(self.summary, split), getattr(self.summary, f"{split}_std")
        text, spread = (figure(one.get(metric), metric) for one in (values, spreads))
        return f"{text} ± {spread}" if len(self.summary.seeds) > 1 and text != "–" else text

    @property
    def seconds(self) -> str:
        """Return the mean time of a training."""
        return f"{statistics.fmean(run.train_seconds for run in self.runs):.0f} s" if self.runs else "–"


@dataclass(frozen=True)
class BestBaseline:
    """The best baseline of a result."""

    name: str
    value: float
    metric: str
    beaten: bool
    """Whether the mean over the seeds of the result is better."""


def best_baseline(result: Result, others: Iterable[Result]) -> BestBaseline | None:
    """Return the best of a result's baselines: predictions without training, and ridge regression of the same targets.

    Returns:
        None if there is no baseline, or the metric is undefined.

    """
    metric = result.metric
    found = {baseline_title(name): values.get(metric) for name, values in result.summary.baselines.items()}
    if not result.is_fitted_baseline:
        found |= {
            f"`{one.name}`": one.summary.test[metric] for one in others if one.is_fitted_baseline and result.same_targets(one)
        }
    known = {name: value for name, value in found.items() if value is not None}
    ours = result.summary.test[metric]
    if not known or ours is None:
        return None
    sign = -1 if metric_names.higher_is_better(metric) else 1
    name = min(known, key=lambda one: sign * known[one])
    return BestBaseline(name, known[name], metric, sign * ours < sign * known[name])


def baseline_title(name: str) -> str:
    """Return the printed name of a baseline."""
    return {"repeat_last": "repeat-last", "seasonal_naive": "seasonal-naive"}.get(name, name.replace("_", " "))


def figure(value: float | None, metric: str) -> str:
    """Return a value with the decimals of its metric, or a dash."""
    return "–" if value is None else f"{value:.{metric_names.digits(metric)}f}"
