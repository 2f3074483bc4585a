"""Quantile forecasts: pinball loss and weighted quantile loss by hand, and order of the quantiles."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.tasks.forecasting import Forecasting
from reprise.tasks.quantiles import Quantiles, pinball
from tests.metas import series_meta
from tests.tasks.test_conformal import calibrated, normal, task
from tests.training.conftest import compute_metrics

LEVELS = [0.1, 0.5, 0.9]


def test_pinball_loss_by_hand() -> None:
    predictions = torch.tensor([[1.0, 3.0, 6.0], [0.0, 2.0, 4.0]])
    found = pinball(predictions, torch.tensor([4.0, -1.0]), LEVELS)
    # true 4: .1 * 3, .5 * 1, .1 * 2; true -1: .9 * 1, .5 * 3, .1 * 5
    assert found.tolist() == pytest.approx([(0.3 + 0.5 + 0.2) / 3, (0.9 + 1.5 + 0.5) / 3])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.floats(0.05, 0.95))
def test_the_pinball_loss_of_a_sample_is_least_at_its_quantile(seed: int, level: float) -> None:
    sample = normal(500, seed=seed)
    candidates = torch.linspace(-3, 3, 601, dtype=torch.float64)
    losses = pinball(candidates[:, None].expand(-1, 500)[..., None], sample.expand(601, -1), [level]).mean(1)
    best, quantile = candidates[losses.argmin()], torch.quantile(sample, level)
    assert pinball(quantile.expand(500, 1), sample, [level]).mean() <= losses.min() + 1e-3
    assert abs(best - quantile) < 0.1


def test_wql_by_hand() -> None:
    """Twice the sum of the losses divided by the sum of absolute values, mean over quantiles; values are 10 + 2 * scaled."""
    meta = series_meta(["y"], horizon=2, statistics={"mean": [10.0], "std": [2.0], "naive_mae": [1.0]})
    predictions = torch.tensor([[[[-1.0, 0.0, 2.0]], [[0.0, 1.0, 1.5]]]])  # in units 8, 10, 14 and 10, 12, 13
    found = compute_metrics(Forecasting(meta, quantiles=LEVELS), predictions, torch.tensor([[[0.5], [-1.0]]]))  # 11 and 8
    losses = {0.1: 0.1 * 3 + 0.9 * 2, 0.5: 0.5 * 1 + 0.5 * 4, 0.9: 0.1 * 3 + 0.1 * 5}
    assert found["wql"] == pytest.approx(sum(2 * loss / (11 + 8) for loss in losses.values()) / 3)
    assert found["mae"] == pytest.approx((1 + 4) / 2)  # of the median
    assert found["loss"] == pytest.approx(sum(losses.values()) / 2 / 2 / 3)  # of standardised values


def test_wql_of_a_point_forecast_takes_the_deciles_of_its_intervals() -> None:
    forecast, true = normal(30, 3, 2), normal(30, 3, 2, seed=1)
    prepared = calibrated(task(), forecast, true)
    margins = prepared.margins
    assert margins is not None
    forecast, true = normal(20, 3, 2, seed=2), normal(20, 3, 2, seed=3)
    found = compute_metrics(prepared, forecast, true)
    total = 0.0
    for level in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
        coverage = round(abs(2 * level - 1), 1)
        offset = margins.levels[coverage] if coverage else torch.zeros(3, 2)
        above = (
            2.0 * (true - forecast - (offset if level > 0.5 else -offset))[..., 0]
        )  # channel a has standard deviation 2, mean 1
        total += 2 * torch.where(above > 0, level * above, (level - 1) * above).sum().item()
    assert found["wql/a"] == pytest.approx(total / 9 / (2 * true[..., 0] + 1).abs().sum().item())
    assert found["wql"] == pytest.approx((found["wql/a"] + found["wql/b"]) / 2)


def test_decoded_quantiles_are_in_order_and_relative_to_the_last_value() -> None:
    predictor = task(horizon=2, quantiles=LEVELS)
    inputs = normal(5, 4, 2)
    outputs = normal(5, 12, seed=1)
    found = predictor.decode(outputs, inputs)
    assert found.shape == (5, 2, 2, 3)
    assert bool((found.diff(dim=-1) >= 0).all())
    torch.testing.assert_close(found, (outputs.reshape(5, 2, 2, 3) + inputs[:, -1:, :, None]).sort(-1).values)
    torch.testing.assert_close(predictor.postprocess(found), predictor.in_units(found[..., 1]))


def test_an_interval_starts_from_the_widest_pair_of_quantiles_within_it() -> None:
    quantiles = Quantiles((0.05, 0.1, 0.25, 0.5, 0.75, 0.9))  # 0.05 has no counterpart
    predictions = torch.arange(6.0).reshape(1, 1, 1, 6)
    for coverage, expected in ((0.2, (3, 3)), (0.5, (2, 4)), (0.7, (2, 4)), (0.8, (1, 5)), (0.95, (1, 5))):
        assert tuple(bound.item() for bound in quantiles.bounds(predictions, coverage)) == expected


@given(st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_wider_interval_contains_a_narrower_one_of_the_same_quantiles(seed: int) -> None:
    base = task(quantiles=[0.1, 0.5, 0.9])
    predictions, true = normal(60, 3, 2, 3, seed=seed).sort(-1).values, normal(60, 3, 2, seed=seed + 1)
    margins = calibrated(base, predictions, true).margins
    assert margins is not None
    assert bool((margins.levels[0.8] <= margins.levels[0.9]).all())
    assert bool((margins.levels[0.9] <= margins.levels[0.95]).all())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quantiles": [0.9, 0.5]}, "increasing numbers between 0 and 1"),
        ({"quantiles": [0.0, 0.5]}, "increasing numbers between 0 and 1"),
        ({"quantiles": [0.1, 0.9]}, "needs 0.5, the point forecast"),
        ({"quantiles": LEVELS, "loss": "mae"}, "quantiles have the pinball loss"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task(**settings)
