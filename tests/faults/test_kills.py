"""A training that is killed, and started again, ends as one that was not."""

import random
import signal
import time
from pathlib import Path

import pytest

from tests.faults.conftest import CNN, LSTM, client, history, runs
from tests.forks import Forks

KILLS = 5


def train_killed(forks: Forks, command: list[str], after: float) -> bool:
    """Start a training, kill it, start it again; whether the kill came before its end."""
    child = forks.start(*command)
    time.sleep(after)
    child.kill()
    if child.wait() != -signal.SIGKILL:
        return False
    before_its_end = any((forks.folder / "mlruns" / "unfinished").glob("*.json"))
    if before_its_end:
        forks.run(*command)
    return before_its_end


@pytest.mark.parametrize("command", [CNN, LSTM], ids=["cnn", "lstm"])
def test_a_training_killed_at_any_instant_ends_with_the_same_bits_in_the_same_run(forks: Forks, command: list[str]) -> None:
    project: Path = forks.folder
    forks.run(*command)  # makes the data
    before = runs(project)
    began = time.monotonic()
    forks.run(*command)
    whole = time.monotonic() - began
    (undisturbed,) = runs(project).keys() - before.keys()
    store = client(project)
    wanted = history(store, runs(project)[undisturbed])
    weights = (project / "mlruns" / "runs" / undisturbed / "best.pt").read_bytes()
    chance, killed = random.Random(0), 0
    while killed < KILLS:
        before = runs(project)
        if train_killed(forks, command, whole * chance.random()):
            killed += 1
        else:
            whole *= 0.95  # it takes less time now than when it was measured
        if runs(project).keys() == before.keys():
            continue  # killed before there was a run
        (run,) = (run for run_id, run in runs(project).items() if run_id not in before)
        assert run.info.status == "FINISHED"
        assert (project / "mlruns" / "runs" / run.info.run_id / "best.pt").read_bytes() == weights
        assert history(store, run) == wanted
