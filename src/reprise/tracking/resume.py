"""Trainings that are under way: which runs they have opened, so that the same command, started again, goes on with them.

`mlruns/in_progress/<key>.json` exists from the start of a training to its end. The process that trains holds the lock beside it.
The operating system releases the lock when the process dies, so no lock has to be removed by hand.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reprise.data import store
from reprise.errors import UserError


def key_of(*decides: Any) -> str:
    """The key of a training: a hash of plain values, all that decides its result."""
    return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:16]


PARENT = "parent"
"""Beside the seeds, what stands for the run above theirs."""


class Training:
    """One command's training: a run a seed, and, where there are several, the one they stand under."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runs: dict[str, dict[str, str]] = store.read_json(file) if file.is_file() else {}

    def token(self, seed: int | str) -> str:
        """What the run of a seed is found by before it has an id; made at the first call, and kept."""
        if str(seed) not in self.runs:
            self._note(seed, {"token": uuid.uuid4().hex})
        return self.runs[str(seed)]["token"]

    def run_id(self, seed: int | str) -> str | None:
        """The run of a seed, once there is one."""
        return self.runs.get(str(seed), {}).get("run_id")

    def opened(self, seed: int | str, run_id: str) -> None:
        """The run of a seed is there."""
        self._note(seed, {"run_id": run_id})

    def _note(self, seed: int | str, facts: dict[str, str]) -> None:
        self.runs[str(seed)] = self.runs.get(str(seed), {}) | facts
        self._write()

    def _write(self) -> None:
        store.write_atomically(self.file, json.dumps(self.runs, indent=2).encode())

    def pending_runs(self) -> Iterator[str]:
        """Tokens of runs that were about to be opened; each is forgotten once the loop over them has passed it."""
        for seed in [seed for seed, noted in self.runs.items() if "run_id" not in noted]:
            yield self.runs[seed]["token"]
            del self.runs[seed]
            self._write()

    def forget(self) -> None:
        """The training is done, or to be begun anew."""
        self.file.unlink(missing_ok=True)
        self.runs = {}


_owner: ContextVar[str] = ContextVar("owner", default="")


@contextmanager
def owned_by(owner: str) -> Iterator[None]:
    """Trainings that begin in this block are this owner's: two trials of a sweep, be their settings equal, have a run each."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


@contextmanager
def hold(folder: Path, key: str, patience: float) -> Iterator[Training]:
    """The training of this key, for this process alone. It stays on record unless the block says that it is done.

    Raises:
        UserError: when another process is still at it after `patience` seconds.

    """
    name = key_of(key, _owner.get()) if _owner.get() else key
    file = folder / "in_progress" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_suffix(".lock"))
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise UserError("this training is going on in another process", "wait for it, or stop it; then start again") from None
    try:
        yield Training(file)
    finally:
        lock.release()


def stale_runs(folder: Path) -> Iterator[str]:
    """The runs that no process holds any more and that were not ended; each is locked until the loop has passed it."""
    for training in _unlocked_trainings(folder):
        yield from [noted["run_id"] for noted in training.runs.values() if "run_id" in noted]


def pending_runs(folder: Path) -> Iterator[str]:
    """Tokens of runs whose process died while they were opened; each is forgotten once the loop over them has passed it."""
    for training in _unlocked_trainings(folder):
        yield from training.pending_runs()


def _unlocked_trainings(folder: Path) -> Iterator[Training]:
    for file in sorted((folder / "in_progress").glob("*.json")):
        lock = FileLock(file.with_suffix(".lock"))
        with suppress(Timeout):
            lock.acquire(timeout=0)
            try:
                yield Training(file)
            finally:
                lock.release()


def held(folder: Path) -> set[str]:
    """The runs that processes which live are training."""
    return {noted["run_id"] for noted in _held(folder) if "run_id" in noted}


def at_work(folder: Path) -> set[str]:
    """The ids of those runs, and the tokens of those that are about to be opened."""
    return {known for noted in _held(folder) for known in noted.values()}


def _held(folder: Path) -> Iterator[dict[str, str]]:
    """What is noted of each run of a training whose lock a process holds."""
    for file in sorted((folder / "in_progress").glob("*.json")):
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with suppress(FileNotFoundError):  # it ended meanwhile
                yield from store.read_json(file).values()
        else:
            lock.release()
