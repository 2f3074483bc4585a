"""Every figure is drawn from small arrays, shows the numbers it was given, and is the same bytes each time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torchmetrics.functional.classification import multiclass_calibration_error

from reprise.figures import classification, comparison, forecasting, network, training
from reprise.figures.style import GREEN, ORANGE, save

DRAW = np.random.default_rng(0)
NAMES = ["cat", "dog", "ship"]
IMAGES = DRAW.integers(0, 256, (5, 8, 9, 1), np.uint8)
COLOUR = DRAW.integers(0, 256, (5, 8, 9, 3), np.uint8)
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.999, 0.0005, 0.0005], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
LABELS = np.array([0, 1, 2, 2, 2])
HISTORY = {
    f"{split}/{name}": [(1, 0.5), (2, 0.4), (3, 0.45)] for split in ("train", "val") for name in ("loss", "accuracy", "mae")
}
TIME = np.arange("2015-01-01", "2015-02-10", dtype="datetime64[D]").astype("datetime64[ns]")
TRUTH, FORECAST, NAIVE = (DRAW.normal(size=40) for _ in range(3))
FILTERS = DRAW.normal(size=(11, 3, 3, 3)).astype(np.float32)
MAPS = DRAW.random((3, 6, 7, 20), np.float32)

FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: training.curves(HISTORY, "accuracy", 2, "a run"),
    "samples": lambda: classification.samples(IMAGES, LABELS, NAMES, "a run"),
    "samples in colour": lambda: classification.samples(COLOUR, LABELS, NAMES, "a run"),
    "predictions": lambda: classification.predictions(IMAGES, LABELS, PROBABILITIES, NAMES, "a run"),
    "answers": lambda: classification.answers(COLOUR, PROBABILITIES, NAMES, [f"{n}.png" for n in range(5)], "a run"),
    "confusion": lambda: classification.confusion_matrix(np.array([[5, 1, 0], [0, 0, 0], [2, 0, 9]]), NAMES, "a run"),
    "confusion of many": lambda: classification.confusion_matrix(
        np.eye(50, dtype=np.int64), [str(n) for n in range(50)], "a run"
    ),
    "reliability": lambda: classification.reliability(PROBABILITIES.max(1), LABELS == 0, 15, 0.1, "a run"),
    "scores": lambda: classification.scores([0.5, 0.9, 0.7], [0.4, 1.0, 0.7], [0.6, 0.8, 0.7], NAMES, "a run"),
    "ablation": lambda: comparison.ablation(NAMES, [0.9, 0.92, 0.91], [0.01, 0.002, 0.0], "accuracy", 3),
    "filters": lambda: network.filters(FILTERS[..., :1], "a run"),
    "filters in colour": lambda: network.filters(FILTERS, "a run"),
    "feature maps": lambda: network.feature_maps(IMAGES[:3], NAMES, MAPS, "a run"),
    "attribution": lambda: network.attribution(
        COLOUR[:2], ["a", "b"], [GREEN, ORANGE], [{"a": MAPS[0, :, :, :3], "b": MAPS[1, :, :, :3]}] * 2, "a run"
    ),
    "forecast": lambda: forecasting.forecast(TIME, TRUTH, FORECAST, NAIVE, "°C", "a run"),
    "residuals": lambda: forecasting.residuals(TIME, TRUTH, FORECAST, "°C", "a run"),
    "error by step": lambda: forecasting.error_by_step(
        {"forecast": np.array([1.0]), "repeat last": np.array([2.0])}, "°C", "a run"
    ),
    "error by steps": lambda: forecasting.error_by_step(
        {"forecast": np.arange(5.0), "repeat last": np.arange(5.0)}, "°C", "a run"
    ),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_and_is_the_same_bytes_each_time(name: str, tmp_path: Path) -> None:
    for file in ("first.png", "again.png"):
        save(FIGURES[name](), tmp_path / file)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "first.png").stat().st_size > 3000


def titles(figure: Figure) -> list[tuple[str, str]]:
    return [(axis.get_title(loc="center"), str(axis.title.get_color())) for axis in figure.axes if axis.get_title(loc="center")]


def test_a_prediction_is_green_when_right_and_red_with_the_truth_when_wrong() -> None:
    figure = classification.predictions(IMAGES, LABELS, PROBABILITIES, NAMES, "a run")
    assert titles(figure) == [
        ("✓ cat, 80 %", GREEN),
        ("✓ dog, 70 %", GREEN),
        ("✗ cat, >99 %\nis ship", ORANGE),
        ("✗ dog, 50 %\nis ship", ORANGE),
        ("✓ ship, 40 %", GREEN),
    ]


def test_a_confusion_matrix_says_counts_and_shares_of_the_row() -> None:
    figure = classification.confusion_matrix(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]]), NAMES, "a run")
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1\n25.0 %", "1\n50.0 %", "1\n50.0 %", "3\n75.0 %"]


def test_the_bars_of_the_reliability_diagram_add_up_to_the_calibration_error() -> None:
    confidence = np.concatenate([0.5 + DRAW.random(500) / 2, [0.6, 0.8, 1.0]])  # on edges of the bins too
    right = DRAW.random(503) < confidence**2
    figure = classification.reliability(confidence, right, 15, 0.0, "a run")
    accuracy, counts = ([bar.get_height() for bar in axis.patches] for axis in figure.axes)
    means = figure.axes[0].lines[1].get_xdata()
    found = sum(count / 503 * abs(bar - mean) for count, bar, mean in zip(counts, accuracy, np.asarray(means), strict=True))
    probabilities = torch.tensor(np.stack([confidence, 1 - confidence], 1))
    reference = multiclass_calibration_error(probabilities, torch.tensor(~right).long(), 2, n_bins=15).item()
    assert found == pytest.approx(reference, abs=1e-6)


def test_the_worst_class_stands_first() -> None:
    figure = FIGURES["scores"]()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[::-1] == ["cat", "ship", "dog"]  # the axis counts upwards


def test_feature_maps_show_the_most_active_features() -> None:
    maps = np.zeros((2, 4, 4, 30), np.float32)
    maps[..., [3, 29, 7]] = 1.0
    figure = network.feature_maps(IMAGES[:2], ["a", "b"], maps, "a run")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[:2] == ["a", "b"]
    shown = [int(text) for text in said[2:]]
    assert {3, 7, 29} <= set(shown)
    assert shown == sorted(shown)
    assert len(shown) == network.SHOWN
