"""An ensemble is the weighted mean of its members."""

from typing import Any

import pytest
import torch

from reprise.config.sections import Target
from reprise.config.targets import build
from reprise.errors import UserError
from reprise.models.closed_form import ClosedForm
from reprise.models.ensemble import ClosedFormEnsemble, Ensemble

LINEAR = {"_target_": "reprise.models.linear.Linear"}
RIDGE = {"_target_": "reprise.models.ridge_forecaster.RidgeForecaster"}


def ensemble(kind: str, members: list[dict[str, Any]], **settings: Any) -> Any:
    node = Target.model_validate({"_target_": f"reprise.models.ensemble.{kind}", "members": members, **settings})
    offered = {"output_shape": [2, 3], "target_positions": [0, 1, 2], "season": 4}
    return build(node, "model", [], offered=offered, input_shape=[8, 3], outputs=6)


def test_an_ensemble_is_the_weighted_mean_of_its_members() -> None:
    torch.manual_seed(0)
    made = ensemble("Ensemble", [LINEAR, LINEAR], weights=[3.0, 1.0])
    assert isinstance(made, Ensemble)
    assert not isinstance(made, ClosedForm)
    inputs = torch.randn(5, 8, 3)
    one, other = (member(inputs) for member in made.members)
    torch.testing.assert_close(made(inputs), 0.75 * one + 0.25 * other)


def test_members_in_closed_form_are_each_computed_as_if_alone() -> None:
    series = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).cumsum(0)
    windows = series.unfold(0, 10, 1).transpose(1, 2)
    batches = [(windows[:, :8], windows[:, 8:])]
    made = ensemble("ClosedFormEnsemble", [RIDGE, {**RIDGE, "levels": ["lookback"]}])
    assert isinstance(made, ClosedFormEnsemble)
    assert isinstance(made, ClosedForm)
    made.fit(batches, batches)
    alone = ensemble("ClosedFormEnsemble", [RIDGE])
    alone.fit(batches, batches)
    torch.testing.assert_close(made.members[0](windows[:, :8]), alone(windows[:, :8]))
    assert {name.partition(".")[0] for name in made.chosen} == {"0", "1"}


@pytest.mark.parametrize(
    ("kind", "members", "settings", "message"),
    [
        ("Ensemble", [], {}, "model.members: name at least one network"),
        ("Ensemble", [LINEAR], {"weights": [1.0, 1.0]}, "model.weights"),
        ("Ensemble", [LINEAR, LINEAR], {"weights": [1.0, 0.0]}, "model.weights"),
        ("ClosedFormEnsemble", [RIDGE, LINEAR], {}, "model.members.1: Linear is not in closed form"),
        ("Ensemble", [{"_target_": "torch.load"}], {}, "model.members.0._target_=torch.load: not on the allowlist"),
        ("Ensemble", [{**LINEAR, "with": 3}], {}, "model.members.0.with: no such key"),
    ],
)
def test_an_invalid_ensemble_is_refused_in_one_line(
    kind: str, members: list[dict[str, Any]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as refused:
        ensemble(kind, members, **settings)
    assert str(refused.value).startswith(message)
