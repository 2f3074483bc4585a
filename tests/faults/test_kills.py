"""A training that is killed and restarted ends like an undisturbed one."""

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cli_fork_server import Child, CliForkServer
from tests.faults.conftest import CNN, LSTM, client, history, runs
from tests.pipeline.conftest import make_project

KILLS = 5


@dataclass(frozen=True)
class KillOutcome:
    """Whether a killed and restarted training equals an undisturbed one."""

    same_weights: bool
    one_run: bool
    same_points: bool


def kill_and_restart(fork_server: CliForkServer, command: list[str], kills: int, rng: random.Random) -> list[KillOutcome]:
    """Kill trainings at random times and restart them. Return the outcome of each."""
    run_dirs = fork_server.folder / "mlruns" / "runs"
    fork_server.run(*command)  # makes the data
    before = runs(fork_server.folder)
    start = time.monotonic()
    fork_server.run(*command)
    duration = time.monotonic() - start
    (undisturbed,) = runs(fork_server.folder).keys() - before.keys()
    expected = history(client(fork_server.folder), runs(fork_server.folder)[undisturbed])
    weights = (run_dirs / undisturbed / "best.safetensors").read_bytes()
    outcomes: list[KillOutcome] = []
    while len(outcomes) < kills:
        before = runs(fork_server.folder)
        child = fork_server.start(*command)
        time.sleep(duration * rng.random())
        child.kill()
        if not (child.wait() == -signal.SIGKILL and any((fork_server.folder / "mlruns" / "in_progress").glob("*.json"))):
            duration *= 0.98  # it had ended, or was not yet recorded as in progress
            continue
        fork_server.run(*command)
        new = [run for run_id, run in runs(fork_server.folder).items() if run_id not in before]
        outcomes.append(
            KillOutcome(
                same_weights=all((run_dirs / run.info.run_id / "best.safetensors").read_bytes() == weights for run in new),
                one_run=[run.info.status for run in new] == ["FINISHED"],
                same_points=[history(client(fork_server.folder), run) for run in new] == [expected],
            )
        )
    return outcomes


@pytest.mark.parametrize("command", [CNN, LSTM], ids=["cnn", "lstm"])
def test_a_training_killed_at_any_time_ends_with_the_same_bits_in_the_same_run(
    fork_server: CliForkServer, command: list[str]
) -> None:
    outcomes = kill_and_restart(fork_server, command, KILLS, random.Random(0))
    assert outcomes == [KillOutcome(same_weights=True, one_run=True, same_points=True)] * KILLS


@pytest.fixture(autouse=True)
def _hide_trainings_of_other_tests(fork_server: CliForkServer) -> None:
    for file in (fork_server.folder / "mlruns" / "in_progress").glob("*.json"):
        file.unlink()
    for folder in fork_server.folder.glob("mlruns/runs/*/checkpoints"):
        folder.rename(folder.with_name("done"))


def steps_done(fork_server: CliForkServer) -> int:
    """Return the step of the newest checkpoint, or 0."""
    return max((int(file.stem) for file in fork_server.folder.glob("mlruns/runs/*/checkpoints/*.sha256")), default=0)


def wait_for_checkpoint(fork_server: CliForkServer, child: Child) -> None:
    while not steps_done(fork_server):
        assert not child.has_ended(), child.output
        time.sleep(0.01)


