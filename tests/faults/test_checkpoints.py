"""A valid checkpoint exists after a kill during a write, and after damage to the newest one."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from reprise.errors import Notice
from reprise.training.checkpoint import AtomicIO, newest_checkpoint
from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, runs

KILLS = 15
OFFSETS = 100


def state(step: int) -> dict[str, object]:
    """Return some megabytes, like the checkpoint of a small network."""
    return {"step": step, "weights": torch.full((1_000_000,), float(step))}


def write_checkpoints_forever(folder: Path, scratch: str) -> None:
    os.environ["TMPDIR"] = scratch
    step = 0
    while True:
        step += 1
        AtomicIO().save_checkpoint(state(step), folder / f"{step:010}.pt")


@pytest.mark.parametrize(
    "scratch", ["same", "/dev/shm"], ids=["temporary folder on the same disk", "temporary folder on another disk"]
)
def test_a_kill_during_a_checkpoint_write_leaves_a_valid_one(tmp_path: Path, scratch: str) -> None:
    assert kill_writers(tmp_path, scratch if Path(scratch).is_dir() else str(tmp_path), KILLS) == KILLS


def kill_writers(folder: Path, scratch: str, kills: int) -> int:
    """Kill processes that write checkpoints, each after its first checkpoint. Return how many left a valid one."""
    valid = 0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["reprise.training.checkpoint"])
    rng = random.Random(0)
    for turn in range(kills):
        writer_folder = folder / f"{turn}"
        writer = context.Process(target=write_checkpoints_forever, args=(writer_folder, scratch))
        writer.start()
        while not list(writer_folder.glob("*.sha256")):
            time.sleep(0.002)
        time.sleep(rng.random() / 10)
        assert writer.pid
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        written = max(int(file.stem) for file in writer_folder.glob("*.sha256"))
        checkpoint = newest_checkpoint(writer_folder)
        if checkpoint is not None and int(checkpoint.stem) >= written - 1:
            step, loaded = int(checkpoint.stem), AtomicIO().load_checkpoint(checkpoint)
            valid += loaded["step"] == step and torch.equal(loaded["weights"], torch.full((1_000_000,), float(step)))
    return valid


@pytest.mark.filterwarnings("default::reprise.errors.Notice")
def test_a_truncated_or_damaged_newest_checkpoint_is_skipped(tmp_path: Path) -> None:
    for step in (1, 2):
        AtomicIO().save_checkpoint({"step": step, "weights": torch.arange(1000.0)}, tmp_path / f"{step:010}.pt")
    newest = tmp_path / "0000000002.pt"
    content = newest.read_bytes()
    rng = random.Random(0)
    for turn in range(OFFSETS):
        offset = rng.randrange(len(content))
        damaged = (
            content[:offset] if turn % 2 else content[:offset] + bytes([content[offset] ^ 1 << turn % 8]) + content[offset + 1 :]
        )
        AtomicIO().save_checkpoint({"step": 2, "weights": torch.arange(1000.0)}, newest)
        newest.write_bytes(damaged)
        with pytest.warns(Notice, match=r"0000000002\.pt is not what was written .*; the previous one is used"):
            assert newest_checkpoint(tmp_path) == tmp_path / "0000000001.pt"
        assert not newest.exists()
    AtomicIO().save_checkpoint({"step": 2, "weights": torch.arange(1000.0)}, newest)
    assert newest_checkpoint(tmp_path) == newest


def test_an_incomplete_checkpoint_is_removed_silently(tmp_path: Path) -> None:
    for step in (1, 2):
        AtomicIO().save_checkpoint({"step": step}, tmp_path / f"{step:010}.pt")
    (tmp_path / "0000000002.sha256").unlink()
    assert newest_checkpoint(tmp_path) == tmp_path / "0000000001.pt"
    assert not (tmp_path / "0000000002.pt").exists()


def test_only_the_newest_two_checkpoints_are_kept_and_stale_drafts_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".0000000001.pt.abc").write_bytes(b"half of one")
    for step in range(1, 5):
        AtomicIO().save_checkpoint({"step": step}, tmp_path / f"{step:010}.pt")
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "0000000003.pt",
        "0000000003.sha256",
        "0000000004.pt",
        "0000000004.sha256",
    ]


def test_a_training_with_a_damaged_newest_checkpoint_resumes_from_the_previous_one(fork_server: CliForkServer) -> None:
    run_dirs = fork_server.folder / "mlruns" / "runs"
    fork_server.run(*CNN)
    (undisturbed,) = runs(fork_server.folder)
    child = fork_server.start(*CNN)
    while len(list(run_dirs.glob("*/checkpoints/*.sha256"))) < 2:
        assert not child.has_ended()
        time.sleep(0.005)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    newest = max(run_dirs.glob("*/checkpoints/*.sha256")).with_suffix(".pt")
    newest.write_bytes(newest.read_bytes()[:-100])
    output = fork_server.run(*CNN).output
    assert f"{newest.name} is not what was written (sha256 differs); the previous one is used" in output
    assert "resumes after step" in output
    (run_id,) = runs(fork_server.folder).keys() - {undisturbed}
    assert (run_dirs / run_id / "best.safetensors").read_bytes() == (run_dirs / undisturbed / "best.safetensors").read_bytes()
