"""A training that is killed, and started again, ends as one that was not."""

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
class Killed:
    """How a training that was killed once, and started again, compares with one that was not."""

    same_weights: bool
    one_run: bool
    same_points: bool


def kill_and_restart(fork_server: CliForkServer, command: list[str], kills: int, chance: random.Random) -> list[Killed]:
    """Kill trainings at random instants between their start and their end, that many times."""
    run_dirs = fork_server.folder / "mlruns" / "runs"
    fork_server.run(*command)  # makes the data
    before = runs(fork_server.folder)
    began = time.monotonic()
    fork_server.run(*command)
    whole = time.monotonic() - began
    (undisturbed,) = runs(fork_server.folder).keys() - before.keys()
    wanted = history(client(fork_server.folder), runs(fork_server.folder)[undisturbed])
    weights = (run_dirs / undisturbed / "best.safetensors").read_bytes()
    done: list[Killed] = []
    while len(done) < kills:
        before = runs(fork_server.folder)
        child = fork_server.start(*command)
        time.sleep(whole * chance.random())
        child.kill()
        if not (child.wait() == -signal.SIGKILL and any((fork_server.folder / "mlruns" / "in_progress").glob("*.json"))):
            whole *= 0.98  # it came too late, or before there was anything to lose
            continue
        fork_server.run(*command)
        new = [run for run_id, run in runs(fork_server.folder).items() if run_id not in before]
        done.append(
            Killed(
                same_weights=all((run_dirs / run.info.run_id / "best.safetensors").read_bytes() == weights for run in new),
                one_run=[run.info.status for run in new] == ["FINISHED"],
                same_points=[history(client(fork_server.folder), run) for run in new] == [wanted],
            )
        )
    return done


@pytest.mark.parametrize("command", [CNN, LSTM], ids=["cnn", "lstm"])
def test_a_training_killed_at_any_instant_ends_with_the_same_bits_in_the_same_run(
    fork_server: CliForkServer, command: list[str]
) -> None:
    done = kill_and_restart(fork_server, command, KILLS, random.Random(0))
    assert done == [Killed(same_weights=True, one_run=True, same_points=True)] * KILLS


@pytest.fixture(autouse=True)
def _trainings_of_other_tests_are_not_met(fork_server: CliForkServer) -> None:
    for file in (fork_server.folder / "mlruns" / "in_progress").glob("*.json"):
        file.unlink()
    for folder in fork_server.folder.glob("mlruns/runs/*/checkpoints"):
        folder.rename(folder.with_name("done"))


def steps_done(fork_server: CliForkServer) -> int:
    """Of the newest checkpoint there is."""
    return max((int(file.stem) for file in fork_server.folder.glob("mlruns/runs/*/checkpoints/*.sha256")), default=0)


def wait_for_checkpoint(fork_server: CliForkServer, child: Child) -> None:
    while not steps_done(fork_server):
        assert not child.has_ended(), child.output
        time.sleep(0.01)


LONG = [*CNN, "trainer.max_epochs=100000"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_writes_a_checkpoint_and_goes_on_from_it(
    fork_server: CliForkServer, number: signal.Signals, code: int
) -> None:
    command = [*LONG, f"seed={number.value}", "checkpoint.steps=null"]
    before = runs(fork_server.folder)
    child = fork_server.start(*command)
    wait_for_checkpoint(fork_server, child)
    asked = time.monotonic()
    child.kill(number)
    assert child.wait() == code, child.output
    assert time.monotonic() - asked < 10
    (run_id,) = runs(fork_server.folder).keys() - before.keys()
    assert runs(fork_server.folder)[run_id].info.status == "KILLED"
    reached = steps_done(fork_server)
    child = fork_server.start(*command)
    while steps_done(fork_server) <= reached:
        assert not child.has_ended(), child.output
        time.sleep(0.01)
    while runs(fork_server.folder)[run_id].info.status != "RUNNING":  # delivered every two seconds
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(number)
    assert child.wait() == code, child.output
    assert f"goes on after step {reached:,}" in child.output
    assert runs(fork_server.folder).keys() - before.keys() == {run_id}
    fork_server.run(*CNN, f"seed={number.value}", "resume=false")  # another key: it leaves the first alone


def test_a_second_start_of_a_training_that_goes_on_is_refused_and_a_dead_one_is_closed_by_the_next(
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
    (alive,) = (run for run_id, run in runs(fork_server.folder).items() if run_id not in before and run.info.status == "RUNNING")
    child.kill()
    assert child.wait() == -signal.SIGKILL
    said = other.run(*CNN, "seed=6").output
    assert f"{alive.info.run_name}: its process had died; closed as FAILED" in said
    closed = runs(fork_server.folder)[alive.info.run_id]
    assert closed.info.status == "FAILED"
    assert closed.data.tags["error"] == "its process died"
    other.end()


def test_two_processes_that_are_killed_go_on_as_two_with_the_same_bits(fork_server: CliForkServer) -> None:
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
    for process in (child, ranks[0]):  # the other rank then waits for one that is no more
        process.kill()
    assert child.wait() == -signal.SIGKILL
    psutil.wait_procs(ranks, timeout=30)
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    assert "goes on after step" in fork_server.run(*command).output
    (new,) = runs(fork_server.folder).keys() - before.keys()
    assert (run_dirs / new / "best.safetensors").read_bytes() == (run_dirs / undisturbed / "best.safetensors").read_bytes()
    found, wanted = (history(client(fork_server.folder), runs(fork_server.folder)[run_id]) for run_id in (new, undisturbed))
    assert found == wanted


def test_a_kill_while_the_tracking_store_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
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


def test_another_config_is_another_run(fork_server: CliForkServer) -> None:
    before = runs(fork_server.folder)
    child = fork_server.start(*LONG, "seed=7")
    while runs(fork_server.folder).keys() == before.keys():
        assert not child.has_ended(), child.output
    child.kill()
    child.wait()
    fork_server.run(*CNN, "seed=7", "optimizer.lr=0.0123")
    new = [run for run_id, run in runs(fork_server.folder).items() if run_id not in before]
    assert sorted(run.info.status for run in new) == ["FAILED", "FINISHED"]
