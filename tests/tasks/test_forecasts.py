"""Naive forecasts against their definitions and published figures, sMAPE, and errors by step and channel."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from reprise.config import compose
from reprise.data import store
from reprise.data.windows import Windows, open_windows
from reprise.project_paths import ProjectPaths
from reprise.stages import download, preprocess, window
from reprise.stages.evaluate import Metrics, _of_baseline
from reprise.tasks.forecast_metrics import MAX_NAMED_TARGETS, ForecastMetrics, errors_by_step
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.naive_forecasts import NaiveForecasts
from tests.metas import series_meta
from tests.training.conftest import compute_metrics

ROOT = Path(__file__).resolve().parents[2]
Values = npt.NDArray[np.float64]
MEAN, STD = np.array([1.0, -2.0]), np.array([2.0, 0.5])


def series(folder: Path, values: Values, test: list[int], **changes: Any) -> Windows:
    """Windows of a series of two channels whose test windows start at the given rows."""
    statistics = {"mean": MEAN.tolist(), "std": STD.tolist(), "naive_mae": [1.0, 1.0]}
    with store.publish(folder / "arrays") as draft:
        store.write_array(draft / "values.npy", values)
    meta = series_meta(["a", "b"], statistics=statistics, **changes)
    with store.publish(folder / "windows") as draft:
        store.write_array(draft / "test.npy", np.array(test, np.int64))
        store.write_json(draft / "windows.json", meta.model_copy(update={"arrays": store.digest(folder / "arrays")}).model_dump())
    return open_windows(folder / "windows", folder / "arrays")


def by_definition(name: str, values: Values, first: int, step: int, lookback: int, season: int) -> Values:
    """The forecast of step `step` after row `first - 1`, from the rows before `first` alone."""
    known, row = values[:first], first + step
    window = range(first - lookback, first)
    if name == "repeat_last":
        return known[-1]
    if name == "seasonal_naive":
        return known[max(back for back in range(row - season, -1, -season) if back < first)]
    if name == "seasonal_mean":
        return known[[back for back in window if (row - back) % season == 0]].mean(axis=0)
    slope = (known[-1] - known[first - lookback]) / (lookback - 1)
    return known[-1] + slope * (step + 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 7), st.integers(0, 2**31))
def test_naive_forecasts_follow_their_definitions(
    tmp_path_factory: pytest.TempPathFactory, lookback: int, horizon: int, season: int, seed: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(60, 2))
    starts = [20, 21, 23, 30]
    changes = {"lookback": lookback, "horizon": horizon, "season": season}
    naive = NaiveForecasts(series(tmp_path_factory.mktemp("naive"), values, starts, **changes))
    present = {
        "repeat_last": True,
        "seasonal_naive": season > 1,  # else it would be repeat_last
        "seasonal_mean": lookback >= season,
        "drift": lookback > 1,
    }
    expected = {name for name, applies in present.items() if applies}
    assert set(naive.names) == expected
    for name in naive.names:
        for rows in ([0, 1, 2, 3], [3], [2, 0]):
            found = naive.of(name, torch.tensor(rows)).numpy() * STD + MEAN
            by_hand = [
                [by_definition(name, values, starts[row] + lookback, step, lookback, season) for step in range(horizon)]
                for row in rows
            ]
            np.testing.assert_allclose(found, by_hand, atol=1e-12)


def test_a_seasonal_naive_forecast_that_starts_before_the_series_is_left_out(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    assert "seasonal_naive" in NaiveForecasts(series(tmp_path / "one", values, [2], lookback=5, season=7)).names
    assert "seasonal_naive" not in NaiveForecasts(series(tmp_path / "two", values, [1], lookback=5, season=7)).names


def test_naive_forecasts_read_only_the_rows_before_the_forecast(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 2))
    before = NaiveForecasts(series(tmp_path / "one", values, [20], lookback=9, horizon=5, season=3))
    values[29:] = np.nan
    after = NaiveForecasts(series(tmp_path / "two", values, [20], lookback=9, horizon=5, season=3))
    for name in before.names:
        assert torch.equal(before.of(name, torch.tensor([0])), after.of(name, torch.tensor([0])))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 20), st.integers(1, 5))
def test_smape_agrees_with_its_definition(seed: int, count: int, horizon: int) -> None:
    generator = np.random.default_rng(seed)
    forecast, true = generator.normal(scale=3, size=(2, count, horizon, 2))
    metrics = ForecastMetrics(["a", "b"], MEAN.tolist(), STD.tolist(), [1.0, 1.0])
    metrics.update(*(torch.from_numpy((values - MEAN) / STD) for values in (forecast, true)))
    expected = 2 * np.abs(forecast - true) / (np.abs(forecast) + np.abs(true))
    found = metrics.compute()
    assert found["smape"] == pytest.approx(expected.mean())
    assert [found[f"smape/{name}"] for name in "ab"] == pytest.approx(expected.mean(axis=(0, 1)))


@pytest.mark.parametrize("mean", [0.0, 0.3, -7.1])
def test_smape_of_zeros_is_zero_for_an_exact_forecast_and_two_for_any_other(mean: float) -> None:
    """Rain: the truth, stored in float32, is not exactly 0 once it is back in units."""
    true = ((torch.zeros(1, 2, 1, dtype=torch.float64) - mean) / 1.7).float()
    for forecast, expected in ((0.0, 0.0), (0.5, 2.0)):
        metrics = ForecastMetrics(["rain"], [mean], [1.7], [1.0])
        metrics.update((torch.full_like(true, forecast).double() - mean) / 1.7, true)
        assert metrics.compute()["smape"] == pytest.approx(expected, abs=1e-5)


def test_scaled_errors_are_means_over_all_windows_steps_and_targets() -> None:
    predictions, truth = torch.randn(2, 11, 6, 3, generator=torch.Generator().manual_seed(0))
    metrics = ForecastMetrics(["a", "b", "c"], [1.0, 2.0, 3.0], [10.0, 0.1, 1.0], [1.0, 1.0, 1.0])
    metrics.update(predictions, truth)
    found = metrics.compute()
    assert found["mse_scaled"] == pytest.approx((predictions - truth).double().square().mean().item())
    assert found["mae_scaled"] == pytest.approx((predictions - truth).double().abs().mean().item())


@pytest.mark.parametrize("count", [MAX_NAMED_TARGETS, MAX_NAMED_TARGETS + 1, 321])
def test_many_targets_have_pooled_metrics_only(count: int) -> None:
    task = Forecasting(series_meta([f"t{number}" for number in range(count)], units=["m"] * count))
    found = compute_metrics(task, torch.ones(2, 1, count), torch.zeros(2, 1, count))
    pooled = {"loss", "mae_scaled", "mse_scaled", "mase", "smape"}
    assert pooled <= found.keys()
    assert (found.keys() == pooled) == (count > MAX_NAMED_TARGETS)
    assert bool(task.units) == (count <= MAX_NAMED_TARGETS)
    assert task.monitor == "mae_scaled"


def test_undefined_metrics_of_many_targets_are_named_in_one_reason() -> None:
    count = MAX_NAMED_TARGETS + 1
    statistics = {"mean": [0.0] * count, "std": [1.0] * count, "naive_mae": [0.0, 0.0, *[1.0] * (count - 2)]}
    task = Forecasting(series_meta([f"t{number}" for number in range(count)], statistics=statistics))
    assert task.undefined == {"mase": "t0, t1: constant in the training split"}
    assert "mase" not in compute_metrics(task, torch.ones(2, 1, count), torch.zeros(2, 1, count))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(1, 5))
def test_errors_by_step_are_the_metrics_of_that_step_alone(seed: int, count: int, horizon: int) -> None:
    predictions, truth = torch.randn(2, count, horizon, 2, generator=torch.Generator().manual_seed(seed))
    empty = ForecastMetrics(["a", "b"], [0.5, 1.0], [2.0, 3.0], [1.0, 0.0])
    found = errors_by_step(empty, predictions, truth)
    assert int(empty.count) == 0
    assert len(found) == horizon
    for step, by_target in enumerate(found):
        alone = ForecastMetrics(["a", "b"], [0.5, 1.0], [2.0, 3.0], [1.0, 0.0])
        alone.update(predictions[:, [step]], truth[:, [step]])
        assert by_target == alone.by_target()
    assert {"mase", "mae_scaled", "mse_scaled"}.isdisjoint(found[0][1])  # of a target that is constant in the training split


PUBLISHED = {
    96: {"repeat_last": (1.294, 0.713), "seasonal_naive": (0.512, 0.433), "seasonal_mean": (0.404, 0.407)},
    192: {"repeat_last": (1.325, 0.733), "seasonal_naive": (0.581, 0.469), "seasonal_mean": (0.423, 0.418)},
    336: {"repeat_last": (1.330, 0.746), "seasonal_naive": (0.650, 0.501), "seasonal_mean": (0.425, 0.421)},
    720: {"repeat_last": (1.335, 0.755), "seasonal_naive": (0.655, 0.514), "seasonal_mean": (0.424, 0.437)},
}
"""ETTh1, MSE and MAE of standardised values at each horizon, computed from the published protocol by another program."""


@pytest.mark.long
@pytest.mark.skipif("REPRISE_MIRROR" not in os.environ, reason="needs ETTh1.csv: set REPRISE_MIRROR")
@pytest.mark.parametrize("horizon", PUBLISHED)
def test_baselines_of_etth1_have_the_errors_of_the_published_protocol(tmp_path: Path, horizon: int) -> None:
    paths, quiet = ProjectPaths(tmp_path), Console(quiet=True)
    config = compose(ROOT, ["experiment=etth1_96_nlinear", f"window.horizon={horizon}"])
    download.run(config.data, paths, quiet)
    preprocess.run(config.data, paths, quiet)
    windows = open_windows(window.run(config, paths, quiet), paths.processed("etth1"))
    task, test = Forecasting(windows.meta), windows.test()
    assert len(test) == {96: 2785, 192: 2689, 336: 2545, 720: 2161}[horizon]
    errors: dict[str, Metrics] = {name: _of_baseline(one, task, test) for name, one in task.baselines(windows).items()}
    for name, (mse, mae) in PUBLISHED[horizon].items():
        assert errors[name]["mse_scaled"] == pytest.approx(mse, abs=0.002)
        assert errors[name]["mae_scaled"] == pytest.approx(mae, abs=0.002)
