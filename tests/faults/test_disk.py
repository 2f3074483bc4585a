"""A disk that is full, broken or closed to us: one clear line, and what was there before stays."""

import errno
import os
from pathlib import Path

import pytest

from tests.faults.conftest import CNN, runs
from tests.forks import Forks

WRITES = {
    "processed": r"/data/processed/.*",
    "windows": r"/mlruns/windows/.*",
    "note of a training": r"/mlruns/unfinished/.*\.json\..*",
    "home": r"/runs/\w+/\.run\.json\..*",
    "config": r"/runs/\w+/config\.json",
    "packages": r"/runs/\w+/lineage/packages\.txt",
    "spool": r"/runs/\w+/spool\.jsonl",
    "best weights": r"/runs/\w+/\.best\.safetensors\..*",
    "hash of the weights": r"/runs/\w+/\.best\.sha256\..*",
    "checkpoint": r"/checkpoints/\.0000000012\.pt\..*",
    "hash of a checkpoint": r"/checkpoints/\.0000000012\.sha256\..*",
    "what came of it": r"/runs/\w+/\.trained\.json\..*",
}
"""Every kind of file that a training writes, by the end of its path."""


@pytest.fixture(scope="module")
def weights(forks: Forks) -> bytes:
    """Of a training that nothing happens to."""
    forks.run(*CNN)
    (run_id,) = runs(forks.folder)
    return (forks.folder / "mlruns" / "runs" / run_id / "best.safetensors").read_bytes()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EACCES], ids=errno.errorcode.get)
def test_a_write_that_fails_is_one_line_and_the_next_start_ends_as_if_nothing_had_been(
    forks: Forks, weights: bytes, code: int
) -> None:
    home = forks.folder / "mlruns" / "runs"
    for kind, path in WRITES.items():
        before = set(home.iterdir())
        if kind in ("processed", "windows"):
            move_away(forks.folder / "data" / "processed", forks.folder / "mlruns" / "windows")
        child = forks.start(*CNN, FAULT=f"{code} {path}")
        assert child.wait() == 2, (kind, child.said)
        lines = child.err.read_text().splitlines()
        assert [line for line in lines if os.strerror(code) in line], (kind, lines)
        assert all(line.startswith("reprise: ") for line in lines), (kind, lines)
        assert not [new for new in set(home.iterdir()) - before if (new / "trained.json").exists()], kind
        forks.run(*CNN)
        (new,) = set(home.iterdir()) - before
        assert (new / "best.safetensors").read_bytes() == weights, kind


def test_a_checkpoint_that_does_not_fit_breaks_off_with_one_line_and_the_one_before_stays(forks: Forks, weights: bytes) -> None:
    """No injected error here: the operating system itself ends the write half-way."""
    before = set((forks.folder / "mlruns" / "runs").iterdir())
    child = forks.start(*CNN, LARGEST_FILE="300000")
    assert child.wait() == 2, child.said
    line = child.err.read_text().splitlines()[-1]
    assert line.startswith("reprise: ")
    assert line.endswith("/checkpoints/0000000003.pt: File too large")
    forks.run(*CNN)
    (new,) = set((forks.folder / "mlruns" / "runs").iterdir()) - before
    assert (new / "best.safetensors").read_bytes() == weights


def move_away(*folders: Path) -> None:
    for folder in folders:
        folder.rename(folder.with_name(f"{folder.name}.{len(list(folder.parent.iterdir()))}"))
