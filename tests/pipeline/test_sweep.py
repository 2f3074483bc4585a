"""Real sweeps: workers, kills, pruning, failures, and their results in MLflow and in conf/."""

import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial, TrialState

from reprise.config import compose
from reprise.config.sweep import read_sweep
from reprise.sweeps import studies
from tests.pipeline.conftest import clone, fork_server, run_in

QUICK = ["window.limit=320", "trainer.threads=1", "tracking.log_model=false", "trainer.batch_size=32"]
BASE_SWEEP = {
    "experiment": "digits_cnn",
    "n_trials": 6,
    "objectives": [{"metric": "val/accuracy", "direction": "maximize"}],
    "sampler": {"kind": "tpe", "startup": 3},
    "overrides": [],
    "space": {
        "optimizer": {"kind": "choice", "values": ["adam", "sgd"]},
        "optimizer.lr": {"kind": "float", "low": 0.0005, "high": 0.02, "log": True},
        "optimizer.momentum": {"kind": "float", "low": 0.1, "high": 0.9, "when": {"optimizer": "sgd"}},
    },
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("sweeps") / "clone")


def sweep(project: Path, *words: str, code: int = 0, **environment: str) -> str:
    done = run_in(project, "reprise", "sweep", *words, **environment)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_sweep(project: Path, name: str, **changes: Any) -> None:
    folder = project / "conf" / "sweep"
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(BASE_SWEEP | changes, sort_keys=False))


def trials(project: Path, name: str) -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=f"sqlite:///{project / 'mlruns' / 'sweeps.db'}").trials


def runs(project: Path, name: str) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(every, f"tags.sweep = '{name}'", order_by=["attributes.start_time ASC"]))


def outcomes(project: Path, name: str) -> list[tuple[TrialState, Any, dict[str, Any]]]:
    return [(trial.state, trial.values, trial.params) for trial in trials(project, name)]


@pytest.fixture(scope="module")
def undisturbed(project: Path) -> list[tuple[TrialState, Any, dict[str, Any]]]:
    write_sweep(project, "base")
    output = sweep(project, "sweep=base", "name=undisturbed", "workers=1", *QUICK)
    assert "sweep  6/6  trial 5: val/accuracy" in output
    return outcomes(project, "undisturbed")


def test_a_sweep_has_a_child_run_per_trial_and_writes_the_best_settings_as_an_experiment(
    project: Path, undisturbed: list[Any]
) -> None:
    parent, *children = runs(project, "undisturbed")
    assert parent.info.status == "FINISHED"
    assert [child.data.tags["mlflow.parentRunId"] for child in children] == [parent.info.run_id] * 6
    assert sorted(int(child.data.tags["trial"]) for child in children) == list(range(6))
    best = max(values[0] for _, values, _ in undisturbed)
    assert parent.data.metrics["best/val/accuracy"] == best
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    drawn = {Path(file.path).name for file in client.list_artifacts(parent.info.run_id, "sweep")}
    assert drawn >= {"trials.csv", "history.png", "slice.png", "parallel.png", "importance.png"}
    written = yaml.safe_load((project / "conf" / "experiment" / "undisturbed_tuned.yaml").read_text())
    (params,) = [params for _, values, params in undisturbed if values[0] == best][:1]
    assert written["optimizer"]["lr"] == params["optimizer.lr"]
    assert {"override /optimizer": params["optimizer"]} in written["defaults"]
    assert not any(key.startswith("test/") for run in [parent, *children] for key in run.data.metrics)


def kill_at_random(project: Path, arguments: list[str], kills: int, longest: float, rng: random.Random) -> int:
    """Start a sweep repeatedly, and kill the driver or its worker after a random time. Return the number of kills."""
    done = 0
    while True:
        driver = fork_server(nested=False).start("sweep", *arguments, folder=project)
        while not driver.has_ended():
            deadline = time.monotonic() + (longest * rng.random() if done < kills else 300)
            while not driver.has_ended() and time.monotonic() < deadline:
                time.sleep(0.01)
            if driver.has_ended():
                break
            assert done < kills, "the sweep does not finish"
            workers = psutil.Process(driver.pid).children(recursive=True)
            done += 1
            if rng.random() < 0.5 and workers:
                workers[0].kill()
            else:
                driver.kill()
                psutil.wait_procs(workers, timeout=60)
        if (code := driver.wait()) != -signal.SIGKILL:
            assert code == 0, driver.output
            return done


