"""A training watched: from its run directory while it goes on, and from a server where it was trained elsewhere."""

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
"""Some seconds: it ends by itself, should a test fail."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("watch") / "project")


@pytest.fixture
def fork_server(project: Path) -> Iterator[CliForkServer]:
    started = CliForkServer(project)
    yield started
    started.end()


@pytest.fixture
def other(project: Path) -> Iterator[CliForkServer]:
    started = CliForkServer(project)
    yield started
    started.end()


def test_a_run_that_is_over_is_told_epoch_by_epoch_and_ends_as_it_did(fork_server: CliForkServer) -> None:
    fork_server.run(*CNN)
    ((run_id, run),) = runs(fork_server.folder).items()
    said = fork_server.run("watch", run_id[:8]).output.splitlines()
    assert [words.split("  ")[1] for words in said] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert f"val/accuracy {run.data.metrics['val/accuracy']:.4f}" in said[-1]
    nothing = fork_server.start("watch")
    assert nothing.wait() == 2
    assert nothing.output == "reprise: no training goes on here; name a RUN, or begin one: `reprise train experiment=NAME`\n"


def watched(fork_server: CliForkServer, other: CliForkServer, seed: int) -> tuple[Child, Child]:
    """A training that goes on, and one who watches it and has seen an epoch."""
    training = fork_server.start(*LONG, f"seed={seed}")
    while not running_names(fork_server.folder / "mlruns"):
        assert not training.has_ended(), training.output
        time.sleep(0.01)
    watching = other.start("watch")
    while not watching.out.exists() or "epoch 2/300" not in watching.out.read_text():
        assert not watching.has_ended(), watching.output
        time.sleep(0.01)
    return training, watching


def test_the_training_that_goes_on_is_found_and_its_death_is_told(fork_server: CliForkServer, other: CliForkServer) -> None:
    training, watching = watched(fork_server, other, 2)
    training.kill()
    training.wait()
    assert watching.wait() == 2
    assert "ended FAILED: its process died" in watching.output


def test_to_stop_watching_stops_nothing_else(fork_server: CliForkServer, other: CliForkServer) -> None:
    training, watching = watched(fork_server, other, 3)
    watching.kill(signal.SIGINT)
    assert watching.wait() == 0
    assert not training.has_ended()
    training.kill(signal.SIGTERM)
    assert training.wait() == 143


def test_a_run_of_another_machine_is_watched_through_the_server(fork_server: CliForkServer, tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    away = CliForkServer(make_project(tmp_path / "here"))
    try:
        fork_server.run(*CNN, "seed=4", f"tracking.uri={server.address}")
        name = max((fork_server.folder / "mlruns" / "runs").glob("*/run.json"), key=lambda file: file.stat().st_mtime).parent.name
        said = away.run("watch", name, f"tracking.uri={server.address}").output.splitlines()
        assert [words.split("  ")[1] for words in said] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    finally:
        away.end()
        server.stop()


def test_curves_rate_and_remaining_time_are_drawn_in_the_room_there_is() -> None:
    times = {
        key: [(epoch, 1 / epoch, 1000 * 60 * epoch) for epoch in range(1, 5)] for key in ("train/loss", "val/loss", "val/mae")
    }
    seen = LiveStatus("mine", "RUNNING", "", 10, {**times, "train/samples_per_second": [(4, 1234.5, 0)]})
    assert remaining(seen) == pytest.approx(360)
    assert line(seen, 4) == "mine  epoch 4/10  train/loss 0.2500  val/loss 0.2500  val/mae 0.2500"
    console = Console(width=78, height=24, file=io.StringIO())
    console.print(render(seen, 78, 24))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines()[0].rstrip() == "mine  RUNNING   epoch 4/10   1,234 samples a second   about 6 min 0 s left"
    assert "train/loss" in text
    assert "val/mae" in text
    assert len(text.splitlines()) <= 24
    assert all(len(words) <= 78 for words in text.splitlines())
