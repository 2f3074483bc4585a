"""The objective of a sweep without one is the metric that selects the epoch."""

from pathlib import Path

import pytest
from rich.console import Console

from reprise.config.sweep import read_sweep
from reprise.data import windows
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.sweeps import preflight
from tests.sweeps.conftest import TREE, read

SERIES = ["sweep=grid", "experiment=temperature_lstm", "optimizer.lr=0.1,0.2"]


@pytest.fixture(autouse=True)
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "_test_split_locked", False)  # the preflight locks the test split for the whole process


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1,0.2"], ("val/accuracy", "maximize")),
        (["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.1,0.2", "task.monitor=ece"], ("val/ece", "minimize")),
        (SERIES, ("val/mae", "minimize")),
        ([*SERIES, "window.targets=[temp_max,wind]"], ("val/mae_scaled", "minimize")),
    ],
)
def test_the_default_objective_is_the_monitored_metric(root: Path, words: list[str], expected: tuple[str, str]) -> None:
    sweep = read_sweep(root, words)
    assert sweep.objectives == []
    (objective,) = preflight.run(sweep, ProjectPaths(root), Console(quiet=True)).objectives
    assert (objective.metric, objective.direction) == expected


def test_a_metric_that_no_training_logs_is_refused_with_the_nearest_one(root: Path) -> None:
    sweep = read(root, TREE | {"objectives": [{"metric": "val/acuracy", "direction": "maximize"}]})
    with pytest.raises(UserError, match=r"^val/acuracy: no training of digits_cnn logs it; the nearest is val/accuracy$"):
        preflight.run(sweep, ProjectPaths(root), Console(quiet=True))
