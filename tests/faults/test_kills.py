"""A training that is killed, and started again, ends as one that was not."""

import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.faults.conftest import CNN, LSTM, client, history, runs
from tests.forks import Child, Forks
from tests.pipeline.conftest import make_project

KILLS = 5


@dataclass(frozen=True)
class Killed:
    """How a training that was killed once, and started again, compares with one that was not."""

    same_weights: bool
    one_run: bool
    same_points: bool


def kill_and_restart(forks: Forks, command: list[str], kills: int, chance: random.Random) -> list[Killed]:
    """Kill trainings at random instants between their start and their end, that many times."""
    homes = forks.folder / "mlruns" / "runs"
    forks.run(*command)  # makes the data
    before = runs(forks.folder)
    began = time.monotonic()
    forks.run(*command)
    whole = time.monotonic() - began
    (undisturbed,) = runs(forks.folder).keys() - before.keys()
    wanted = history(client(forks.folder), runs(forks.folder)[undisturbed])
    weights = (homes / undisturbed / "best.safetensors").read_bytes()
    done: list[Killed] = []
    while len(done) < kills:
        before = runs(forks.folder)
        child = forks.start(*command)
        time.sleep(whole * chance.random())
        child.kill()
        if not (child.wait() == -signal.SIGKILL and any((forks.folder / "mlruns" / "unfinished").glob("*.json"))):
            whole *= 0.98  # it came too late, or before there was anything to lose
            continue
        forks.run(*command)
        new = [run for run_id, run in runs(forks.folder).items() if run_id not in before]
        done.append(
            Killed(
                same_weights=all((homes / run.info.run_id / "best.safetensors").read_bytes() == weights for run in new),
                one_run=[run.info.status for run in new] == ["FINISHED"],
                same_points=[history(client(forks.folder), run) for run in new] == [wanted],
            )
        )
    return done


@pytest.mark.parametrize("command", [CNN, LSTM], ids=["cnn", "lstm"])
def test_a_training_killed_at_any_instant_ends_with_the_same_bits_in_the_same_run(forks: Forks, command: list[str]) -> None:
    done = kill_and_restart(forks, command, KILLS, random.Random(0))
    assert done == [Killed(same_weights=True, one_run=True, same_points=True)] * KILLS


@pytest.fixture(autouse=True)
def _trainings_of_other_tests_are_not_met(forks: Forks) -> None:
    for file in (forks.folder / "mlruns" / "unfinished").glob("*.json"):
        file.unlink()
    for folder in forks.folder.glob("mlruns/runs/*/checkpoints"):
        folder.rename(folder.with_name("done"))


def steps_done(forks: Forks) -> int:
    """Of the newest checkpoint there is."""
    return max((int(file.stem) for file in forks.folder.glob("mlruns/runs/*/checkpoints/*.sha256")), default=0)


def wait_for_checkpoint(forks: Forks, child: Child) -> None:
    while not steps_done(forks):
        assert not child.over(), child.said
        time.sleep(0.01)


LONG = [*CNN, "trainer.max_epochs=100000"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_writes_a_checkpoint_and_goes_on_from_it(forks: Forks, number: signal.Signals, code: int) -> None:
    command = [*LONG, f"seed={number.value}", "checkpoint.steps=null"]
    before = runs(forks.folder)
    child = forks.start(*command)
    wait_for_checkpoint(forks, child)
    asked = time.monotonic()
    child.kill(number)
    assert child.wait() == code, child.said
    assert time.monotonic() - asked < 10
    (run_id,) = runs(forks.folder).keys() - before.keys()
    assert runs(forks.folder)[run_id].info.status == "KILLED"
    reached = steps_done(forks)
    child = forks.start(*command)
    while steps_done(forks) <= reached:
        assert not child.over(), child.said
        time.sleep(0.01)
    while runs(forks.folder)[run_id].info.status != "RUNNING":  # delivered every two seconds
        assert not child.over(), child.said
        time.sleep(0.05)
    child.kill(number)
    assert child.wait() == code, child.said
    assert f"goes on after step {reached:,}" in child.said
    assert runs(forks.folder).keys() - before.keys() == {run_id}
    forks.run(*CNN, f"seed={number.value}", "fresh=true")  # another key: it leaves the first alone


def test_a_second_start_of_a_training_that_goes_on_is_refused_and_a_dead_one_is_closed_by_the_next(forks: Forks) -> None:
    other = Forks(forks.folder)
    before = runs(forks.folder)
    child = forks.start(*LONG)
    wait_for_checkpoint(forks, child)
    second = other.start(*LONG)
    assert second.wait() == 2
    assert "this training is going on in another process" in second.said
    other.run(*CNN, "seed=5")
    (alive,) = (run for run_id, run in runs(forks.folder).items() if run_id not in before and run.info.status == "RUNNING")
    child.kill()
    assert child.wait() == -signal.SIGKILL
    said = other.run(*CNN, "seed=6").said
    assert f"{alive.info.run_name}: its process had died; closed as FAILED" in said
    closed = runs(forks.folder)[alive.info.run_id]
    assert closed.info.status == "FAILED"
    assert closed.data.tags["error"] == "its process died"
    other.end()


def test_two_processes_that_are_killed_go_on_as_two_with_the_same_bits(forks: Forks) -> None:
    command = [*CNN, "trainer=ddp_cpu", "trainer.max_epochs=40", "checkpoint.steps=20", "checkpoint.grace=5"]
    homes = forks.folder / "mlruns" / "runs"
    before = runs(forks.folder)
    forks.run(*command)
    (undisturbed,) = runs(forks.folder).keys() - before.keys()
    before = runs(forks.folder)
    child = forks.start(*command)
    wait_for_checkpoint(forks, child)
    ranks = psutil.Process(child.pid).children(recursive=True)
    assert len(ranks) >= 2
    for process in (child, ranks[0]):  # the other rank then waits for one that is no more
        process.kill()
    assert child.wait() == -signal.SIGKILL
    psutil.wait_procs(ranks, timeout=30)
    assert not [rank for rank in ranks if rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE]
    assert "goes on after step" in forks.run(*command).said
    (new,) = runs(forks.folder).keys() - before.keys()
    assert (homes / new / "best.safetensors").read_bytes() == (homes / undisturbed / "best.safetensors").read_bytes()
    found, wanted = (history(client(forks.folder), runs(forks.folder)[run_id]) for run_id in (new, undisturbed))
    assert found == wanted


def test_a_kill_while_the_tracking_store_is_made_leaves_none_or_a_whole_one(tmp_path: Path) -> None:
    forks = Forks(make_project(tmp_path / "project"))
    draft = forks.folder / "mlruns" / ".mlflow.db"
    child = forks.start(*CNN)
    while not draft.exists():
        assert not child.over(), child.said
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert not draft.with_name("mlflow.db").exists()
    forks.run(*CNN)
    assert [run.info.status for run in runs(forks.folder).values()] == ["FINISHED"]
    assert not list(draft.parent.glob(f"{draft.name}*"))
    forks.end()


def test_another_config_is_another_run(forks: Forks) -> None:
    before = runs(forks.folder)
    child = forks.start(*LONG, "seed=7")
    while runs(forks.folder).keys() == before.keys():
        assert not child.over(), child.said
    child.kill()
    child.wait()
    forks.run(*CNN, "seed=7", "optimizer.lr=0.0123")
    new = [run for run_id, run in runs(forks.folder).items() if run_id not in before]
    assert sorted(run.info.status for run in new) == ["FAILED", "FINISHED"]
