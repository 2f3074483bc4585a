"""Conformal intervals: margins by hand, and their coverage."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reprise.tasks.conformal import LEVELS, Margins, conformal_margins, conformal_quantile, fewest_windows
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.quantiles import Quantiles
from tests.metas import series_meta

STATISTICS = {"mean": [1.0, -3.0], "std": [2.0, 0.5], "naive_mae": [0.7, 0.4]}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def task(horizon: int = 3, **settings: Any) -> Forecasting:
    return Forecasting(series_meta(["a", "b"], horizon=horizon, statistics=STATISTICS, units=["m", "s"]), **settings)


def calibrated(base: Forecasting, predictions: Tensor, targets: Tensor) -> Forecasting:
    """Return the task calibrated on these predictions of val."""
    keep = base.keep_to_calibrate(len(targets), len(targets))
    return base.calibrated(base.calibrate(keep(predictions, targets, 0)), len(targets))


def test_the_quantile_has_the_correction_for_finite_samples() -> None:
    scores = torch.tensor([3.0, 1.0, 2.0, 4.0, 0.5, 6.0, 7.0, 8.0, 5.0]).reshape(9, 1, 1)
    found = conformal_quantile(scores, 0.8)
    assert found is not None
    assert found.item() == 7.0  # the ceil(10 * 0.8) = 8th smallest of 0.5, 1, 2, 3, 4, 5, 6, 7, 8


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_needs_enough_windows(level: float) -> None:
    fewest = fewest_windows(level)
    assert conformal_quantile(torch.rand(fewest, 1, 1), level) is not None
    assert fewest == 1 or conformal_quantile(torch.rand(fewest - 1, 1, 1), level) is None


def test_each_step_and_channel_has_a_margin_of_its_own() -> None:
    forecast = torch.arange(1.0, 10.0).reshape(9, 1, 1) * torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    margins = Margins(9, conformal_margins([(forecast, forecast)] * len(LEVELS), torch.zeros_like(forecast)))
    assert margins.levels[0.5].tolist() == [[5.0, 50.0], [10.0, 100.0]]
    assert 0.95 not in margins.levels


def test_margins_of_quantiles_are_the_largest_distance_beyond_either_of_them() -> None:
    """Romano et al. 2019, eq. 6: negative where the true value lies between the quantiles."""
    lower, upper = torch.full((9, 1, 1), -1.0), torch.full((9, 1, 1), 2.0)
    true = torch.tensor([0.0, 1.0, 1.9, 2.5, 3.0, -2.0, -1.5, 0.5, 2.2]).reshape(9, 1, 1)
    # scores: -1, -1, -.1, .5, 1, 1, .5, -1.5, .2; the 8th smallest is 1, the 5th .2
    margins = Margins(9, conformal_margins([(lower, upper)] * len(LEVELS), true))
    assert margins.levels[0.8].item() == 1.0
    assert margins.levels[0.5].item() == pytest.approx(0.2)
    assert margins.levels[0.1].item() == -1.5


@settings(max_examples=20, deadline=None)
@given(windows=st.integers(19, 60), level=st.sampled_from(LEVELS), quantiles=st.booleans(), seed=st.integers(0, 999))
def test_exchangeable_values_are_covered_as_often_as_stated(windows: int, level: float, quantiles: bool, seed: int) -> None:
    predictions = normal(windows + 1, 20_000, 1, 3, seed=seed).sort(-1).values  # 20,000 independent repetitions
    true = normal(windows + 1, 20_000, 1, seed=seed + 1000)
    kind = Quantiles((0.1, 0.5, 0.9) if quantiles else ())
    lower, upper = kind.bounds(predictions if quantiles else predictions[..., 1], level)
    score = conformal_quantile(torch.maximum(lower - true, true - upper)[:windows], level)
    assert score is not None
    covered = ((lower[windows] - score <= true[windows]) & (true[windows] <= upper[windows] + score)).double().mean().item()
    assert level - 0.015 <= covered <= level + 1 / (windows + 1) + 0.015  # 4 standard errors


def test_coverage_and_width_on_test_follow_their_definitions() -> None:
    forecast, true = normal(50, 3, 2), normal(50, 3, 2, seed=1)
    error = (forecast - true).abs().float().double()  # predictions of val are kept in float32
    metrics = calibrated(task(), forecast, true).new_metrics()
    forecast, true = normal(40, 3, 2, seed=2), normal(40, 3, 2, seed=3)
    metrics.update(forecast, true)
    found = metrics.compute()
    for percent, rank in ((80, 41), (95, 49)):  # ceil(51 * 0.8), ceil(51 * 0.95)
        half = error.sort(dim=0).values[rank - 1]
        inside = ((forecast - true).abs() <= half).double()
        assert found[f"coverage_{percent}"] == pytest.approx(inside.mean().item())
        assert found[f"width_{percent}_scaled"] == pytest.approx(2 * half.mean().item(), rel=1e-5)
        for channel, (name, std) in enumerate((("a", 2.0), ("b", 0.5))):
            assert found[f"coverage_{percent}/{name}"] == pytest.approx(inside[..., channel].mean().item())
            assert found[f"width_{percent}/{name}"] == pytest.approx(2 * std * half[:, channel].mean().item(), rel=1e-5)
    assert f"width_{percent}" not in found  # of several units


@settings(max_examples=10, deadline=None)
@given(st.sampled_from([1, 7, 32, 512]), st.booleans(), st.integers(0, 99))
def test_metrics_of_intervals_do_not_depend_on_the_batch_size(size: int, quantiles: bool, seed: int) -> None:
    base = task(quantiles=[0.1, 0.25, 0.5, 0.75, 0.9] if quantiles else None)
    shape = (90, *base.output_shape)
    prepared = calibrated(base, normal(*shape, seed=seed).sort(-1).values, normal(90, 3, 2, seed=seed + 1))
    predictions, true = normal(*shape, seed=seed + 2).sort(-1).values, normal(90, 3, 2, seed=seed + 3)
    whole, parts = prepared.new_metrics(), prepared.new_metrics()
    whole.update(predictions, true)
    for batch, targets in zip(torch.split(predictions, size), torch.split(true, size), strict=True):
        parts.update(batch, targets)
        parts.load_state_dict(parts.state_dict())  # flushes: each batch is added by itself
    assert {"coverage_80", "width_95_scaled", "wql", "wql/b"} <= whole.compute().keys()
    assert parts.compute() == whole.compute()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 50), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_the_calibration_does_not_depend_on_the_batch_size(windows: int, size: int, most: int, seed: int) -> None:
    base = task()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reprise.tasks.forecasting.MAX_WINDOWS", most)
        keep, rows = base.keep_to_calibrate(windows, size), base.calibration_windows(windows).rows
    forecast, true = normal(windows, 3, 2, seed=seed), normal(windows, 3, 2, seed=seed + 1)
    batches = enumerate(zip(torch.split(forecast, size), torch.split(true, size), strict=True))
    kept = torch.cat([keep(*batch, number) for number, batch in batches])
    assert len(kept) == len(rows) <= most
    alone = base.calibrate(torch.stack([forecast[rows], true[rows]], dim=1).float())
    torch.testing.assert_close(base.calibrate(kept), alone, rtol=0, atol=0, equal_nan=True)


def test_a_val_split_too_short_for_an_interval_says_so() -> None:
    prepared = calibrated(task(), normal(10, 3, 2), normal(10, 3, 2, seed=1))
    reason = "val has 10 windows; the interval needs 19"
    assert prepared.undefined == {"coverage_95": reason, "width_95": reason}
    assert prepared.units == task().units | {"width_80/a": "m", "width_80/b": "s"}
    metrics = prepared.new_metrics()
    metrics.update(normal(5, 3, 2), normal(5, 3, 2))
    assert "coverage_80" in metrics.compute()
    assert "coverage_95" not in metrics.compute()


def test_missing_values_count_in_no_metric_of_intervals() -> None:
    prepared = calibrated(task(), normal(30, 3, 2), normal(30, 3, 2, seed=1))
    forecast, true = normal(20, 3, 2, seed=2), normal(20, 3, 2, seed=3)
    true[::3, 1, 0] = true[5:, :, 1] = torch.nan
    metrics = prepared.new_metrics()
    metrics.update(forecast, true)
    found = metrics.compute()
    assert prepared.margins is not None
    inside, known = (forecast - true).abs() <= prepared.margins.levels[0.8], ~true.isnan()
    for channel, name in enumerate("ab"):
        assert found[f"coverage_80/{name}"] == pytest.approx(inside[..., channel].sum().item() / known[..., channel].sum().item())
    only = prepared.new_metrics()
    only.update(forecast[:5], true[:5].nan_to_num(nan=0.0))
    assert found["wql/b"] == pytest.approx(only.compute()["wql/b"])  # the other values of b are missing


def test_a_task_that_is_not_calibrated_is_not_changed_by_a_calibrated_copy() -> None:
    base = task()
    calibrated(base, normal(30, 3, 2), normal(30, 3, 2, seed=1))
    metrics = base.new_metrics()
    metrics.update(normal(5, 3, 2), normal(5, 3, 2))
    assert not [name for name in metrics.compute() if name.startswith(("coverage", "width", "wql"))]
