"""A model in closed form is trained, measured and repeated like any other."""

import numpy as np
import pytest
import torch
from rich.console import Console

from reprise.config import compose
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task
from reprise.training.fit import first_steps, fit
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
