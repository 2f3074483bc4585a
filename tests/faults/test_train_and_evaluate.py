"""`train --evaluate` that is killed leaves no process behind, and the same command goes on where it was."""

import signal
import time

import psutil
import pytest

from tests.cli_fork_server import Child, CliForkServer
from tests.faults.conftest import CNN, runs
from tests.faults.test_kills import steps_done, wait_for_checkpoint

COMMAND = ["train", "--evaluate", *CNN[1:], "trainer.max_epochs=10"]


def second_process(child: Child) -> psutil.Process:
    """Return the process that a command forked to evaluate its runs."""
    (process,) = psutil.Process(child.pid).children()
    return process


def start(fork_server: CliForkServer, command: list[str]) -> Child:
    """Start a command, without the output of the one before."""
    if fork_server.last:
        fork_server.last.out.write_text("")
        fork_server.last.err.write_text("")
    return fork_server.start(*command)


def wait_for(child: Child, text: str) -> None:
    while text not in child.output:
        assert not child.has_ended(), child.output
        time.sleep(0.01)


def resume(fork_server: CliForkServer, command: list[str], before: set[str], step: int) -> None:
    """Repeat a command, and assert that it resumes after a step and evaluates the one new run."""
    output = fork_server.run(*command).output
    assert f"resumes after step {step:,}" in output
    (new,) = (run for run_id, run in runs(fork_server.folder).items() if run_id not in before)
    assert new.info.status == "FINISHED"
    assert new.data.tags["test_opened"]
    assert f"test accuracy {new.data.metrics['test/accuracy']:.4f}" in output
    assert not list((fork_server.folder / "mlruns" / "in_progress").glob("*.json"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_kill_during_the_training_ends_both_processes_and_the_training_resumes(
    fork_server: CliForkServer, number: signal.Signals
) -> None:
    command, before = [*COMMAND, f"seed={number.value}"], set(runs(fork_server.folder))
    child = start(fork_server, command)
    wait_for_checkpoint(fork_server, child)
    waiting = second_process(child)
    child.kill(number)
    assert child.wait() == (143 if number == signal.SIGTERM else -signal.SIGKILL), child.output
    waiting.wait(timeout=10)
    assert child.output.count("stopped by") == (number == signal.SIGTERM)
    resume(fork_server, command, before, steps_done(fork_server))


def test_a_kill_during_the_evaluation_resumes_in_the_same_run(fork_server: CliForkServer) -> None:
    command, before = [*COMMAND, "seed=0"], set(runs(fork_server.folder))
    child = start(fork_server, command)
    wait_for(child, "drawing figures")
    (run,) = (run for run_id, run in runs(fork_server.folder).items() if run_id not in before)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/accuracy"]
    weights = fork_server.folder / "mlruns" / "runs" / run.info.run_id / "best.safetensors"
    trained, steps = weights.read_bytes(), steps_done(fork_server)
    second_process(child).kill()
    assert child.wait() == 2
    assert "the evaluation was killed by SIGKILL; start the same command again" in child.output
    child = start(fork_server, command)
    wait_for(child, "drawing figures")
    drawing = second_process(child)
    child.kill(signal.SIGTERM)
    assert child.wait() == 143, child.output
    assert not drawing.is_running()
    assert child.output.count("stopped by") == 1
    resume(fork_server, command, before, steps)
    assert weights.read_bytes() == trained
