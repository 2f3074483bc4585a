"""A model in closed form is trained, measured and repeated like any other."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from reprise.config import Config, compose
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task
from reprise.tracking.weights import load_weights
from reprise.training.fit import CHECKPOINTS, Training, first_steps, fit
from tests.data.conftest import project

__all__ = ["project"]
RIDGE = ["experiment=temperature_lstm", "model=ridge", "task.predict_delta=false", "trainer.threads=1"]


@pytest.fixture
def windows(project: ProjectPaths) -> Windows:
    return prepare(compose(project.root, RIDGE), project, Console(quiet=True))


def test_a_model_in_closed_form_has_one_epoch_with_the_metrics_of_its_weights(project: ProjectPaths, windows: Windows) -> None:
    config = compose(project.root, RIDGE)
    weights, history = fit(config, windows)
    again, _ = fit(config, windows)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    (row,) = history
    task = build_task(config, windows.meta)
    network = build_network(config, windows.meta, task)
    network.load_state_dict(weights)
    val = windows.val().gather(torch.arange(len(windows.val())))
    metrics = task.new_metrics()
    with torch.no_grad():
        metrics.update(task.decode(network(val.inputs), val.inputs), val.targets)
    assert row["val/mae"] == pytest.approx(metrics.compute()["mae"], rel=1e-6)
    assert row["val/mase"] < 1
    assert np.isfinite(row["train/loss"])


def test_its_fingerprints_show_a_change_of_the_solution(project: ProjectPaths, windows: Windows) -> None:
    one, same = (first_steps(compose(project.root, RIDGE), windows, 20, streamed=False) for _ in range(2))
    other = first_steps(compose(project.root, [*RIDGE, "model.levels=[last]"]), windows, 20, streamed=False)
    assert len(one) == 2
    assert one == same != other


MEMBERS = [
    "{_target_:reprise.models.linear.NLinear}",
    "{_target_:reprise.models.ridge_forecaster.RidgeForecaster,segment:1}",
]
MIXED = ["experiment=temperature_lstm", "model=ensemble", "model.weights=null", "task.predict_delta=false", "trainer.threads=1"]
MIXED += ["trainer.max_epochs=2", "trainer.batch_size=256", "checkpoint.steps=3", f"model.members=[{','.join(MEMBERS)}]"]


def mixed(project: ProjectPaths, *overrides: str) -> Config:
    return compose(project.root, [*MIXED, *overrides])


@pytest.mark.parametrize("member", [0, 1])
def test_a_member_of_an_ensemble_is_fitted_as_if_it_were_alone(project: ProjectPaths, windows: Windows, member: int) -> None:
    together, _ = fit(mixed(project, "trainer.max_epochs=1"), windows)
    alone, _ = fit(mixed(project, "trainer.max_epochs=1", f"model.members=[{MEMBERS[member]}]"), windows)
    compared = {name.replace("members.0.", f"members.{member}."): weight for name, weight in alone.items() if "members" in name}
    assert compared
    assert all(torch.equal(weight, together[name]) for name, weight in compared.items())
    assert all(weight.abs().sum() > 0 for weight in compared.values())


def test_a_resumed_ensemble_of_computed_and_trained_members_ends_with_the_same_bits(
    project: ProjectPaths, windows: Windows, tmp_path: Path
) -> None:
    undisturbed = Training(mixed(project), windows).fit(tmp_path)
    weights, checkpoints = load_weights(undisturbed.weights), sorted((tmp_path / CHECKPOINTS).glob("*.pt"))
    assert len(checkpoints) == 2
    for file in checkpoints:
        resumed = Training(mixed(project), windows).fit(tmp_path, file)
        again = load_weights(resumed.weights)
        assert weights.keys() == again.keys()
        assert all(torch.equal(weight, again[name]) for name, weight in weights.items()), file.name
        assert resumed.fingerprints == undisturbed.fingerprints
        assert resumed.chosen == undisturbed.chosen
    assert {name.partition(".")[0] for name in undisturbed.chosen} == {"1"}
    assert undisturbed.fingerprints == first_steps(mixed(project), windows, 20, streamed=False)
