"""A forecast of the user's own table and a classification of own sequences are killed, reproduced, compared and swept, as images."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import SMALL, runs
from tests.faults.test_kills import KillOutcome, kill_and_restart
from tests.pipeline.conftest import clone, run_in
from tests.pipeline.test_sequences import write_waves

pytestmark = pytest.mark.long
SHORT = ["trainer.max_epochs=3", "trainer.batch_size=16", *SMALL]
FORECAST = ["experiment=forecast_csv", "model=nlinear", "data.path=load.csv", "data.name=load", *SHORT]
SEQUENCES = ["experiment=ucr", "data.path=waves_TRAIN.ts", "data.name=waves", *SHORT]
COMMANDS = {"forecast": FORECAST, "sequences": SEQUENCES}
MONITORS = {"forecast": ("val/mae", "minimize"), "sequences": ("val/accuracy", "maximize")}


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    """A clone with a table, a file of sequences, and a run on each."""
    project = clone(tmp_path_factory.mktemp("own") / "clone")
    hours = np.arange(900)
    noise = np.random.Generator(np.random.PCG64(0)).normal(0, 0.3, len(hours))
    table = {"time": pd.date_range("2024-01-01", periods=len(hours), freq="h"), "load": np.sin(hours * np.pi / 12) + noise}
    pd.DataFrame(table).to_csv(project / "load.csv", index=False)
    write_waves(project / "waves_TRAIN.ts", 60, 0)
    started = CliForkServer(project)
    for name, command in COMMANDS.items():
        for variant in ("a", "b"):
            rate = "optimizer.lr=0.001" if variant == "a" else "optimizer.lr=0.003"
            started.run("train", *command, f"name={name}_{variant}", rate, "seeds=2")
    yield started
    started.end()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_training_ends_with_the_same_bits_in_the_same_run(fork_server: CliForkServer, name: str) -> None:
    outcomes = kill_and_restart(fork_server, ["train", *COMMANDS[name]], 2, random.Random(1))
    assert outcomes == [KillOutcome(same_weights=True, one_run=True, same_points=True)] * 2


@pytest.mark.parametrize("name", COMMANDS)
def test_a_run_is_reproduced_bit_for_bit(fork_server: CliForkServer, name: str) -> None:
    project = fork_server.folder
    run_id = run_of(project, f"{name}_a")
    evaluated = run_in(project, "reprise", "evaluate", run_id)
    assert evaluated.returncode == 0, evaluated.stderr
    assert ", best baseline " in evaluated.stdout
    done = run_in(project, "reprise", "reproduce", run_id)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical: weights bit for bit, every metric exactly" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_experiments_are_compared(fork_server: CliForkServer, name: str) -> None:
    page = fork_server.folder / f"{name}.html"
    done = run_in(fork_server.folder, "reprise", "compare", f"{name}_a", f"{name}_b", "--html", str(page))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}_a" in done.stdout
    assert f"{name}_b" in page.read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sweep_writes_the_best_settings_as_an_experiment(fork_server: CliForkServer, name: str) -> None:
    project, (metric, direction) = fork_server.folder, MONITORS[name]
    experiment, *overrides = COMMANDS[name]
    settings = {
        "experiment": experiment.split("=")[1],
        "n_trials": 2,
        "objectives": [{"metric": metric, "direction": direction}],
        "sampler": {"kind": "tpe", "startup": 2},
        "space": {"optimizer.lr": {"kind": "float", "low": 0.0005, "high": 0.02, "log": True}},
    }
    (project / "conf" / "sweep" / f"{name}.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    done = run_in(project, "reprise", "sweep", f"sweep={name}", "workers=1", *overrides)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"sweep  2/2  trial 1: {metric}" in done.stdout
    tuned = yaml.safe_load((project / "conf" / "experiment" / f"{name}_tuned.yaml").read_text())
    assert 0.0005 <= tuned["optimizer"]["lr"] <= 0.02


def run_of(project: Path, name: str) -> str:
    """Return the id of the run of the first seed of an experiment."""
    found = [run_id for run_id, run in runs(project).items() if run.data.tags["experiment"] == name]
    return min(run_id for run_id in found if runs(project)[run_id].data.params.get("seed") == "0")
