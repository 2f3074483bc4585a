"""A full, broken or read-only disk: one clear line, and earlier files are unchanged."""

import errno
import os
from pathlib import Path

import pytest

from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN, runs

WRITES = {
    "processed": r"/data/processed/.*",
    "windows": r"/mlruns/windows/.*",
    "record of a training in progress": r"/mlruns/in_progress/.*\.json\..*",
    "run directory": r"/runs/\w+/\.run\.json\..*",
    "config": r"/runs/\w+/config\.json",
    "packages": r"/runs/\w+/lineage/packages\.txt",
    "event log": r"/runs/\w+/events\.jsonl",
    "best weights": r"/runs/\w+/\.best\.safetensors\..*",
    "hash of the weights": r"/runs/\w+/\.best\.sha256\..*",
    "checkpoint": r"/checkpoints/\.0000000012\.pt\..*",
    "hash of a checkpoint": r"/checkpoints/\.0000000012\.sha256\..*",
    "outcome": r"/runs/\w+/\.trained\.json\..*",
}
"""Every kind of file that a training writes, with a pattern of its path."""


@pytest.fixture(scope="module")
def weights(fork_server: CliForkServer) -> bytes:
    """The weights of an undisturbed training."""
    fork_server.run(*CNN)
    (run_id,) = runs(fork_server.folder)
    return (fork_server.folder / "mlruns" / "runs" / run_id / "best.safetensors").read_bytes()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_failed_write_is_one_line_and_the_next_start_gives_the_same_weights(
    fork_server: CliForkServer, weights: bytes, code: int
) -> None:
    run_dirs = fork_server.folder / "mlruns" / "runs"
    for kind, path in WRITES.items():
        before = set(run_dirs.iterdir())
        if kind in ("processed", "windows"):
            move_away(fork_server.folder / "data" / "processed", fork_server.folder / "mlruns" / "windows")
        child = fork_server.start(*CNN, FAULT=f"{code} {path}")
        assert child.wait() == 2, (kind, child.output)
        lines = child.err.read_text().splitlines()
        assert [line for line in lines if os.strerror(code) in line], (kind, lines)
        assert all(line.startswith("reprise: ") for line in lines), (kind, lines)
        assert not [new for new in set(run_dirs.iterdir()) - before if (new / "trained.json").exists()], kind
        fork_server.run(*CNN)
        (new,) = set(run_dirs.iterdir()) - before
        assert (new / "best.safetensors").read_bytes() == weights, kind


def test_a_checkpoint_that_exceeds_the_file_size_limit_is_one_line_and_the_next_start_resumes(
    fork_server: CliForkServer, weights: bytes
) -> None:
    """The operating system itself interrupts the write; no error is injected."""
    before = set((fork_server.folder / "mlruns" / "runs").iterdir())
    child = fork_server.start(*CNN, LARGEST_FILE="300000")
    assert child.wait() == 2, child.output
    line = child.err.read_text().splitlines()[-1]
    assert line.startswith("reprise: ")
    assert line.endswith("/checkpoints/0000000003.pt: File too large")
    fork_server.run(*CNN)
    (new,) = set((fork_server.folder / "mlruns" / "runs").iterdir()) - before
    assert (new / "best.safetensors").read_bytes() == weights


def move_away(*folders: Path) -> None:
    for folder in folders:
        folder.rename(folder.with_name(f"{folder.name}.{len(list(folder.parent.iterdir()))}"))