def test_a_sweep_killed_at_random_times_ends_with_the_same_trials(project: Path, undisturbed: list[Any]) -> None:
    assert kill_at_random(project, ["sweep=base", "name=killed", "workers=1", *QUICK], 4, 6, random.Random(1)) == 4
    assert outcomes(project, "killed") == undisturbed
    parent, *children = runs(project, "killed")
    assert parent.info.status == "FINISHED"
    finished = [child for child in children if child.info.status == "FINISHED"]
    assert sorted(int(child.data.tags["trial"]) for child in finished) == list(range(6))


def test_waiting_trials_keep_their_config_and_a_sweep_cannot_restart_with_other_settings(project: Path) -> None:
    write_sweep(project, "frozen", n_trials=1, sampler={"kind": "random"})
    file = project / "conf" / "experiment" / "digits_cnn.yaml"
    before = file.read_text()
    words = ["sweep=frozen", "trainer.max_epochs=1", *QUICK]
    studies.create_or_load(read_sweep(project, words), project, project / "mlruns", None)
    file.write_text(before.replace("trainer:", "trainer:\n  patience: 7"))
    output = sweep(project, "sweep=frozen", "resume", "workers=1")
    assert "sweep  frozen: 1 waiting" in output
    (run,) = (run for run in runs(project, "frozen") if "trial" in run.data.tags)
    assert run.data.params["trainer.patience"] == "null"
    assert compose(project, ["experiment=frozen_tuned"]).trainer.patience is None
    output = sweep(project, *words, "n_trials=3", "workers=1", code=2)
    assert "a sweep frozen was started with another n_trials; use name=NEW for a new one" in output
    file.write_text(before)


LEAKY = """
import numpy as np
from pathlib import Path
from torch import nn
from reprise.data.windows import open_windows

class Leaky(nn.Module):
    def __init__(self, input_shape, outputs, peek: str, **others):
        super().__init__()
        self.peek = peek
        self.look("at first")
        self.layer = nn.Linear(int(np.prod(input_shape)), outputs)

    def look(self, now):
        if self.peek == now:
            windows = next(Path("mlruns/windows").glob("*"))
            open_windows(windows, Path("data/processed/digits")).test()

    def forward(self, inputs):
        if self.training:
            self.look("in training")
        return self.layer(inputs.flatten(1))
"""


def test_a_trial_cannot_read_the_test_split(project: Path, undisturbed: list[Any]) -> None:
    (project / "leaky.py").write_text(LEAKY)
    (project / "conf" / "model" / "leaky.yaml").write_text("_target_: leaky.Leaky\npeek: never\n")
    overrides = ["plugins=[leaky]", "model=leaky", "trainer.max_epochs=1", *QUICK]
    for peek, code in (("in training", 0), ("at first", 2)):
        space = {"model.peek": {"kind": "choice", "values": [peek, "never"]}}
        write_sweep(project, "leaky", space=space, sampler={"kind": "grid"}, n_trials=2)
        output = sweep(
            project, "sweep=leaky", f"name={peek.replace(' ', '-')}", "workers=1", *overrides, code=code, PYTHONPATH=str(project)
        )
    assert "space.model.peek: " in output
    assert "the test split is locked in a process that trains" in output
    leaking, valid = trials(project, "in-training")
    assert (leaking.state, valid.state) == (TrialState.FAIL, TrialState.COMPLETE)
    assert "the test split is locked in a process that trains" in leaking.user_attrs["error"]
    assert not (project / "mlruns" / "sweeps" / "at-first").exists()
    _, child, *_ = runs(project, "undisturbed")
    done = run_in(project, "reprise", "evaluate", child.info.run_name)
    assert done.returncode == 2
    assert (
        "is a trial of sweep undisturbed: trials are not evaluated on the test split; train the best as an experiment"
        in done.stderr
    )


