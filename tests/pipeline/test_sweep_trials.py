"""Real trials: with several seeds, pruned, stopped, killed between seeds, shared by two projects."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from mlflow.entities import Run
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

from tests.cli_fork_server import Child, user_environment
from tests.pipeline.conftest import clone, fork_server
from tests.pipeline.test_sweep import QUICK, runs, sweep, trials, write_sweep

LR = {"kind": "choice", "values": [0.003]}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone(tmp_path_factory.mktemp("trials") / "clone")


def children(project: Path, name: str) -> list[Run]:
    return [run for run in runs(project, name) if "trial" in run.data.tags]


def wait_for(driver: Child, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert not driver.has_ended(), driver.output
        assert time.monotonic() < deadline
        time.sleep(0.05)


def finished(project: Path, name: str) -> list[str]:
    return [run.info.run_id for run in children(project, name) if run.info.status == "FINISHED"]


@pytest.mark.long
def test_seeds_that_were_trained_before_a_kill_are_not_trained_again(project: Path) -> None:
    write_sweep(project, "seeds", space={"optimizer.lr": LR}, sampler={"kind": "grid"}, n_trials=1, seeds=3)
    words = ["sweep=seeds", "workers=1", "trainer.max_epochs=15", *QUICK]
    driver = fork_server(nested=False).start("sweep", *words, folder=project)
    wait_for(driver, lambda: (project / "mlruns" / "mlflow.db").is_file() and finished(project, "seeds"))
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    psutil.wait_procs(workers, timeout=60)
    first = finished(project, "seeds")
    assert len(first) < 3
    sweep(project, *words)
    assert set(first) < set(finished(project, "seeds"))
    assert sorted(run.data.tags["seed"] for run in children(project, "seeds")) == ["0", "1", "2"]
    assert trials(project, "seeds")[0].state == TrialState.COMPLETE


@pytest.mark.long
def test_a_trial_that_is_stopped_repeatedly_finishes(project: Path) -> None:
    write_sweep(project, "stopped", space={"optimizer.lr": LR}, sampler={"kind": "grid"}, n_trials=1)
    words = ["sweep=stopped", "workers=1", "trainer.max_epochs=60", *QUICK]
    for turn in range(4):
        driver = fork_server(nested=False).start("sweep", *words, folder=project)
        wait_for(driver, lambda turn=turn: _epochs_reported(project, "stopped") > 5 * turn)
        driver.kill(signal.SIGINT)
        assert driver.wait() == 128 + signal.SIGINT
    sweep(project, *words)
    (trial,) = trials(project, "stopped")
    assert trial.state == TrialState.COMPLETE
    assert max(trial.intermediate_values) == 60
    assert len(children(project, "stopped")) == 1


@pytest.mark.long  # with the median pruner also in test_a_pruned_trial_stops_after_that_epoch_and_is_tagged
@pytest.mark.parametrize("kind", ["median", "asha", "hyperband", "wilcoxon"])
def test_every_pruner_prunes_a_poor_trial_and_tags_each_of_its_seeds(project: Path, kind: str) -> None:
    space = {"optimizer.lr": {"kind": "choice", "values": [0.003, 0.004, 1e-9]}}
    pruner = {"kind": kind, "warmup": 3 if kind == "median" else 1, "startup": 1}
    write_sweep(project, kind, space=space, sampler={"kind": "grid"}, pruner=pruner, n_trials=3, seeds=5)
    sweep(project, f"sweep={kind}", "workers=1", "trainer.max_epochs=2", *QUICK)
    good, *_, last = trials(project, kind)
    assert (good.state, last.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    pruned = [run for run in children(project, kind) if run.data.tags["trial"] == "2"]
    assert len(pruned) == {"median": 2, "asha": 1, "hyperband": 1, "wilcoxon": 4}[kind]
    assert len({run.data.tags["pruned"] for run in pruned}) == 1
    assert all("Pruned after" in run.data.tags["mlflow.note.content"] for run in pruned)


@pytest.mark.long
def test_two_projects_share_the_trials_of_one_database(project: Path, tmp_path: Path) -> None:
    other = clone(tmp_path / "other")
    words = ["sweep=shared", f"storage=sqlite:///{tmp_path}/sweeps.db", "workers=1", "trainer.max_epochs=8", *QUICK]
    for folder in (project, other):
        write_sweep(folder, "shared", sampler={"kind": "random"}, n_trials=8)
    command = [sys.executable, "-m", "reprise", "sweep", *words]
    drivers = [
        subprocess.Popen(command, cwd=folder, env=user_environment(), stdout=subprocess.DEVNULL) for folder in (project, other)
    ]
    assert [driver.wait(timeout=200) for driver in drivers] == [0, 0]
    first, second = ([run.data.tags["trial"] for run in children(folder, "shared")] for folder in (project, other))
    assert sorted([*first, *second], key=int) == [str(number) for number in range(8)]
    assert first
    assert second


def test_unknown_metrics_and_keys_are_refused_before_the_first_trial(project: Path) -> None:
    write_sweep(project, "typo", objectives=[{"metric": "val/acuracy", "direction": "maximize"}])
    output = sweep(project, "sweep=typo", *QUICK, code=2)
    assert "val/acuracy: no training of digits_cnn logs it; the nearest is val/accuracy" in output
    write_sweep(project, "typo", space={"+optimizer.momentumm": {"kind": "float", "low": 0.1, "high": 0.9}})
    output = sweep(project, "sweep=typo", *QUICK, code=2)
    assert "space.+optimizer.momentumm: " in output
    write_sweep(project, "typo")
    output = sweep(project, "sweep=typo", "+optimizer.momentumm=1", *QUICK, code=2)
    assert "optimizer.momentumm: no such key; the nearest is" in output
    assert not (project / "mlruns" / "sweeps" / "typo").exists()


def _epochs_reported(project: Path, name: str) -> int:
    """Return the most epochs that a trial of the sweep has reported; 0 before the sweep starts."""
    if not (project / "mlruns" / "sweeps.db").is_file():
        return 0
    with contextlib.suppress(KeyError, OperationalError):  # its tables are being created
        return max((max(trial.intermediate_values, default=0) for trial in trials(project, name)), default=0)
    return 0
