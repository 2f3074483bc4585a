"""The comparison with the best baseline names the right one, in the right direction."""

from types import SimpleNamespace
from typing import Any

from reprise.stages.verdict import sentences


def said(monitor: str, metrics: dict[str, float], baselines: dict[str, dict[str, float]], **units: str) -> list[str]:
    task: Any = SimpleNamespace(monitor=monitor, units=units)
    return [*sentences("test", task, metrics, baselines)]


def test_the_best_baseline_has_the_smallest_error_or_the_largest_score() -> None:
    errors = {"drift": {"mae": 3.0}, "repeat_last": {"mae": 2.0}}
    assert said("mae", {"mae": 1.5}, errors, mae="EUR") == ["test mae 1.5 EUR, best baseline repeat last 2 EUR"]
    scores = {"majority_class": {"accuracy": 0.25}, "nearest_neighbour": {"accuracy": 0.91}}
    assert said("accuracy", {"accuracy": 0.95}, scores) == ["test accuracy 0.95, best baseline nearest neighbour 0.91"]


def test_a_model_that_is_worse_or_equal_does_not_beat_the_baseline() -> None:
    for value in (2.0, 2.5):
        (line,) = said("mae", {"mae": value}, {"repeat_last": {"mae": 2.0}})
        assert line.endswith(", best baseline repeat last 2: the model does not beat it")
    (line,) = said("accuracy", {"accuracy": 0.5}, {"majority_class": {"accuracy": 0.6}})
    assert line.endswith(", best baseline majority class 0.6: the model does not beat it")


def test_each_channel_that_is_worse_than_its_best_baseline_is_named() -> None:
    metrics = {"mae_scaled": 0.5, "mae/a": 1.0, "mae/b": 2.0, "mse/b": 9.0}
    baselines = {
        "repeat_last": {"mae_scaled": 0.8, "mae/a": 2.0, "mae/b": 4.0, "mse/b": 1.0},
        "seasonal_naive": {"mae_scaled": 0.7, "mae/a": 3.0, "mae/b": 1.5, "mse/b": 1.0},
    }
    assert said("mae_scaled", metrics, baselines) == [
        "test mae_scaled 0.5, best baseline seasonal naive 0.7",
        "test mae/b 2 does not beat seasonal naive, 1.5",
    ]


def test_without_baselines_nothing_is_compared() -> None:
    assert said("mae", {"mae": 1.0}, {}) == []
    assert said("mae", {"mae": 1.0}, {"repeat_last": {"mse": 2.0}}) == []
    assert said("mae", {}, {"repeat_last": {"mae": 2.0}}) == []