@pytest.mark.long
def test_a_trial_fails_alone_with_its_reason_and_too_many_failures_end_the_sweep(project: Path) -> None:
    space = {
        "optimizer.lr": {"kind": "choice", "values": [1e30, 0.1]},
        "model.dense": {"kind": "choice", "values": [[{"units": 16}], [{"units": 10**11}]]},
    }
    write_sweep(project, "failing", space=space, sampler={"kind": "grid"}, n_trials=4)
    words = ["sweep.max_failures=1", "workers=1", "optimizer=sgd", "trainer.max_epochs=1", *QUICK]
    output = sweep(project, "sweep=failing", *words, code=2)
    assert "2 trials of sweep failing failed, the last: " in output
    assert "can't allocate memory" in output.partition("the last: ")[2]
    assert "`reprise sweep sweep=failing resume sweep.max_failures=N` accepts more failures" in output
    sweep(project, "sweep=failing", "resume", "sweep.max_failures=3", "workers=1")
    diverges, *_, fits, too_large = trials(project, "failing")
    assert [trial.state.name for trial in trials(project, "failing")] == ["FAIL", "FAIL", "COMPLETE", "FAIL"]
    assert "training diverged: train/loss is" in diverges.user_attrs["error"]
    assert "can't allocate memory" in too_large.user_attrs["error"]
    tuned = yaml.safe_load((project / "conf" / "experiment" / "failing_tuned.yaml").read_text())
    assert tuned["model"]["dense"] == [{"units": 16}]
    assert fits.params["optimizer.lr"] == tuned["optimizer"]["lr"] == 0.1


def test_a_pruned_trial_stops_after_that_epoch_and_is_tagged(project: Path) -> None:
    space = {"optimizer.lr": {"kind": "choice", "values": [0.003, 0.004, 0.005, 1e-9]}}
    pruner = {"kind": "median", "startup": 2, "warmup": 1}
    write_sweep(project, "pruned", space=space, sampler={"kind": "grid"}, pruner=pruner, n_trials=4)
    sweep(project, "sweep=pruned", "workers=1", "trainer.max_epochs=5", *QUICK)
    *_, last = trials(project, "pruned")
    assert last.state == TrialState.PRUNED
    assert max(last.intermediate_values) == 1
    (run,) = (run for run in runs(project, "pruned") if run.data.tags.get("trial") == "3")
    assert run.data.tags["pruned"] == "after epoch 1"
    assert run.info.status == "KILLED"


GRID = ["sweep=grid", "experiment=digits_cnn", "optimizer.lr=0.001,0.002", "optimizer=adam,sgd", "trainer.max_epochs=1", *QUICK]


@pytest.fixture(scope="module")
def grid(project: Path) -> list[tuple[TrialState, Any, dict[str, Any]]]:
    sweep(project, *GRID, "workers=2")
    return outcomes(project, "grid-digits_cnn")


@pytest.mark.long
@pytest.mark.parametrize("words", [["launcher=ray"], ["launcher=slurm", "launcher.cluster=local"]], ids=["ray", "submitit"])
def test_other_launchers_give_the_same_trials_as_local_processes(project: Path, grid: list[Any], words: list[str]) -> None:
    name = words[0].partition("=")[2]
    sweep(project, *GRID, f"name={name}", "workers=2", *words)
    assert {state for state, _, _ in grid} == {TrialState.COMPLETE}
    assert outcomes(project, name) == grid


@pytest.mark.long
def test_two_workers_share_trials_and_several_objectives_give_a_pareto_front(project: Path) -> None:
    space = {"optimizer.lr": {"kind": "choice", "values": [0.001, 0.003]}}
    objectives = [*BASE_SWEEP["objectives"], {"metric": "parameters", "direction": "minimize"}]  # type: ignore[misc]
    write_sweep(project, "front", space=space, sampler={"kind": "random"}, objectives=objectives, n_trials=4)
    sweep(project, "sweep=front", "workers=2", "sweep.seeds=2", "trainer.max_epochs=1", *QUICK)
    done = trials(project, "front")
    assert [trial.state for trial in done] == [TrialState.COMPLETE] * 4
    assert len({trial.number: trial.params["optimizer.lr"] for trial in done}) > len({str(trial.params) for trial in done})
    assert len({(str(trial.params), str(trial.values)) for trial in done}) == len({str(trial.params) for trial in done})
    seeds = [run for run in runs(project, "front") if run.data.tags.get("trial") == "0"]
    assert sorted(run.data.tags["seed"] for run in seeds) == ["0", "1"]
    (parent,) = (run for run in runs(project, "front") if "trial" not in run.data.tags)
    assert "parameters" in parent.data.tags["best"]


@pytest.fixture(autouse=True)
def _no_process_remains(project: Path) -> Iterator[None]:
    yield
    remaining = [process for process in psutil.process_iter(["cwd", "cmdline"]) if process.info["cwd"] == str(project)]
    began = time.monotonic()
    while any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in remaining):
        assert time.monotonic() - began < 30, remaining
        time.sleep(0.1)
