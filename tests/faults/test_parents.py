"""After kills and restarts, several seeds or the jobs of a `--multirun` have one parent run, with the right mean."""

import random
import signal
import subprocess
import sys
import time
from statistics import fmean

import pytest

from tests.cli_fork_server import CliForkServer, user_environment
from tests.faults.conftest import CNN, runs

PARENT = "mlflow.parentRunId"
COMMANDS = {"seeds": [*CNN, "seeds=3"], "multirun": ["train", "--multirun", *CNN[1:], "optimizer.lr=0.001,0.002,0.003"]}


EXIT_BEFORE_RECORDING = """
import os, sys
from reprise.__main__ import main
from reprise.tracking.resume import Training

record = Training.record_run_id
Training.record_run_id = lambda self, number, run_id: os._exit(9) if number == 1 else record(self, number, run_id)
main(sys.argv[1:])
"""
"""Exits when the second job has ended, before this is recorded. `number` is the index of a job, or the seed of a training, here 0."""


def test_a_finished_job_that_was_not_recorded_is_not_trained_again(fork_server: CliForkServer) -> None:
    before, command = runs(fork_server.folder), [*COMMANDS["multirun"], "trainer.batch_size=16"]
    exited = subprocess.run(
        [sys.executable, "-c", EXIT_BEFORE_RECORDING, *command],
        cwd=fork_server.folder,
        env=user_environment(),
        capture_output=True,
        text=True,
    )
    assert exited.returncode == 9, exited.stderr
    fork_server.run(*command)
    assert [run.info.status for run_id, run in runs(fork_server.folder).items() if run_id not in before] == ["FINISHED"] * 4


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_kill_duplicates_neither_the_parent_nor_a_child_run(fork_server: CliForkServer, kind: str) -> None:
    command, rng = COMMANDS[kind], random.Random(0)
    fork_server.run(*command)
    began = time.monotonic()
    fork_server.run(*command)
    duration = time.monotonic() - began
    in_progress = fork_server.folder / "mlruns" / "in_progress"
    for _ in range(4):
        before = runs(fork_server.folder)
        child = fork_server.start(*command)
        time.sleep(duration * rng.random())
        child.kill()
        killed = child.wait() == -signal.SIGKILL and any(in_progress.glob("*.json"))
        if killed:
            fork_server.run(*command)
        assert not list(in_progress.glob("*.json"))
        new = {run_id: run for run_id, run in runs(fork_server.folder).items() if run_id not in before}
        if not new:
            continue  # it was killed before its run existed
        (parent,) = (run for run in new.values() if run.data.tags.get("group") == kind)
        children = [run for run in new.values() if run is not parent]
        assert [run.info.status for run in new.values()] == ["FINISHED"] * 4
        assert {run.data.tags[PARENT] for run in children} == {parent.info.run_id}
        if kind == "seeds":
            mean = fmean(run.data.metrics["best/val/accuracy"] for run in children)
            assert parent.data.metrics["best/val/accuracy"] == pytest.approx(mean, abs=1e-12)
