"""Closed-form ridge regression against scikit-learn, brute force, and values computed by hand.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeClassifierCV, RidgeCV
from torch import Tensor, nn

from reprise.models import ridge_forecaster
from reprise.models.closed_form import ClosedForm
from reprise.models.ridge import solve_leave_one_out, solve_moments
from reprise.models.ridge_classifier import RidgeClassifier
from reprise.models.ridge_forecaster import RidgeForecaster

ALPHAS = [0.01, 0.1, 1.0, 10.0, 100.0]


class Batch(NamedTuple):
    inputs: Tensor
    targets: Tensor
    lengths: Tensor | None = None


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def regression(samples: int, features: int, targets: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(samples, features, dtype=torch.float64) + 1
    return inputs, inputs @ torch.randn(features, targets, dtype=torch.float64) + 3 * torch.randn(samples, targets) + 2


def test_moments_give_the_ridge_regression_with_the_smallest_error_on_val() -> None:
    inputs, targets = regression(60, 8, 3)
    train, val = torch.cat([inputs, targets], dim=1).split([40, 20])
    solution = solve_moments(train.T @ train, val.T @ val, 8, torch.tensor(ALPHAS, dtype=torch.float64))
    errors = {}
    for alpha in ALPHAS:
        reference = Ridge(alpha=alpha, fit_intercept=False).fit(train[:, :8], train[:, 8:])
        errors[alpha] = float(np.square(reference.predict(val[:, :8]) - val[:, 8:].numpy()).sum())
        if alpha == solution.alpha:
            np.testing.assert_allclose(solution.weights, reference.coef_.T, rtol=1e-9)
    assert solution.alpha == min(errors, key=errors.__getitem__)
    assert solution.error == pytest.approx(errors[solution.alpha], rel=1e-9)


@pytest.mark.parametrize(("samples", "features"), [(40, 8), (12, 30), (9, 9)])
def test_leave_one_out_is_that_of_scikit_learn(samples: int, features: int) -> None:
    inputs, targets = regression(samples, features, 2)
    solution = solve_leave_one_out(inputs, targets, torch.tensor(ALPHAS, dtype=torch.float64))
    reference = RidgeCV(alphas=ALPHAS).fit(inputs, targets)
    assert solution.alpha == reference.alpha_
    np.testing.assert_allclose(solution.weights, reference.coef_.T, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(solution.intercept, reference.intercept_, rtol=1e-6)
    for left_out in range(samples):
        kept = [row for row in range(samples) if row != left_out]
        fitted = Ridge(alpha=solution.alpha).fit(inputs[kept], targets[kept])
        np.testing.assert_allclose(solution.predictions[left_out], fitted.predict(inputs[[left_out]])[0], rtol=1e-6, atol=1e-8)


def series_batches(count: int, lookback: int, horizon: int, channels: int, size: int) -> list[Batch]:
    """Windows of random walks with a season of 6 steps, in batches of `size`."""
    time = torch.arange(count + lookback + horizon - 1)
    walk = torch.randn(len(time), channels).cumsum(0) * 0.1 + torch.sin(2 * torch.pi * time / 6)[:, None]
    windows = walk.unfold(0, lookback + horizon, 1).transpose(1, 2)
    return [Batch(part[:, :lookback].contiguous(), part[:, lookback:].contiguous()) for part in windows.split(size)]


def levelled(batches: list[Batch], steps: int, lookback: int) -> tuple[Tensor, Tensor, Tensor]:
    """All channels of all windows as rows: lookback and targets without the mean of the last `steps`, and that mean."""
    past = torch.cat([batch.inputs.transpose(1, 2).flatten(0, 1) for batch in batches]).double()
    future = torch.cat([batch.targets.transpose(1, 2).flatten(0, 1) for batch in batches]).double()
    level = past[:, -steps:].mean(1, keepdim=True)
    return past[:, -lookback:] - level, future - level, level


@pytest.mark.parametrize(("level", "steps"), [("last", 1), ("season", 6), ("seven_seasons", 20), ("lookback", 12)])
def test_a_map_between_steps_is_ridge_regression_on_windows(level: ridge_forecaster.Level, steps: int) -> None:
    batches = series_batches(60, 20, 5, 2, size=16)
    network = RidgeForecaster([20, 2], 10, segment=1, season=6, lookbacks=[12], levels=[level], alphas=[0.3])
    network.fit(batches, batches)
    past, future, levels = levelled(batches, steps, 12)
    scale = past.square().sum().item() / 12
    reference = Ridge(alpha=0.3 * scale, fit_intercept=False, solver="cholesky").fit(past, future)
    expected = torch.tensor(reference.predict(past)) + levels  # [B * Y, S]
    outputs = torch.cat([network(batch.inputs) for batch in batches])
    torch.testing.assert_close(outputs.double(), expected.unflatten(0, (-1, 2)).transpose(1, 2).flatten(1), rtol=1e-4, atol=1e-4)
    assert network.chosen == {f"lookback 12, level {level}": network.chosen[f"lookback 12, level {level}"]}


@pytest.mark.parametrize(("segment", "lookback", "horizon"), [(1, 14, 9), (3, 12, 9), (2, 16, 5), (6, 18, 12), (6, 18, 4)])
def test_the_seasonal_mean_of_each_phase_is_subtracted_and_added_back(segment: int, lookback: int, horizon: int) -> None:
    batches = series_batches(50, 20, horizon, 2, size=50)
    network = RidgeForecaster(
        [20, 2], 2 * horizon, season=6, segment=segment, lookbacks=[lookback], levels=["seasonal_mean"], alphas=[0.3]
    )
    network.fit(batches, batches)
    past, future, last = levelled(batches, 1, lookback)
    steps = torch.arange(lookback + horizon)
    means = torch.stack([past[:, steps[:lookback] % 6 == step % 6].mean(1) for step in steps], dim=1)
    past, future = past - means[:, :lookback], future - means[:, lookback:]
    inputs = past.unflatten(1, (-1, segment)).transpose(1, 2)  # [rows, phase of the segment, past segment]
    expected = means[:, lookback:] + last
    for start in range(0, horizon, segment):
        within = min(segment, horizon - start)
        rows, targets = inputs[:, :within].flatten(0, 1), future[:, start : start + within].flatten()
        alpha = 0.3 * rows.square().sum().item() / rows.shape[1]
        reference = Ridge(alpha=alpha, fit_intercept=False, solver="cholesky").fit(rows, targets)
        expected[:, start : start + within] += torch.tensor(reference.predict(rows)).unflatten(0, (-1, within))
    outputs = network(batches[0].inputs).unflatten(1, (horizon, 2)).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=1e-4)


def test_a_season_of_one_step_has_the_mean_of_the_lookback_as_its_seasonal_mean() -> None:
    batches = series_batches(40, 12, 3, 1, size=40)
    outputs = []
    for level in ("seasonal_mean", "lookback"):
        network = RidgeForecaster([12, 1], 3, season=1, levels=[level])  # type: ignore[list-item]
        network.fit(batches, batches)
        outputs.append(network(batches[0].inputs))
    assert torch.equal(*outputs)


def test_a_temperature_gives_alphas_with_small_errors_on_val_the_largest_weights() -> None:
    train, val = series_batches(60, 12, 4, 2, size=60), series_batches(30, 12, 4, 2, size=30)
    options: dict[str, Any] = {"segment": 1, "levels": ["lookback"]}
    outputs, errors = [], []
    for alpha in ALPHAS:
        network = RidgeForecaster([12, 2], 8, alphas=[alpha], **options)
        network.fit(train, val)
        outputs.append(network(val[0].inputs))
        errors.append((outputs[-1] - val[0].targets.flatten(1)).square().mean())
    shares = torch.exp(-(torch.stack(errors) / min(errors) - 1) / 0.1)
    mixed = RidgeForecaster([12, 2], 8, alphas=ALPHAS, temperature=0.1, **options)
    mixed.fit(train, val)
    expected = torch.stack(outputs, dim=-1) @ (shares / shares.sum())
    torch.testing.assert_close(mixed(val[0].inputs), expected, rtol=1e-4, atol=1e-4)
    (chosen,) = mixed.chosen.values()
    assert str(chosen).endswith(f"val MSE {(expected - val[0].targets.flatten(1)).square().mean():.4g}")


def test_fractions_of_the_lookback_are_rounded_and_at_least_the_shortest_possible() -> None:
    network = RidgeForecaster([20, 1], 4, season=6, levels=["seasonal_mean"], lookbacks=[0.1, 0.52, 1.0, 20])
    assert network.lookbacks == [6, 10, 20]


@pytest.mark.parametrize("horizon", [12, 9, 4])
def test_a_map_across_seasons_is_ridge_regression_shared_by_all_phases(horizon: int) -> None:
    """A last season that the horizon cuts is fitted on the phases within the horizon."""
    batches = series_batches(50, 26, horizon, 2, size=50)
    network = RidgeForecaster([26, 2], 2 * horizon, season=6, levels=["last"], alphas=[0.3])
    network.fit(batches, batches)
    past, future, levels = levelled(batches, 1, 24)  # four whole seasons
    phases = past.unflatten(1, (4, 6)).transpose(1, 2)  # [rows, phase, past season]
    expected = torch.zeros(len(past), horizon, dtype=torch.float64)
    for season in range(-(-horizon // 6)):
        steps = list(range(season * 6, min(horizon, season * 6 + 6)))
        within = 6 if (season + 1) * 6 <= horizon else horizon % 6
        inputs = phases[:, :within].flatten(0, 1)
        targets = future[:, steps].flatten()
        reference = Ridge(alpha=0.3 * inputs.square().sum().item() / 4, fit_intercept=False, solver="cholesky").fit(
            inputs, targets
        )
        expected[:, steps] = torch.tensor(reference.predict(inputs)).unflatten(0, (-1, within)) + levels
    outputs = network(batches[0].inputs).unflatten(1, (horizon, 2)).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(outputs.double(), expected, rtol=1e-4, atol=1e-4)


def test_the_best_candidate_on_val_is_used_and_reported_with_its_error() -> None:
    train, val = series_batches(80, 20, 5, 2, size=32), series_batches(30, 20, 5, 2, size=30)
    options = {"season": 6, "alphas": [0.01, 1.0]}
    errors = {}
    for lookback in (12, 20):
        for level in ("last", "season", "lookback"):
            network = RidgeForecaster([20, 2], 10, segment=1, lookbacks=[lookback], levels=[level], **options)  # type: ignore[arg-type, list-item]
            network.fit(train, val)
            errors[f"lookback {lookback}, level {level}"] = (
                (network(val[0].inputs) - val[0].targets.flatten(1)).square().mean().item()
            )
    best = RidgeForecaster([20, 2], 10, segment=1, lookbacks=[12, 20], levels=["last", "season", "lookback"], **options)  # type: ignore[arg-type]
    best.fit(train, val)
    name = min(errors, key=errors.__getitem__)
    assert list(best.chosen) == [name]
    assert str(best.chosen[name]).endswith(f"val MSE {errors[name]:.4g}")


def test_the_mean_of_the_candidates_is_the_mean_of_their_forecasts() -> None:
    batches = series_batches(80, 20, 5, 2, size=32)
    outputs = []
    for level in ("last", "season"):
        network = RidgeForecaster([20, 2], 10, segment=1, season=6, levels=[level])  # type: ignore[list-item]
        network.fit(batches, batches)
        outputs.append(network(batches[0].inputs))
    mean = RidgeForecaster([20, 2], 10, segment=1, season=6, levels=["last", "season"], combine="mean")
    mean.fit(batches, batches)
    torch.testing.assert_close(mean(batches[0].inputs), (outputs[0] + outputs[1]) / 2, rtol=1e-4, atol=1e-5)
    assert len(mean.chosen) == 2


def test_levels_over_equally_many_steps_are_one_candidate() -> None:
    network = RidgeForecaster([6, 1], 2, segment=1, season=7, combine="mean")
    batches = series_batches(30, 6, 2, 1, size=30)
    network.fit(batches, batches)
    assert list(network.chosen) == ["lookback 6, level last", "lookback 6, level season"]


@pytest.mark.parametrize("segment", [None, 1, 4])
def test_the_size_of_the_batches_does_not_change_the_weights(segment: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = series_batches(60, 20, 9, 2, size=60)
    parts = [Batch(*(tensor.contiguous() for tensor in pair)) for pair in zip(*(t.split(7) for t in whole[0][:2]), strict=True)]
    networks = [RidgeForecaster([20, 2], 18, season=6, segment=segment) for _ in range(2)]
    networks[0].fit(whole, whole)
    monkeypatch.setattr(ridge_forecaster, "SERIES_AT_ONCE", 100)  # three series at a time
    networks[1].fit(parts, parts)
    torch.testing.assert_close(networks[0].weights, networks[1].weights)
    torch.testing.assert_close(networks[0].level_weights, networks[1].level_weights)


def test_a_level_added_to_the_window_is_added_to_the_forecast() -> None:
    batches = series_batches(60, 20, 5, 2, size=60)
    network = RidgeForecaster([20, 2], 10, segment=1, season=6, combine="mean")
    network.fit(batches, batches)
    torch.testing.assert_close(network(batches[0].inputs + 5), network(batches[0].inputs) + 5, rtol=1e-4, atol=1e-4)


def test_only_target_channels_are_read_and_fitted() -> None:
    batches = series_batches(60, 20, 5, 3, size=60)
    own = [Batch(batch.inputs, batch.targets[..., [2, 0]]) for batch in batches]
    alone = [Batch(batch.inputs[..., [2, 0]], batch.targets[..., [2, 0]]) for batch in batches]
    network, reference = RidgeForecaster([20, 3], 10, [2, 0], segment=1), RidgeForecaster([20, 2], 10, segment=1)
    network.fit(own, own)
    reference.fit(alone, alone)
    torch.testing.assert_close(network(own[0].inputs), reference(alone[0].inputs))


def test_a_constant_series_is_continued() -> None:
    batches = [Batch(torch.full((4, 10, 1), 3.0), torch.full((4, 2, 1), 3.0))]
    network = RidgeForecaster([10, 1], 2, season=5)
    network.fit(batches, batches)
    torch.testing.assert_close(network(batches[0].inputs), torch.full((4, 2), 3.0))


def test_weights_are_buffers_that_a_new_network_loads() -> None:
    batches = series_batches(60, 20, 5, 2, size=60)
    fitted, fresh = (RidgeForecaster([20, 2], 10, season=6) for _ in range(2))
    assert isinstance(fitted, ClosedForm)
    assert not fresh(batches[0].inputs).any()
    fitted.fit(batches, batches)
    fresh.load_state_dict(fitted.state_dict())
    assert torch.equal(fresh(batches[0].inputs), fitted(batches[0].inputs))


@pytest.mark.parametrize("classes", [2, 3])
def test_classification_of_values_is_that_of_scikit_learn(classes: int) -> None:
    targets = torch.arange(60) % classes
    inputs = torch.randn(60, 5, 2) + 0.7 * nn.functional.one_hot(targets, 10).view(60, 5, 2)
    network = RidgeClassifier([5, 2], classes, features=["values"], alphas=ALPHAS)
    network.fit([Batch(inputs[:40], targets[:40]), Batch(inputs[40:], targets[40:])], [])
    flat = inputs.flatten(1).double()
    scaled = (flat - flat.mean(0)) / flat.std(0, correction=0)
    reference = RidgeClassifierCV(alphas=ALPHAS).fit(scaled, targets)
    assert network.chosen["alpha"] == reference.alpha_
    decisions = torch.tensor(reference.decision_function(scaled))
    outputs = network(inputs).double()
    if classes == 2:
        decisions = torch.stack([-decisions, decisions], dim=1)
    factor = (outputs / decisions).median()
    torch.testing.assert_close(outputs, factor * decisions, rtol=1e-3, atol=1e-4)
    assert (outputs.argmax(1).numpy() == reference.predict(scaled)).all()


def test_the_probabilities_are_calibrated_by_leave_one_out() -> None:
    """Inputs without information: the best forecast is the share of the classes, and its entropy is nearly reached."""
    targets = (torch.arange(400) % 4 == 0).long()
    network = RidgeClassifier([3, 1], 2, features=["values"])
    network.fit([Batch(torch.randn(400, 3, 1), targets)], [])
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert network.chosen["leave-one-out cross-entropy"] == pytest.approx(entropy, abs=0.01)
    assert network.chosen["leave-one-out accuracy"] == 0.75
    probabilities = network(torch.randn(200, 3, 1)).softmax(1)
    assert probabilities[:, 1].mean().item() == pytest.approx(0.25, abs=0.05)


def test_a_constant_value_is_ignored() -> None:
    inputs, targets = torch.randn(20, 4, 1), torch.arange(20) % 2
    inputs[:, 1] = 5
    network = RidgeClassifier([4, 1], 2, features=["values"])
    network.fit([Batch(inputs, targets)], [])
    changed = inputs.clone()
    changed[:, 1] = -3
    assert torch.equal(network(inputs), network(changed))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: RidgeForecaster([8, 1], 4, segment=1, lookbacks=[9]),
            "lookbacks=[9]: each must be from 1 to the window's lookback of 8",
        ),
        (
            lambda: RidgeForecaster([8, 1], 4, segment=1, lookbacks=[]),
            "lookbacks=[]: each must be from 1 to the window's lookback of 8",
        ),
        (
            lambda: RidgeForecaster([8, 1], 4, season=3, lookbacks=[2]),
            "lookbacks=[2]: each must be from 3 to the window's lookback of 8",
        ),
        (
            lambda: RidgeForecaster([8, 1], 4, season=9),
            "season=9: must be at least 1 and at most the lookback of 8 steps",
        ),
        (
            lambda: RidgeForecaster([8, 1], 4, segment=9),
            "segment=9: must be at least 1 and at most the lookback of 8 steps",
        ),
        (lambda: RidgeForecaster([8, 1], 4, segment=1, season=0), "season=0: must be at least 1"),
        (
            lambda: RidgeForecaster([8, 1], 4, season=3, segment=1, lookbacks=[2], levels=["seasonal_mean"]),
            "lookbacks=[2]: each must be from 3 to the window's lookback of 8",
        ),
        (
            lambda: RidgeForecaster([8, 1], 4, season=3, segment=2, levels=["seasonal_mean"]),
            "segment=2: must divide the season of 3 steps for the level seasonal_mean",
        ),
        (lambda: RidgeForecaster([8, 1], 4, season=3, temperature=-1), "temperature=-1: must be at least 0"),
        (lambda: RidgeForecaster([8, 1], 4, segment=1, levels=[]), "levels=[]: needs one or more different levels"),
        (lambda: RidgeForecaster([8, 1], 4, segment=1, alphas=[0.0]), "alphas=[0.0]: needs one or more values above 0"),
        (lambda: RidgeClassifier([8, 1], 2, features=[]), "features=[]: needs one or more different kinds"),
        (lambda: RidgeClassifier([20, 1], 2, alphas=[]), "alphas=[]: needs one or more values above 0"),
        (lambda: RidgeClassifier([9, 1], 2, features=["hydra"]), "reads sequences of at least 10 steps, not 9"),
    ],
)
def test_an_argument_that_does_not_fit_is_named(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
