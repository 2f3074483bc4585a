"""`reprise watch`: from the run directory of a training, or through the tracking server if it runs on another machine."""

import io
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from reprise.analysis.watch import line, remaining, render
from reprise.tracking.live_status import LiveStatus, running_names
from tests.cli_fork_server import Child, CliForkServer
from tests.faults.conftest import CNN, runs
from tests.pipeline.conftest import make_project
from tests.tracking.server import Server

LONG = [*CNN, "trainer.max_epochs=300"]
"""Takes some seconds, so that it ends by itself if a test fails."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("watch") / "project")


@pytest.fixture
def fork_server(project: Path) -> Iterator[CliForkServer]:
    started = CliForkServer(project, nested=True)
    yield started
    started.end()


@pytest.fixture
def second_fork_server(project: Path) -> Iterator[CliForkServer]:
    started = CliForkServer(project, nested=True)
    yield started
    started.end()


def test_a_finished_run_is_printed_epoch_by_epoch(fork_server: CliForkServer) -> None:
    fork_server.run(*CNN)
    ((run_id, run),) = runs(fork_server.folder).items()
    lines = fork_server.run("watch", run_id[:8]).output.splitlines()
    assert [words.split("  ")[1] for words in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert f"val/accuracy {run.data.metrics['val/accuracy']:.4f}" in lines[-1]
    without_run = fork_server.start("watch")
    assert without_run.wait() == 2
    assert (
        without_run.output == "reprise: no training is running here; name a RUN, or start one: `reprise train experiment=NAME`\n"
    )


def start_training_and_watch(fork_server: CliForkServer, second_fork_server: CliForkServer, seed: int) -> tuple[Child, Child]:
    """Start a training, and a `watch` that has printed its first epoch. Return both."""
    training = fork_server.start(*LONG, f"seed={seed}")
    while not any(f"-seed{seed}-" in name for name in running_names(fork_server.folder / "mlruns")):  # not one that it recovers
        assert not training.has_ended(), training.output
        time.sleep(0.01)
    watching = second_fork_server.start("watch")
    while not watching.out.exists() or "epoch 2/300" not in watching.out.read_text():
        assert not watching.has_ended(), watching.output
        time.sleep(0.01)
    return training, watching


def test_watch_finds_the_running_training_and_reports_that_its_process_died(
    fork_server: CliForkServer, second_fork_server: CliForkServer
) -> None:
    training, watching = start_training_and_watch(fork_server, second_fork_server, 2)
    training.kill()
    training.wait()
    assert watching.wait() == 2
    assert "ended FAILED: its process died" in watching.output


def test_stopping_watch_does_not_stop_the_training(fork_server: CliForkServer, second_fork_server: CliForkServer) -> None:
    training, watching = start_training_and_watch(fork_server, second_fork_server, 3)
    watching.kill(signal.SIGINT)
    assert watching.wait() == 0
    assert not training.has_ended()
    training.kill(signal.SIGTERM)
    assert training.wait() == 143


def test_a_run_on_another_machine_is_watched_through_the_server(fork_server: CliForkServer, tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    elsewhere = CliForkServer(make_project(tmp_path / "here"), nested=True)
    try:
        fork_server.run(*CNN, "seed=4", f"tracking.uri={server.address}")
        name = max((fork_server.folder / "mlruns" / "runs").glob("*/run.json"), key=lambda file: file.stat().st_mtime).parent.name
        lines = elsewhere.run("watch", name, f"tracking.uri={server.address}").output.splitlines()
        assert [words.split("  ")[1] for words in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    finally:
        elsewhere.end()
        server.stop()


def test_curves_rate_and_remaining_time_fit_the_terminal() -> None:
    times = {
        key: [(epoch, 1 / epoch, 1000 * 60 * epoch) for epoch in range(1, 5)] for key in ("train/loss", "val/loss", "val/mae")
    }
    status = LiveStatus("mine", "RUNNING", "", 10, {**times, "train/samples_per_second": [(4, 1234.5, 0)]})
    assert remaining(status) == pytest.approx(360)
    assert line(status, 4) == "mine  epoch 4/10  train/loss 0.2500  val/loss 0.2500  val/mae 0.2500"
    console = Console(width=78, height=24, file=io.StringIO())
    console.print(render(status, 78, 24))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[0].rstrip() == "mine  RUNNING   epoch 4/10   1,234 samples a second   about 6 min 0 s left"
    assert "train/loss" in text
    assert "val/mae" in text
    assert len(text.splitlines()) <= 24
    assert all(len(words) <= 78 for words in text.splitlines())
