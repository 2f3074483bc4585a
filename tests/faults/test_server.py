"""A tracking server that dies: training continues, and no entry is lost or logged twice."""

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
"""Takes some seconds, so that the server can die during the training."""


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


def runs_on(server: Server) -> dict[str, Run]:
    client = MlflowClient(server.address)
    every = [experiment.experiment_id for experiment in client.search_experiments()]
    return {run.info.run_id: run for run in client.search_runs(every)}


def content_of(server: Server, run: Run) -> tuple[object, ...]:
    """Return what the server stores of a run, without what differs from run to run."""
    client = MlflowClient(server.address)
    files = {file.path for file in client.list_artifacts(run.info.run_id, "lineage")}
    tags = {key for key in run.data.tags if not key.startswith("mlflow.")}
    return run.info.status, history(client, run), run.data.params, files, tags


def test_a_run_is_complete_on_the_server_whenever_the_server_was_down(fork_server: CliForkServer, server: Server) -> None:
    uri = f"tracking.uri={server.address}"
    fork_server.run(*LONG, uri)
    ((_, undisturbed),) = runs_on(server).items()
    expected = content_of(server, undisturbed)
    assert len(expected[1]["val/accuracy"]) == 40  # type: ignore[index, call-overload]

    server.stop(signal.SIGKILL)  # down from start to end
    before = {undisturbed.info.run_id}
    child = fork_server.run(*LONG, uri)
    assert "the training continues, `reprise sync` sends its run later" in child.output
    assert "wait in" in child.output
    assert fork_server.start("sync").wait() == 2
    server.start()
    fork_server.run("sync")
    ((delayed, run),) = (item for item in runs_on(server).items() if item[0] not in before)
    assert content_of(server, run) == expected

    before.add(delayed)
    child = fork_server.start(*LONG, uri)  # dies during the training, and is back before the next start
    while not list(fork_server.folder.glob("mlruns/runs/*/checkpoints/*.pt")):
        time.sleep(0.05)
    server.stop(signal.SIGKILL)
    assert child.wait() == 0
    assert "entries of run" in child.output
    server.start()
    child = fork_server.run(*LONG, uri)  # the next start sends the rest
    assert "delivered" in child.output
    new = [run for run_id, run in runs_on(server).items() if run_id not in before]
    assert len(new) == 2
    assert [content_of(server, run) == expected for run in new] == [True, True]
    assert not list(fork_server.folder.glob("mlruns/outbox/*"))


def test_a_stopped_training_does_not_wait_for_a_hanging_server(fork_server: CliForkServer, server: Server) -> None:
    before = set(runs_on(server))
    child = fork_server.start(*LONG, "trainer.max_epochs=4000", f"tracking.uri={server.address}")
    while not list(fork_server.folder.glob("mlruns/runs/*/checkpoints/*.pt")):
        time.sleep(0.05)
    server.pause()
    time.sleep(3)  # a request is in progress, and gets no answer
    child.kill(signal.SIGTERM)
    signalled_at = time.monotonic()
    assert child.wait() == 128 + signal.SIGTERM
    assert time.monotonic() - signalled_at < 10  # as promised
    assert "the store did not answer within" in child.output
    server.unpause()
    fork_server.run("sync")
    (new,) = (run for run_id, run in runs_on(server).items() if run_id not in before)
    assert new.info.status == "KILLED"


def test_the_password_of_an_address_is_neither_printed_nor_stored(fork_server: CliForkServer) -> None:
    child = fork_server.start(*CNN, MLFLOW_TRACKING_URI=f"http://me:{SECRET}@127.0.0.1:9")
    assert child.wait() == 0
    assert "127.0.0.1:9" in child.output
    assert SECRET not in child.output
    files: list[Path] = [file for file in fork_server.folder.rglob("*") if file.is_file() and "mlflow.db" not in file.name]
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]
