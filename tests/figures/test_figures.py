"""Every figure is drawn from small arrays, shows the given numbers, and has the same bytes each time."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from torchmetrics.functional.classification import multiclass_calibration_error

from reprise.figures import attribution, classification, comparison, forecasting, intervals, network, training
from reprise.figures.new_forecast import Panel, new_forecast
from reprise.figures.style import GREEN, ORANGE, brightened, save

RNG = np.random.default_rng(0)
NAMES = ["cat", "dog", "ship"]
IMAGES = RNG.integers(0, 256, (5, 8, 9, 1), np.uint8)
COLOUR = RNG.integers(0, 256, (5, 8, 9, 3), np.uint8)
SEQUENCES = [RNG.normal(size=(length, 3)).astype(np.float32) for length in (12, 7, 1, 12, 9)]
PROBABILITIES = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.999, 0.0005, 0.0005], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])
LABELS = np.array([0, 1, 2, 2, 2])
HISTORY = {
    f"{split}/{name}": [(1, 0.5), (2, 0.4), (3, 0.45)] for split in ("train", "val") for name in ("loss", "accuracy", "mae")
}
TIME = np.datetime64("2020-01-01", "ns") + (np.arange(40)[:, None] + np.arange(5)) * np.timedelta64(1, "D")
TRUTH, FORECAST, NAIVE = (RNG.normal(size=(40, 5)) for _ in range(3))
WINDOWS = [
    forecasting.Window(TIME[row], TRUTH[row], TIME[row + 5], TRUTH[row + 5], FORECAST[row + 5], NAIVE[row + 5], "seasonal mean")
    for row in (0, 10, 20)
]
BOUNDS = {level: (FORECAST - level, FORECAST + level) for level in (0.5, 0.8, 0.95)}
FANS = [
    intervals.Fan(
        TIME[row],
        TRUTH[row],
        TIME[row + 5],
        TRUTH[row + 5],
        FORECAST[row + 5],
        {level: (lower[row + 5], upper[row + 5]) for level, (lower, upper) in BOUNDS.items()},
    )
    for row in (0, 10, 20)
]
LEVELS = [0.2, 0.5, 0.8, 0.95]
COVERAGE = {channel: np.array(LEVELS) - 0.02 * number for number, channel in enumerate([f"channel {n}" for n in range(12)])}
FILTERS = RNG.normal(size=(11, 3, 3, 3)).astype(np.float32)
MAPS = RNG.random((3, 6, 7, 20), np.float32)


def new_panel(title: str, unit: str, steps: int) -> Panel:
    days = np.datetime64("2024-01-01", "ns") + np.arange(30 + steps) * np.timedelta64(1, "D")
    wave = np.sin(np.arange(30.0 + steps))
    width = np.linspace(0.1, 0.5, steps)
    return Panel(title, unit, days[:30], wave[:30], days[30:], wave[30:], wave[30:] - width, wave[30:] + 2 * width)


FIGURES: dict[str, Callable[[], Figure]] = {
    "curves": lambda: training.curves(HISTORY, "accuracy", 2, "a run"),
    "curves of a run selected by its loss": lambda: training.curves(HISTORY, "loss", 2, "a run"),
    "curves with a unit": lambda: training.curves(HISTORY, "mae", 2, "a run", {"mae": "thousands of passengers per month"}),
    "samples": lambda: classification.samples(IMAGES, LABELS, NAMES, "a run"),
    "samples in colour": lambda: classification.samples(COLOUR, LABELS, NAMES, "a run"),
    "samples of sequences": lambda: classification.samples(SEQUENCES, LABELS, NAMES, "a run"),
    "samples of sequences with a legend": lambda: classification.samples(
        SEQUENCES, LABELS, NAMES, "a run", ["acceleration x", "acceleration y", "rotation around the vertical axis"]
    ),
    "predictions of sequences": lambda: classification.predictions(SEQUENCES, LABELS, PROBABILITIES, NAMES, "a run"),
    "predictions": lambda: classification.predictions(IMAGES, LABELS, PROBABILITIES, NAMES, "a run"),
    "answers": lambda: classification.file_predictions(COLOUR, PROBABILITIES, NAMES, [f"{n}.png" for n in range(5)], "a run"),
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
        COLOUR[:2], ["a", "b"], [GREEN, ORANGE], [[("a", MAPS[0, :, :, :3]), ("b", MAPS[1, :, :, :3])]] * 2, "a run"
    ),
    "forecast": lambda: forecasting.forecast(TIME[:, :1], TRUTH[:, :1], FORECAST[:, :1], NAIVE[:, :1], "t", "°C", "a run"),
    "forecast of steps": lambda: forecasting.forecast(TIME, TRUTH, FORECAST, NAIVE, "t", "°C", "a run"),
    "residuals": lambda: forecasting.residuals(TIME[:, :1], TRUTH[:, :1], FORECAST[:, :1], "°C", "a run"),
    "residuals of steps": lambda: forecasting.residuals(TIME, TRUTH, FORECAST, "°C", "a run"),
    "new forecast": lambda: new_forecast([new_panel("load", "MW", 6), new_panel("price", "", 6)], "a run", 0.8),
    "new forecast of one step": lambda: new_forecast([new_panel("load", "MW", 1)], "a run", 0.8),
    "error by step": lambda: forecasting.error_by_step(
        {"forecast": np.array([1.0]), "repeat last": np.array([2.0])}, "°C", "a run"
    ),
    "error by steps": lambda: forecasting.error_by_step(
        {"forecast": np.arange(5.0), "repeat last": np.arange(5.0)}, "°C", "a run"
    ),
}

FIGURES |= {
    "error by steps, a poor baseline": lambda: forecasting.error_by_step(
        {"forecast": np.arange(5.0), "seasonal mean": np.arange(5.0), "drift": 9 * np.arange(5.0)}, "°C", "a run"
    ),
    "error by channel": lambda: forecasting.error_by_channel(
        {"forecast": np.array([1.0, 0.5, np.nan]), "drift": np.array([2.0, 0.4, np.nan])}, ["a", "b", "constant"], "a run"
    ),
    "error by many channels": lambda: forecasting.error_by_channel(
        {"forecast": np.arange(321.0), "drift": np.arange(321.0)}, [f"channel {number}" for number in range(321)], "a run"
    ),
    "fan chart": lambda: intervals.fan_chart(FANS, "t", "°C", "a run"),
    "fan chart of one window": lambda: intervals.fan_chart(FANS[:1], "t", "°C", "a run"),
    "bands": lambda: intervals.bands(
        TIME[:, 0],
        TRUTH[:, 0],
        FORECAST[:, 0],
        {level: (a[:, 0], b[:, 0]) for level, (a, b) in BOUNDS.items()},
        "t",
        "°C",
        "a run",
    ),
    "calibration of one step": lambda: intervals.calibration(LEVELS, {"t": COVERAGE["channel 1"]}, {0.8: np.ones(1)}, "a run"),
    "calibration": lambda: intervals.calibration(
        LEVELS, dict(list(COVERAGE.items())[:3]), {0.8: np.linspace(0.9, 0.7, 5), 0.95: np.linspace(1, 0.9, 5)}, "a run"
    ),
    "calibration of many channels": lambda: intervals.calibration(LEVELS, COVERAGE, {0.8: np.linspace(0.9, 0.7, 96)}, "a run"),
    "windows": lambda: forecasting.windows(WINDOWS, "t", "°C", "a run"),
    "one window": lambda: forecasting.windows(WINDOWS[:1], "t", "°C", "a run"),
}

ATTRIBUTED = [
    attribution.Panel(name, share, RNG.normal(size=30), RNG.normal(size=30), (3, 9), unit)
    for name, share, unit in (("load of the whole network", 0.7, "MW"), ("price", 0.3, ""), ("constant", 0.0, ""))
]
AHEAD = attribution.Ahead(new_panel("", "", 6).time, RNG.normal(size=6) + 5, "price")
STRENGTH, WIDE = RNG.random((30, 3)), RNG.random((9, 200))
FIGURES |= {
    "attribution of a sequence": lambda: attribution.attributed(
        ATTRIBUTED, np.arange(1.0, 31), "a run", "against ← attribution → for"
    ),
    "attribution of one step": lambda: attribution.attributed(
        [attribution.Panel("x", 1.0, np.ones(1), np.ones(1), (0, 0))], np.ones(1), "a run", "attribution"
    ),
    "attribution of a forecast": lambda: attribution.attributed(
        ATTRIBUTED, new_panel("", "", 6).past_time, "a run", "attribution, MW", AHEAD, ticks=True
    ),
    "importance": lambda: attribution.importance(STRENGTH, ["load", "price", "a"], range(30, 0, -1), "lag", "a run"),
    "importance of one channel": lambda: attribution.importance(STRENGTH[:, :1], ["x"], range(1, 31), "time step", "a run"),
    "importance of many channels": lambda: attribution.importance(
        WIDE, [f"channel {number}" for number in range(200)], range(1, 10), "time step", "a run"
    ),
    "importance by step": lambda: attribution.by_horizon(
        STRENGTH.T, [(1, 1), (2, 8), (9, 16)], range(30, 0, -1), "lag: time steps before the first step of the forecast", "a run"
    ),
}

LONG_NAMES = ["a class name that is rather long indeed", "another one, of the same length as that", "ship"]
LONG_TEXTS: dict[str, Callable[[], Figure]] = {
    "long names": lambda: classification.confusion_matrix(
        np.eye(3, dtype=np.int64), LONG_NAMES, "image_folder-own-seed0-a604: 18 images"
    ),
    "two classes": lambda: classification.confusion_matrix(
        np.eye(2, dtype=np.int64), ["circle", "triangle"], "image_folder-own-seed0-a604: 18 test images"
    ),
    "long files": lambda: classification.file_predictions(
        COLOUR, PROBABILITIES, LONG_NAMES, ["IMG_2023_MMMMMMMMMM.jpeg"] * 5, "a run"
    ),
    "long unit": lambda: forecasting.forecast(
        TIME, TRUTH, FORECAST, NAIVE, "temperature_of_the_air", "thousands of passengers per month and year", "a run " * 20
    ),
    "long scores": lambda: classification.scores([0.5, 0.9, 0.7], [0.4, 1.0, 0.7], [0.6, 0.8, 0.7], LONG_NAMES, "a run " * 20),
}


@pytest.mark.parametrize("name", FIGURES | LONG_TEXTS)
def test_a_figure_has_the_same_bytes_each_time_and_no_text_is_clipped_and_no_legend_hides_data(name: str, tmp_path: Path) -> None:
    figures = [(FIGURES | LONG_TEXTS)[name]() for _ in range(2)]
    for number, figure in enumerate(figures):
        save(figure, tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert (tmp_path / "0.png").stat().st_size > 3000
    page = figure.bbox.padded(1)
    for one in drawn_texts(figure):
        extent = one.get_window_extent()
        assert page.x0 <= extent.x0 <= extent.x1 <= page.x1, one.get_text()
        assert page.y0 <= extent.y0 <= extent.y1 <= page.y1, one.get_text()
    headings = [axis.title.get_window_extent() for axis in figure.axes if axis.title.get_text()]
    headings += [text.get_window_extent() for text in figure.texts]
    for legend in [axis.get_legend() for axis in figure.axes if axis.get_legend()]:
        box = legend.get_window_extent()
        assert page.x0 <= box.x0 <= box.x1 <= page.x1
        assert all(not box.padded(-1).overlaps(axis.patch.get_window_extent()) for axis in figure.axes)
        headings.append(box)
    assert not any(one.padded(-1).overlaps(other) for number, one in enumerate(headings) for other in headings[:number])


def drawn_texts(figure: Figure) -> list[Text]:
    """Return all texts, without the labels of ticks outside the view, which matplotlib keeps but does not draw."""
    texts: list[Text] = [*figure.texts]
    for axes in figure.axes:
        texts += [axes.title, *axes.texts, *(axes.get_legend().get_texts() if axes.get_legend() else [])]
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            texts += [axis.label, *(tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high)]
    return [one for one in texts if one.get_visible() and one.get_text().strip()]


def titles(figure: Figure) -> list[tuple[str, str]]:
    """Return text and colour of the title of each image of a grid."""
    return [(text.get_text(), str(text.get_color())) for text in figure.axes[0].texts]


def test_the_title_of_a_prediction_is_green_if_correct_and_else_names_the_true_class() -> None:
    figure = classification.predictions(IMAGES, LABELS, PROBABILITIES, NAMES, "a run")
    assert titles(figure) == [
        ("✓ cat, 80 %", GREEN),
        ("✓ dog, 70 %", GREEN),
        ("✗ cat, >99 %\nis ship", ORANGE),
        ("✗ dog, 50 %\nis ship", ORANGE),
        ("✓ ship, 40 %", GREEN),
    ]


def test_a_confusion_matrix_shows_counts_and_row_percentages() -> None:
    figure = classification.confusion_matrix(np.array([[3, 1, 0], [0, 0, 0], [1, 0, 1]]), NAMES, "a run")
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["1\n25.0 %", "1\n50.0 %", "1\n50.0 %", "3\n75.0 %"]


def test_the_bars_of_the_reliability_diagram_add_up_to_the_calibration_error() -> None:
    confidence = np.concatenate([0.5 + RNG.random(500) / 2, [0.6, 0.8, 1.0]])  # also on bin edges
    right = RNG.random(503) < confidence**2
    figure = classification.reliability(confidence, right, 15, 0.0, "a run")
    accuracy, counts = ([bar.get_height() for bar in axis.patches] for axis in figure.axes)
    means = figure.axes[0].lines[1].get_xdata()
    result = sum(count / 503 * abs(bar - mean) for count, bar, mean in zip(counts, accuracy, np.asarray(means), strict=True))
    probabilities = torch.tensor(np.stack([confidence, 1 - confidence], 1))
    reference = multiclass_calibration_error(probabilities, torch.tensor(~right).long(), 2, n_bins=15).item()
    assert result == pytest.approx(reference, abs=1e-6)


def test_the_worst_class_is_first() -> None:
    figure = FIGURES["scores"]()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[::-1] == ["cat", "ship", "dog"]  # the y axis points upwards


def test_feature_maps_show_the_most_active_features() -> None:
    maps = np.zeros((2, 4, 4, 30), np.float32)
    maps[..., [3, 29, 7]] = 1.0
    figure = network.feature_maps(IMAGES[:2], ["a", "b"], maps, "a run")
    labels = [text.get_text() for text in figure.axes[0].texts]
    assert labels[:2] == ["a", "b"]
    shown = [int(text) for text in labels[2:]]
    assert {3, 7, 29} <= set(shown)
    assert shown == sorted(shown)
    assert len(shown) == network.MAX_MAPS


def test_bars_of_a_half_hourly_forecast_are_half_an_hour_wide_and_whole_windows_are_drawn() -> None:
    steps = np.arange(700)[:, None] + np.arange(48)
    time = np.datetime64("2024-03-01", "ns") + steps * np.timedelta64(30, "m")
    values = np.sin(steps / 8)
    figure = forecasting.forecast(time, values, values + 0.1, values, "load", "kWh", "a run")
    above, below = figure.axes
    [bars] = [one for one in below.collections if isinstance(one, PolyCollection)]
    corners = np.array([path.vertices for path in bars.get_paths()])[:, :4]  # [bar, corner, axis]
    widths, heights = np.ptp(corners, axis=1).T
    np.testing.assert_allclose(widths * 48, 1.0, rtol=1e-6)
    np.testing.assert_allclose(heights, 0.1, rtol=1e-6)
    rows = forecasting.consecutive(time)
    assert list(rows) == [699 - 48 * back for back in range(6, -1, -1)]
    assert len(corners) == 7 * 48
    drawn = next(line for line in above.lines if line.get_label() == "forecast").get_ydata()
    np.testing.assert_allclose(np.asarray(drawn).reshape(7, 49)[:, :48], values[rows] + 0.1)


@pytest.mark.parametrize(
    ("frequency", "unit", "horizon"), [(200, "ms", 1), (1, "h", 12), (1, "D", 1), (31, "D", 12), (366, "D", 1)]
)
def test_forecasts_of_any_frequency_have_readable_dates(frequency: int, unit: str, horizon: int) -> None:
    time = np.datetime64("2024-03-01", "ns") + (np.arange(30)[:, None] + np.arange(horizon)) * np.timedelta64(frequency, unit)
    values = RNG.normal(size=time.shape)
    figure = forecasting.forecast(time, values, values, values, "a", "b", "a run")
    figure.draw_without_rendering()
    dates = [label.get_text() for label in figure.axes[1].get_xticklabels() if label.get_text()]
    assert 3 <= len(dates) <= 10
    boxes = [label.get_window_extent() for label in figure.axes[1].get_xticklabels() if label.get_text()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_the_count_axis_has_plain_integer_ticks() -> None:
    for confidence in (np.linspace(0.5, 1, 18), np.concatenate([np.full(5000, 0.99), [0.4, 0.6]])):
        figure = classification.reliability(confidence, confidence > 0.6, 15, 0.1, "a run")
        figure.draw_without_rendering()
        ticks = [label.get_text() for label in figure.axes[1].get_yticklabels() if label.get_text()]
        assert all(tick.replace(",", "").isdigit() for tick in ticks)
        assert len(ticks) >= 2


def test_sequences_are_drawn_without_padding_one_line_a_channel_on_common_axes() -> None:
    figure = classification.samples(SEQUENCES, LABELS, NAMES, "a run")
    axes = [axis for axis in figure.axes if axis.lines]
    assert [[len(line.get_ydata()) for line in axis.lines] for axis in axes] == [[len(one)] * 3 for one in SEQUENCES]
    assert len({(axis.get_xlim(), axis.get_ylim()) for axis in axes}) == 1
    np.testing.assert_array_equal(axes[1].lines[2].get_ydata(), SEQUENCES[1][:, 2])


def test_single_windows_show_lookback_truth_forecast_and_baseline() -> None:
    figure = forecasting.windows(WINDOWS, "load", "kWh", "a run")
    for axis, window in zip(figure.axes, WINDOWS, strict=False):
        truth, baseline, predicted = axis.get_lines()[:3]
        np.testing.assert_array_equal(truth.get_ydata(), np.concatenate([window.past, window.truth]))
        np.testing.assert_array_equal(baseline.get_ydata(), window.baseline)
        np.testing.assert_array_equal(predicted.get_ydata(), window.predicted)
        assert f"mean error {np.abs(window.predicted - window.truth).mean():.3g}" in axis.get_title("left")
    assert not figure.axes[3].axison  # an empty panel
    assert {text.get_text() for legend in figure.legends for text in legend.get_texts()} == {"truth", "seasonal mean", "forecast"}


def test_a_fan_chart_shows_past_truth_forecast_and_nested_bands() -> None:
    figure = intervals.fan_chart(FANS, "load", "kWh", "a run")
    for axis, fan in zip(figure.axes, FANS, strict=False):
        predicted, past, truth = axis.get_lines()[:3]
        np.testing.assert_array_equal(predicted.get_ydata(), [fan.past[-1], *fan.predicted])
        np.testing.assert_array_equal(past.get_ydata(), fan.past)
        np.testing.assert_array_equal(truth.get_ydata(), fan.truth)
        for band, (lower, upper) in zip(axis.collections, fan.bounds.values(), strict=True):
            edge = band.get_paths()[0].vertices[:, 1]
            assert (edge.min(), edge.max()) == (min(fan.past[-1], lower.min()), max(fan.past[-1], upper.max()))


def test_the_calibration_shows_measured_against_stated_coverage() -> None:
    left, right = intervals.calibration(LEVELS, {"t": np.array([0.3, 0.6, 0.7, 0.9])}, {0.8: np.array([0.7, 0.9])}, "a run").axes
    assert left.get_lines()[1].get_xydata().tolist() == [[0, 0], [0.2, 0.3], [0.5, 0.6], [0.8, 0.7], [0.95, 0.9]]
    assert right.get_lines()[0].get_xydata().tolist() == [[1, 0.7], [2, 0.9]]


def test_a_poor_baseline_is_cut_off_and_does_not_flatten_the_forecast() -> None:
    steps = np.arange(1, 6.0)
    axis = forecasting.error_by_step({"forecast": steps, "a": 2 * steps, "drift": 100 * steps}, "kWh", "a run").axes[0]
    assert axis.get_ylim() == (0, 20)
    axis = forecasting.error_by_step({"forecast": steps, "a": 2 * steps}, "kWh", "a run").axes[0]
    assert axis.get_ylim()[1] > 10


def test_the_channels_with_the_largest_errors_are_drawn_the_largest_at_the_top() -> None:
    errors = np.random.default_rng(0).random(100)
    axis = forecasting.error_by_channel({"forecast": errors}, [str(number) for number in range(100)], "a run").axes[0]
    largest = np.argsort(errors)[-forecasting.MAX_CHANNELS :]
    assert [label.get_text() for label in axis.get_yticklabels()] == [str(number) for number in largest]
    np.testing.assert_array_equal(axis.get_lines()[0].get_xdata(), errors[largest])


@pytest.mark.parametrize(
    ("values", "shown"),
    [([0, 8, 16], [0, 127, 255]), ([0, 0, 0], [0, 0, 0]), ([1, 31, 3], [8, 255, 24]), ([0, 1, 32], [0, 1, 32])],
)
def test_images_too_dark_to_see_are_brightened_together(values: list[int], shown: list[int]) -> None:
    images = np.array(values, np.uint8)[:, None, None, None]
    np.testing.assert_array_equal(brightened(images).ravel(), shown)
