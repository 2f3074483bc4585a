"""A recursive forecast is that of its network, applied repeatedly to its own forecasts."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.errors import UserError
from reprise.training.closed_form import is_closed_form

LINEAR = {"_target_": "reprise.models.linear.Linear"}
RIDGE = {"_target_": "reprise.models.ridge_forecaster.RidgeForecaster", "levels": ["last"], "alphas": [1e-6]}


def recursive(horizon: int, channels: int, network: dict[str, Any], **settings: Any) -> Any:
    node = Target.model_validate({"_target_": "reprise.models.recursive.Recursive", "network": network, **settings})
    offered = {"target_positions": list(range(channels)), "season": 4}
    return build(node, "model", [], offered=offered, input_shape=[8, channels], outputs=horizon * channels)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 20))
def test_forecasts_are_the_newest_steps_of_the_next_input(horizon: int, channels: int, steps: int) -> None:
    if steps > horizon:
        with pytest.raises(UserError, match="steps"):
            recursive(horizon, channels, LINEAR, steps=steps)
        return
    model = recursive(horizon, channels, LINEAR, steps=steps)
    series = torch.randn(5, 8, channels)
    found = model(series).unflatten(1, (horizon, channels))
    while series.shape[1] < 8 + horizon:
        series = torch.cat([series, model.network(series[:, -8:]).unflatten(1, (steps, channels))], dim=1)
    torch.testing.assert_close(found, series[:, 8 : 8 + horizon])


def test_a_computed_recursion_continues_a_linear_recurrence() -> None:
    """A sine obeys `x[t + 1] = 2 cos(w) x[t] - x[t - 1]`, so ridge regression for one step forecasts all steps."""
    series = torch.from_numpy(np.sin(0.4 * np.arange(80, dtype=np.float32)))[:, None]
    rows = series.unfold(0, 8 + 12, 1).transpose(1, 2)
    batches = [(rows[:, :8], rows[:, 8:])]
    model = recursive(12, 1, RIDGE)
    assert is_closed_form(model)
    model.fit(batches, batches)
    torch.testing.assert_close(model(rows[:, :8]).unflatten(1, (12, 1)), rows[:, 8:], atol=2e-3, rtol=0)


def test_channels_that_are_not_forecast_are_refused() -> None:
    node = Target.model_validate({"_target_": "reprise.models.recursive.Recursive", "network": LINEAR})
    with pytest.raises(UserError, match="must be the same"):
        build(node, "model", [], offered={"target_positions": [1]}, input_shape=[8, 3], outputs=4)


def test_an_ensemble_inside_is_refused() -> None:
    with pytest.raises(UserError, match="ensemble of recursive members"):
        recursive(4, 1, {"_target_": "reprise.models.ensemble.Ensemble", "members": [LINEAR]})
