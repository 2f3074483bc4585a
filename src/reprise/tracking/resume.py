"""Keep track of trainings in progress and the runs they opened, so that repeating a command resumes its runs.

`mlruns/in_progress/<key>.json` exists from the start of a training to its end. The training process holds the lock file beside
it. The operating system releases the lock when the process dies, so nobody has to remove it by hand.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from reprise.data import store
from reprise.errors import UserError


def training_key(*values: Any) -> str:
    """Return the key of a training: a hash of the plain values that determine its result."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]


class LockedError(UserError):
    """Another process has this training."""


PARENT_KEY = "parent"
"""Key of the parent run, beside the seeds."""


class RunState(BaseModel):
    """What is known of the run of a seed. Fields that a newer version added are kept when the file is written again."""

    model_config = ConfigDict(frozen=True, extra="allow")

    token: str | None = None
    """Identifies the run in the store before its id is known."""
    run_id: str | None = None
    """None until the run is open."""


RUNS = TypeAdapter(dict[str, RunState])


class Training:
    """The training of one command: a run per seed, and a parent run if there are several seeds."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.runs = _read(file) if file.is_file() else {}

    def token(self, seed: int | str, new: str | None = None) -> str:
        """Return the token that identifies the run of a seed before it has an id. The first call stores `new` or a random one."""
        token = self.runs.get(str(seed), RunState()).token
        if token is None:
            token = new or uuid.uuid4().hex
            self._record(seed, {"token": token})
        return token

    def run_id(self, seed: int | str) -> str | None:
        """Return the run id of a seed, or None if it has not been opened."""
        return self.runs.get(str(seed), RunState()).run_id

    @property
    def run_ids(self) -> list[str]:
        """The ids of all runs that have been opened."""
        return [state.run_id for state in self.runs.values() if state.run_id is not None]

    def record_run_id(self, seed: int | str, run_id: str) -> None:
        """Record that the run of a seed was opened."""
        self._record(seed, {"run_id": run_id})

    def _record(self, seed: int | str, facts: dict[str, str]) -> None:
        self.runs[str(seed)] = self.runs.get(str(seed), RunState()).model_copy(update=facts)
        self._write()

    def _write(self) -> None:
        store.write_atomically(self.file, RUNS.dump_json(self.runs, indent=2, exclude_none=True))

    def pending_runs(self) -> Iterator[str]:
        """Yield the tokens of runs that were about to be opened. Delete each after the loop has processed it."""
        for seed in [seed for seed, state in self.runs.items() if state.run_id is None]:
            yield str(self.runs[seed].token)
            del self.runs[seed]
            self._write()

    def forget_runs(self, ids: set[str]) -> None:
        """Forget the runs with these ids or tokens, and the training with the last one."""
        self.runs = {seed: state for seed, state in self.runs.items() if ids.isdisjoint(_ids_and_tokens([state]))}
        if self.runs:
            self._write()
        else:
            self.forget()

    def forget(self) -> None:
        """Delete the file: the training is done, or starts from scratch."""
        self.file.unlink(missing_ok=True)
        self.runs = {}


def _read(file: Path) -> dict[str, RunState]:
    try:
        return RUNS.validate_python(store.read_json(file))
    except ValidationError as error:
        raise UserError(f"{file} is damaged: {error.errors()[0]['msg']}", "delete it; its training starts from scratch") from None


_owner: ContextVar[str] = ContextVar("owner", default="")


@contextmanager
def owned_by(owner: str) -> Iterator[None]:
    """Assign trainings started in this block to an owner: two trials of a sweep with equal settings get separate runs."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


@contextmanager
def lock_training(folder: Path, key: str, patience: float) -> Iterator[Training]:
    """Yield the training with this key under its lock. Its file stays unless the block calls `forget`.

    Raises:
        HeldError: if another process still holds it after `patience` seconds.

    """
    name = training_key(key, _owner.get()) if _owner.get() else key
    file = folder / "in_progress" / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(file.with_suffix(".lock"))
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise LockedError("this training is running in another process", "wait for it, or stop it; then start again") from None
    try:
        yield Training(file)
    finally:
        lock.release()


@contextmanager
def reserve(folder: Path, ids: set[str]) -> Iterator[Callable[[], None]]:
    """Hold the locks of the unfinished trainings that know any of these ids and tokens, so that no process resumes them.

    Yield a function that makes these trainings forget the runs.

    Raises:
        LockedError: if a process is training one of them.

    """
    with ExitStack() as locks:
        files = [file for file in sorted((folder / "in_progress").glob("*.json")) if _knows(file, ids)]
        for file in files:
            lock = FileLock(file.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise LockedError("a process has just resumed one of these runs", "repeat the command") from None
            locks.callback(lock.release)

        def forget() -> None:
            for file in files:
                if file.is_file():
                    Training(file).forget_runs(ids)

        yield forget


def _knows(file: Path, ids: set[str]) -> bool:
    with suppress(FileNotFoundError):  # the training ended in between
        return not ids.isdisjoint(_ids_and_tokens(_read(file).values()))
    return False


def stale_runs(folder: Path) -> Iterator[str]:
    """Yield the ids of unfinished runs that no process holds. Each stays locked until the loop has processed it."""
    for training in _unlocked_trainings(folder):
        yield from training.run_ids


def pending_runs(folder: Path) -> Iterator[str]:
    """Yield the tokens of runs whose process died while opening them. Delete each after the loop has processed it."""
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


def known_ids_and_tokens(folder: Path) -> set[str]:
    """Return ids and tokens of the runs of all trainings in progress, whether a process holds them or not."""
    known: set[str] = set()
    for file in (folder / "in_progress").glob("*.json"):
        with suppress(FileNotFoundError):  # the training ended in between
            known |= _ids_and_tokens(_read(file).values())
    return known


def _ids_and_tokens(states: Iterable[RunState]) -> set[str]:
    return {value for state in states for value in (state.token, state.run_id) if value is not None}


def active_run_ids(folder: Path) -> set[str]:
    """Return the ids of the runs that live processes are training."""
    return {state.run_id for state in _active_runs(folder) if state.run_id is not None}


def active_ids_and_tokens(folder: Path) -> set[str]:
    """Return the ids of the runs in training, and the tokens of runs in training or about to be opened."""
    return _ids_and_tokens(_active_runs(folder))


def _active_runs(folder: Path) -> Iterator[RunState]:
    """Yield the state of each run of a training whose lock a process holds."""
    for file in sorted((folder / "in_progress").glob("*.json")):
        lock = FileLock(file.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            with suppress(FileNotFoundError):  # the training ended in between
                yield from _read(file).values()
        else:
            lock.release()
