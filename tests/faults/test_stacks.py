"""A stack of seeds that is killed and restarted ends like an undisturbed one, and each of its runs is reproduced."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli_fork_server import Child, CliForkServer
from tests.faults.conftest import CNN, client, history, runs
from tests.pipeline.conftest import clone, run_in

pytestmark = pytest.mark.long
STACKED = [*CNN, "seeds=3", "trainer.stacked=2", "augment.shift=1"]


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    """Run commands in a clone."""
    started = CliForkServer(clone(tmp_path_factory.mktemp("stacks") / "clone"))
    yield started
    started.end()


def outcome(project: Path, before: set[str]) -> dict[str, Any]:
    """Return status, weights and history of each seed of the new runs. Besides, there is one finished parent."""
    new = [run for run_id, run in runs(project).items() if run_id not in before]
    (parent,) = [run for run in new if "seed" not in run.data.tags]
    assert parent.info.status == "FINISHED"
    found = {
        run.data.tags["seed"]: (
            run.info.status,
            (project / "mlruns" / "runs" / run.info.run_id / "best.safetensors").read_bytes(),
            history(client(project), run),
        )
        for run in new
        if run is not parent
    }
    assert len(found) == len(new) - 1
    return found


def wait_for_checkpoint_of(project: Path, stack: int, child: Child) -> None:
    """Wait until the stack with this number has written a checkpoint."""
    while len({file.parent for file in project.glob("mlruns/runs/*/checkpoints/*.sha256")}) < stack:
        assert not child.has_ended(), child.output
        time.sleep(0.005)


def test_killed_stacks_end_with_the_same_bits_in_the_same_runs_and_a_run_is_reproduced(fork_server: CliForkServer) -> None:
    project = fork_server.folder
    fork_server.run(*STACKED)
    expected = outcome(project, set())
    assert {seed: status for seed, (status, *_) in expected.items()} == dict.fromkeys("012", "FINISHED")
    for stack in (1, 2):
        before = set(runs(project))
        child = fork_server.start(*STACKED)
        wait_for_checkpoint_of(project, stack, child)
        child.kill()
        assert child.wait() == -signal.SIGKILL, child.output
        assert "resumes after step" in fork_server.run(*STACKED).output
        assert outcome(project, before) == expected
    (run_id, *_) = [run_id for run_id, run in runs(project).items() if run.data.tags.get("seed") == "1"]
    done = run_in(project, "reprise", "reproduce", run_id)
    assert "identical: weights bit for bit, every metric exactly" in done.stdout, done.stdout + done.stderr
