"""A training that is killed, and started again, ends as one that was not."""

import random
import time
from pathlib import Path

import pytest

from tests.faults.conftest import CNN, LSTM, client, history, runs
from tests.faults.forks import Forks

KILLS = 5


def train_killed(forks: Forks, command: list[str], after: float) -> None:
    child = forks.start(*command)
    time.sleep(after)
    child.kill()
    child.wait()


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
    chance = random.Random(0)
    for turn in range(KILLS):
        before = runs(project)
        train_killed(forks, command, whole * (turn + chance.random()) / KILLS)
        forks.run(*command)
        (run,) = (run for run_id, run in runs(project).items() if run_id not in before)
        assert run.info.status == "FINISHED"
        assert (project / "mlruns" / "runs" / run.info.run_id / "best.pt").read_bytes() == weights
        assert history(store, run) == wanted
