"""An ensemble is the weighted mean of its members."""

from typing import Any

import pytest
import torch

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.errors import UserError
from reprise.models.closed_form import is_closed_form
from reprise.models.ensemble import Ensemble, shrunk_weights
from reprise.models.penalized import SeparateLosses
from reprise.models.seasonal_mean import SeasonalMean

LINEAR = {"_target_": "reprise.models.linear.Linear"}
RIDGE = {"_target_": "reprise.models.ridge_forecaster.RidgeForecaster"}
SEASONAL_MEAN = {"_target_": "reprise.models.seasonal_mean.SeasonalMean"}


def ensemble(members: list[dict[str, Any]], **settings: Any) -> Any:
    node = Target.model_validate({"_target_": "reprise.models.ensemble.Ensemble", "members": members, **settings})
    offered = {"output_shape": [2, 3], "target_positions": [0, 1, 2], "season": 4}
    return build(node, "model", [], offered=offered, input_shape=[8, 3], outputs=6)


def test_an_ensemble_is_the_weighted_mean_of_its_members() -> None:
    torch.manual_seed(0)
    made = ensemble([LINEAR, LINEAR], weights=[3.0, 1.0])
    assert isinstance(made, Ensemble)
    inputs = torch.randn(5, 8, 3)
    one, other = (member(inputs) for member in made.members)
    torch.testing.assert_close(made(inputs), 0.75 * one + 0.25 * other)


def windows() -> tuple[torch.Tensor, list[tuple[torch.Tensor, torch.Tensor]]]:
    series = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    rows = series.unfold(0, 10, 1).transpose(1, 2)
    return rows[:, :8], [(rows[:, :8], rows[:, 8:])]


def test_members_in_closed_form_are_each_computed_as_if_alone() -> None:
    inputs, batches = windows()
    made = ensemble([RIDGE, {**RIDGE, "levels": ["lookback"]}])
    assert is_closed_form(made)
    made.fit(batches, batches)
    alone = ensemble([RIDGE])
    alone.fit(batches, batches)
    torch.testing.assert_close(made.members[0](inputs), alone(inputs))
    assert {name.partition(".")[0] for name in made.chosen} == {"0", "1"}


def test_only_members_with_parameters_are_trained_by_steps() -> None:
    inputs, batches = windows()
    made = ensemble([RIDGE, LINEAR, SEASONAL_MEAN])
    assert isinstance(made, SeparateLosses)
    assert not is_closed_form(made)
    made.fit(batches, batches)
    made.train()(inputs)
    (trained,) = made.member_outputs()
    torch.testing.assert_close(trained, made.members[1](inputs))
    made.eval()(inputs)
    assert made.member_outputs() == []


def test_fitted_weights_minimise_the_error_on_val_shrunk_towards_equal_ones() -> None:
    """By hand, for two members with errors of 1 and 2 that are independent: `w = (4 + p) / (5 + 2 p)` with `p = 2.5 * shrinkage`."""
    errors = torch.tensor([[1.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    for shrinkage in (1e-9, 0.4, 1e9):
        penalty = shrinkage * 2.5
        first = (4 + penalty) / (5 + 2 * penalty)
        assert shrunk_weights(errors, shrinkage).tolist() == pytest.approx([first, 1 - first])
    correlated = torch.tensor([[1.0, 1.9], [1.9, 4.0]], dtype=torch.float64)  # without the limit, the second would be negative
    assert shrunk_weights(correlated, 1e-9).tolist() == pytest.approx([1.0, 0.0])


def test_an_ensemble_fits_its_weights_on_val_and_leaves_missing_targets_out() -> None:
    inputs, batches = windows()
    targets = batches[0][1].clone()
    targets[::2, 0] = torch.nan
    made = ensemble([RIDGE, SEASONAL_MEAN], weights="fitted", shrinkage=0.2)
    made.fit(batches, [(inputs, targets)])
    errors = torch.stack([(member(inputs) - targets.flatten(1)).nan_to_num().flatten() for member in made.members]).double()
    expected = shrunk_weights(errors @ errors.T, 0.2)
    torch.testing.assert_close(made.shares.double(), expected, rtol=1e-6, atol=1e-6)
    assert expected[0] > expected[1]
    with pytest.raises(UserError, match="for forecasts only"):
        ensemble([SEASONAL_MEAN], weights="fitted").fit(batches, [(inputs, torch.zeros(len(inputs), dtype=torch.int64))])


def test_the_seasonal_mean_is_the_mean_by_phase() -> None:
    """Season 4, so step 8 has the phase of 0 and 4: lookback 8 holds both, lookback 6 only step 4 and both of 2 and 6."""
    inputs = torch.tensor([1.0, 2.0, 4.0, 8.0, 3.0, 6.0, 10.0, 0.0]).reshape(1, 8, 1)
    forecast = [2.0, 4.0, 7.0, 4.0, 2.0]
    assert SeasonalMean([8, 1], 5, season=4)(inputs).tolist() == [forecast]
    shorter = [3.0, 6.0, 7.0, 4.0, 3.0]
    assert SeasonalMean([8, 1], 5, season=4, lookbacks=[6])(inputs).tolist() == [shorter]
    both = [(one + other) / 2 for one, other in zip(forecast, shorter, strict=True)]
    assert SeasonalMean([8, 1], 5, season=4, lookbacks=[0.75, 1.0])(inputs).tolist() == [both]
    assert SeasonalMean([8, 1], 2, season=4)(inputs).tolist() == [forecast[:2]]


def test_a_season_longer_than_the_lookback_is_refused() -> None:
    with pytest.raises(ValueError, match="season=9: must be at most the lookback of 8 steps"):
        SeasonalMean([8, 1], 5, season=9)


@pytest.mark.parametrize(
    ("members", "settings", "message"),
    [
        ([], {}, "model.members: name at least one network"),
        ([LINEAR], {"weights": [1.0, 1.0]}, "model.weights"),
        ([LINEAR, LINEAR], {"weights": [1.0, 0.0]}, "model.weights"),
        ([RIDGE, LINEAR], {"weights": "fitted"}, "model.weights=fitted: needs members that are all in closed form"),
        ([RIDGE], {"weights": "fitted", "shrinkage": 0.0}, "model.shrinkage=0.0: must be above 0"),
        ([{"_target_": "torch.load"}], {}, "model.members.0._target_=torch.load: not on the allowlist"),
        ([{**LINEAR, "with": 3}], {}, "model.members.0.with: no such key"),
    ],
)
def test_an_invalid_ensemble_is_refused_in_one_line(
    members: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        ensemble(members, **settings)
    assert str(refused.value).startswith(message)
