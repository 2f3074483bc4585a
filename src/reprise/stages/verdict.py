"""Sentences on whether a model beats the best of the predictions that need no training."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from reprise.data import class_balance
from reprise.data.windows import Windows
from reprise.inference.predictor import Predictor
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.metric_names import higher_is_better
from reprise.tasks.naive_forecasts import NaiveForecasts
from reprise.tasks.task import Task

Metrics = Mapping[str, float]
MOST_WINDOWS = 1024
"""The most windows of val that are compared: evenly spaced ones of a longer split."""


def on_val(predictor: Predictor, windows: Windows, batch_size: int) -> list[str]:
    """Return the verdict on val of a predictor that forecasts; nothing for other tasks, whose baselines take longer."""
    task = predictor.task
    if not isinstance(task, Forecasting):
        return []
    val, naive = windows.val(), NaiveForecasts(windows, "val")
    rows = torch.linspace(0, len(val) - 1, min(len(val), MOST_WINDOWS), dtype=torch.float64).round().long()
    model = task.new_metrics()
    baselines = {name: task.new_metrics() for name in naive.names}
    with torch.inference_mode():
        for part in torch.split(rows, batch_size):
            inputs, targets, *_ = val.gather(part)
            model.update(_decoded(predictor, inputs), targets)
            for name, metrics in baselines.items():
                metrics.update(task.of_point(naive.of(name, part)), targets)
    return [*sentences("val", task, model.compute(), {name: metrics.compute() for name, metrics in baselines.items()})]


def _decoded(predictor: Predictor, inputs: Tensor) -> Tensor:
    return predictor.task.decode(predictor.network(inputs), inputs)


def sentences(split: str, task: Task, metrics: Metrics, baselines: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield the comparison by the monitored metric, and one of each target channel that is not better than its best baseline."""
    metric = task.monitor
    best = _best(metric, baselines)
    if not best or metric not in metrics:  # every value to compare with is missing
        return
    name, value = best
    unit = f" {task.units[metric]}" if metric in task.units else ""
    model, baseline = f"{_number(metrics[metric])}{unit}", f"{name.replace('_', ' ')} {_number(value)}{unit}"
    comparison = f"{split} {metric} {model}, best baseline {baseline}"
    if not _is_better(metric, metrics[metric], value):
        yield f"{comparison}: the model does not beat it"
        return
    yield comparison
    for one in metrics:
        if not one.startswith(f"{metric.removesuffix('_scaled')}/") or not (best := _best(one, baselines)):
            continue
        name, value = best
        if not _is_better(one, metrics[one], value):
            yield f"{split} {one} {_number(metrics[one])} does not beat {name.replace('_', ' ')}, {_number(value)}"


def on_classes(split: str, task: Task, kept: Tensor, samples: int) -> list[str]:
    """Return a sentence if the classes of a split are imbalanced. `kept` is what `Task.keep` kept of its `samples` samples."""
    if not isinstance(task, Classification):
        return []
    counts = np.bincount(task.kept(kept, samples).target, minlength=len(task.classes))
    sentence = class_balance.imbalance(counts, task.classes)
    remedy = "" if task.class_weights else f"; {class_balance.REMEDY}"
    return [f"{split} is {sentence}{remedy}"] if sentence else []


def _best(metric: str, baselines: Mapping[str, Metrics]) -> tuple[str, float] | None:
    """Return name and metric of the best baseline; None if none has the metric."""
    found = {name: metrics[metric] for name, metrics in baselines.items() if metric in metrics}
    if not found:
        return None
    name = (max if higher_is_better(metric) else min)(found, key=lambda name: found[name])
    return name, found[name]


def _is_better(metric: str, value: float, than: float) -> bool:
    return value > than if higher_is_better(metric) else value < than


def _number(value: float) -> str:
    return f"{value:.4g}"
