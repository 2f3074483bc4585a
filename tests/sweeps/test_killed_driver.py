"""A sweep whose driver is killed: its run is recovered, and resumed by the next command."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.cli_fork_server import user_environment
from tests.pipeline.conftest import make_project, run_in
from tests.sweeps.conftest import TREE

WORDS = [
    "sweep=mine",
    "workers=1",
    "n_trials=1",
    "trainer.max_epochs=30",
    "window.limit=320",
    "trainer.threads=1",
    "tracking.log_model=false",
]


def parent(project: Path) -> Run | None:
    if not (project / "mlruns" / "mlflow.db").is_file():
        return None
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return next(iter(client.search_runs(every, "tags.group = 'sweep'")), None)


def kill_with_workers(driver: subprocess.Popen[bytes]) -> None:
    workers = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=60)


@pytest.mark.long
def test_the_run_of_a_killed_sweep_is_marked_as_failed_and_resumed(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    (project / "conf" / "sweep" / "mine.yaml").write_text(yaml.safe_dump(TREE, sort_keys=False))
    driver = subprocess.Popen([sys.executable, "-m", "reprise", "sweep", *WORDS], cwd=project, env=user_environment())
    while not ((run := parent(project)) and "sweep" in run.data.tags):
        assert driver.poll() is None
        time.sleep(0.1)
    assert "nothing waits" in run_in(project, "reprise", "sync").stdout  # its driver lives, and delivers by itself
    kill_with_workers(driver)
    output = run_in(project, "reprise", "sync").stdout
    assert "sweep-mine: its process died; marked as FAILED" in output
    assert output.count("sweep-mine: delivered") == 1
    assert run_in(project, "reprise", "sync").stdout == "sync  nothing to send\n"
    failed = parent(project)
    assert failed
    assert (failed.info.status, failed.data.tags["error"]) == ("FAILED", "its process died")
    resumed = run_in(project, "reprise", "sweep", "sweep=mine", "resume", "workers=1")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    finished = parent(project)
    assert finished
    assert (finished.info.run_id, finished.info.status) == (failed.info.run_id, "FINISHED")
    assert "error" not in finished.data.tags
