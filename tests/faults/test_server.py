"""A tracking server that dies: training goes on, and nothing of what it said is lost or said twice."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, history
from tests.pipeline.conftest import make_project
from tests.tracking.server import Server

SECRET = "hunter2-do-not-tell"
LONG = [*CNN, "trainer.max_epochs=40"]
"""Some seconds, so that the server can die in the middle."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("server"))
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    started = CliForkServer(make_project(tmp_path_factory.mktemp("project") / "project"), MLFLOW_HTTP_REQUEST_MAX_RETRIES="0")
    yield started
    started.end()


def known(server: Server) -> dict[str, Run]:
    client = MlflowClient(server.address)
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id: run for run in client.search_runs(every)}


def whole(server: Server, run: Run) -> tuple[object, ...]:
    """What the server holds of a run, but for what is another in every run."""
    client = MlflowClient(server.address)
    files = {file.path for file in client.list_artifacts(run.info.run_id, "lineage")}
    tags = {key for key in run.data.tags if not key.startswith("mlflow.")}
    return run.info.status, history(client, run), run.data.params, files, tags


def test_a_server_dead_at_any_time_holds_in_the_end_what_a_run_without_fault_holds(
    fork_server: CliForkServer, server: Server
) -> None:
    uri = f"tracking.uri={server.address}"
    fork_server.run(*LONG, uri)
    ((_, undisturbed),) = known(server).items()
    wanted = whole(server, undisturbed)
    assert len(wanted[1]["val/accuracy"]) == 40  # type: ignore[index, call-overload]

    server.stop(signal.SIGKILL)  # dead from start to end
    before = {undisturbed.info.run_id}
    child = fork_server.run(*LONG, uri)
    assert "the training continues, `reprise sync` delivers its run later" in child.output
    assert "wait in" in child.output
    assert fork_server.start("sync").wait() == 2
    server.start()
    fork_server.run("sync")
    ((late, run),) = (item for item in known(server).items() if item[0] not in before)
    assert whole(server, run) == wanted

    before.add(late)
    child = fork_server.start(*LONG, uri)  # dies in the middle, and comes back for the next start
    while not list(fork_server.folder.glob("mlruns/runs/*/checkpoints/*.pt")):
        time.sleep(0.05)
    server.stop(signal.SIGKILL)
    assert child.wait() == 0
    assert "entries of run" in child.output
    server.start()
    child = fork_server.run(*LONG, uri)  # the next start delivers it
    assert "delivered" in child.output
    new = [run for run_id, run in known(server).items() if run_id not in before]
    assert len(new) == 2
    assert [whole(server, run) == wanted for run in new] == [True, True]
    assert not list(fork_server.folder.glob("mlruns/outbox/*"))


def test_a_server_that_hangs_keeps_no_stopped_training_waiting(fork_server: CliForkServer, server: Server) -> None:
    before = set(known(server))
    child = fork_server.start(*LONG, "trainer.max_epochs=4000", f"tracking.uri={server.address}")
    while not list(fork_server.folder.glob("mlruns/runs/*/checkpoints/*.pt")):
        time.sleep(0.05)
    server.pause()
    time.sleep(3)  # a delivery is under way, and gets no answer
    child.kill(signal.SIGTERM)
    asked = time.monotonic()
    assert child.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - asked < 10  # as promised
    assert "the store did not answer within" in child.output
    server.unpause()
    fork_server.run("sync")
    (new,) = (run for run_id, run in known(server).items() if run_id not in before)
    assert new.info.status == "KILLED"


def test_no_password_of_an_address_is_told_or_kept(fork_server: CliForkServer) -> None:
    child = fork_server.start(*CNN, MLFLOW_TRACKING_URI=f"http://me:{SECRET}@127.0.0.1:9")
    assert child.wait() == 0
    assert "127.0.0.1:9" in child.output
    assert SECRET not in child.output
    run_dirs: list[Path] = [file for file in fork_server.folder.rglob("*") if file.is_file() and "mlflow.db" not in file.name]
    assert not [file for file in run_dirs if SECRET.encode() in file.read_bytes()]