LONG = [*CNN, "trainer.max_epochs=100000"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_writes_a_checkpoint_and_resumes_from_it(
    fork_server: CliForkServer, number: signal.Signals, code: int
) -> None:
    command = [*LONG, f"seed={number.value}", "checkpoint.steps=null"]
    before = runs(fork_server.folder)
    child = fork_server.start(*command)
    wait_for_checkpoint(fork_server, child)
    signalled_at = time.monotonic()
    child.kill(number)
    assert child.wait() == code, child.output
    assert time.monotonic() - signalled_at < 10
    (run_id,) = runs(fork_server.folder).keys() - before.keys()
    assert runs(fork_server.folder)[run_id].info.status == "KILLED"
    reached = steps_done(fork_server)
    child = fork_server.start(*command)
    while steps_done(fork_server) <= reached:
        assert not child.has_ended(), child.output
        time.sleep(0.01)
    while runs(fork_server.folder)[run_id].info.status != "RUNNING":  # entries are sent every two seconds
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(number)
    assert child.wait() == code, child.output
    assert f"resumes after step {reached:,}" in child.output
    assert runs(fork_server.folder).keys() - before.keys() == {run_id}
    fork_server.run(*CNN, f"seed={number.value}", "resume=false")  # another key, so the first training is not resumed


def test_a_second_start_of_a_running_training_is_refused_and_a_stale_run_is_closed_by_the_next_training(
    fork_server: CliForkServer,
) -> None:
    other = CliForkServer(fork_server.folder)
    before = runs(fork_server.folder)
    child = fork_server.start(*LONG)
    wait_for_checkpoint(fork_server, child)
    second = other.start(*LONG)
    assert second.wait() == 2
    assert "this training is running in another process" in second.output
    other.run(*CNN, "seed=5")
    (running,) = (
        run for run_id, run in runs(fork_server.folder).items() if run_id not in before and run.info.status == "RUNNING"
    )
    child.kill()
    assert child.wait() == -signal.SIGKILL
    output = other.run(*CNN, "seed=6").output
    assert f"{running.info.run_name}: its process died; marked as FAILED" in output
    closed = runs(fork_server.folder)[running.info.run_id]
    assert closed.info.status == "FAILED"
    assert closed.data.tags["error"] == "its process died"
    other.end()


def test_two_killed_processes_resume_with_the_same_bits(fork_server: CliForkServer) -> None:
    command = [*CNN, "trainer=ddp_cpu", "trainer.max_epochs=40", "checkpoint.steps=20", "checkpoint.grace=5"]
    run_dirs = fork_server.folder / "mlruns" / "runs"
    before = runs(fork_server.folder)
    fork_server.run(*command)
    (undisturbed,) = runs(fork_server.folder).keys() - before.keys()
    before = runs(fork_server.folder)
    child = fork_server.start(*command)
    wait_for_checkpoint(fork_server, child)
    ranks = psutil.Process(child.pid).children(recursive=True)
    assert len(ranks) >= 2
    for process in (child, ranks[0]):  # the other rank then waits for a process that has died
        process.kill()
    assert child.wait() == -signal.SIGKILL
    psutil.wait_procs(ranks, timeout=30)
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    assert "resumes after step" in fork_server.run(*command).output
    (new,) = runs(fork_server.folder).keys() - before.keys()
    assert (run_dirs / new / "best.safetensors").read_bytes() == (run_dirs / undisturbed / "best.safetensors").read_bytes()
    resumed, expected = (history(client(fork_server.folder), runs(fork_server.folder)[run_id]) for run_id in (new, undisturbed))
    assert resumed == expected


def test_a_kill_during_the_creation_of_the_tracking_store_leaves_no_partial_store(tmp_path: Path) -> None:
    fork_server = CliForkServer(make_project(tmp_path / "project"))
    draft = fork_server.folder / "mlruns" / ".mlflow.db"
    child = fork_server.start(*CNN)
    while not draft.exists():
        assert not child.has_ended(), child.output
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not draft.with_name("mlflow.db").exists()
    fork_server.run(*CNN)
    assert [run.info.status for run in runs(fork_server.folder).values()] == ["FINISHED"]
    assert not list(draft.parent.glob(f"{draft.name}*"))
    fork_server.end()


def test_another_config_starts_another_run(fork_server: CliForkServer) -> None:
    before = runs(fork_server.folder)
    child = fork_server.start(*LONG, "seed=7")
    while runs(fork_server.folder).keys() == before.keys():
        assert not child.has_ended(), child.output
    child.kill()
    child.wait()
    fork_server.run(*CNN, "seed=7", "optimizer.lr=0.0123")
    new = [run for run_id, run in runs(fork_server.folder).items() if run_id not in before]
    assert sorted(run.info.status for run in new) == ["FAILED", "FINISHED"]
