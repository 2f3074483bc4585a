"""The Optuna study of a sweep: it assigns trials to workers, and ranks them."""

import math
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState

from reprise.config.space import FloatRange, IntRange
from reprise.config.sweep import Sweep
from reprise.data import store
from reprise.errors import UserError
from reprise.sweeps.optuna_storage import StoredStudy
from reprise.sweeps.samplers import make_sampler

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPEC, CONF, TOKEN, ARRAYS = "sweep", "conf", "token", "sha256.processed/"
"""User attributes of a study. The last is a prefix: one attribute per data set holds the hash of its arrays."""
FOLDER_ID, LAST_HEARTBEAT, STARTS, THREADS, PRUNED_AT, ERROR = "place", "last_heartbeat", "starts", "threads", "pruned", "error"
"""User attributes of a trial. A study has FOLDER_ID too: the id of the folder where it was created."""
FIRST_STARTED = "began"
"""User attribute of a trial: when a worker first took it, in seconds since 1970 UTC, like `LAST_HEARTBEAT`. Optuna's own
`datetime_start` is the worker's local time without a time zone."""
OLD_NAMES = {LAST_HEARTBEAT: "heard", PRUNED_AT: "given up"}
"""Names of user attributes in studies of earlier versions."""
MAX_STARTS = 3
"""Number of times a trial is started before it counts as failed, if no start completes an epoch."""
HEARTBEAT_SECONDS, LOST_AFTER_SECONDS = 60.0, 900.0
"""Seconds between two heartbeats of a running trial, and without one until its machine counts as lost."""
MAX_TIMEZONE_DIFFERENCE = 26 * 3600.0
"""Seconds between the local times of the two time zones that are furthest apart."""
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class StudySnapshot:
    """The trials of a sweep at one moment. Taking a snapshot reads all trials, so it is expensive."""

    trials: list[FrozenTrial]
    max_failures: int

    def in_state(self, *states: TrialState) -> list[FrozenTrial]:
        """Return the trials in these states."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def failures(self) -> list[FrozenTrial]:
        """The failed trials."""
        return self.in_state(TrialState.FAIL)

    @property
    def unfinished(self) -> list[FrozenTrial]:
        """The trials that wait or run."""
        return self.in_state(TrialState.WAITING, TrialState.RUNNING)

    @property
    def is_unfinished(self) -> bool:
        """Whether trials remain and not too many have failed."""
        return bool(self.unfinished) and len(self.failures) <= self.max_failures


@dataclass(frozen=True)
class Study:
    """An open study and its folder, which holds the trials' locks and the frozen conf/. Workers that share disks share it."""

    stored: StoredStudy
    sweep: Sweep
    folder: Path
    folder_id: str
    """A unique id of the folder."""

    @property
    def optuna(self) -> optuna.Study:
        """The study of Optuna."""
        return self.stored.study

    @property
    def token(self) -> str:
        """The token that identifies the sweep's parent run."""
        return str(self.optuna.user_attrs[TOKEN])

    def snapshot(self) -> StudySnapshot:
        """Read all trials from the database."""
        return StudySnapshot(self.optuna.get_trials(deepcopy=False), self.sweep.max_failures)

    def has_available_trial(self, snapshot: StudySnapshot) -> bool:
        """Return whether a worker here would find a trial to take."""
        return any(trial.state == TrialState.WAITING or self._is_stale(trial) for trial in snapshot.unfinished)

    @contextmanager
    def claim_trial(self) -> Iterator[Trial | None]:
        """Yield the next trial, reserved for this process: a stale one, else a waiting one, else None.

        The operating system releases a trial's lock when its process dies. A trial that was taken in another folder is left to
        the workers there while its heartbeats continue.
        """
        with FileLock(self.folder / "take.lock"):
            snapshot = self.snapshot()
            taken = (self._claim_stale(snapshot) or self._claim_waiting(snapshot)) if snapshot.is_unfinished else None
            trial, lock = taken or (None, None)
        try:
            with _heartbeats(trial) if trial else nullcontext():
                yield trial
        finally:
            if lock:
                lock.release()

    def _is_stale(self, trial: FrozenTrial) -> bool:
        """Return whether the process of a running trial is dead: by its lock in this folder, by its heartbeat elsewhere."""
        if trial.state != TrialState.RUNNING:
            return False
        lock = self._lock(trial.number)
        taken_here = (
            trial.user_attrs.get(FOLDER_ID) == self.folder_id if FOLDER_ID in trial.user_attrs else Path(lock.lock_file).is_file()
        )
        if not taken_here:
            heartbeat = attribute(trial, LAST_HEARTBEAT)
            if heartbeat is None:  # its process may have died before the first heartbeat: count from now on
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    self.stored.open_trial(trial.number).set_user_attr(LAST_HEARTBEAT, time.time())
                return False
            return bool(time.time() - heartbeat > LOST_AFTER_SECONDS)
        with suppress(Timeout), lock.acquire(timeout=0):
            return self.snapshot().trials[trial.number].state == TrialState.RUNNING  # it may have ended since the snapshot
        return False

    def _claim_stale(self, snapshot: StudySnapshot) -> tuple[Trial, FileLock] | None:
        for frozen in filter(self._is_stale, snapshot.unfinished):
            trial, lock = self.stored.open_trial(frozen.number), self._lock(frozen.number)
            starts = frozen.user_attrs.get(STARTS, 1) + 1
            if starts <= MAX_STARTS:
                lock.acquire()
                trial.set_user_attr(STARTS, starts)
                self._record_claim(trial)
                return trial, lock
            fail(self, trial, f"{MAX_STARTS} processes died while training it")
        return None

    def _claim_waiting(self, snapshot: StudySnapshot) -> tuple[Trial, FileLock] | None:
        """Take a waiting trial. `optuna.Study.ask` would create an extra one if another machine takes the last one first."""
        for frozen in snapshot.in_state(TrialState.WAITING):
            lock = self._lock(frozen.number)
            lock.acquire()  # first: if the process is killed before it records FOLDER_ID, the lock file shows the folder
            if self.stored.start_waiting_trial(frozen.number):
                trial = self.stored.open_trial(frozen.number)
                trial.set_user_attr(FIRST_STARTED, time.time())
                self._record_claim(trial)
                return trial, lock
            lock.release()
            Path(lock.lock_file).unlink()
        return None

    def _record_claim(self, trial: Trial) -> None:
        """Write the first heartbeat, before other machines can check for one, and the folder of the trial."""
        trial.set_user_attr(LAST_HEARTBEAT, time.time())
        trial.set_user_attr(FOLDER_ID, self.folder_id)

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number}.lock")

    def check_same_arrays(self, arrays: Path) -> None:
        """Record the hash of a data set's arrays at its first use, and check it later.

        Raises:
            UserError: if the arrays changed, as trials on different data cannot be ranked.

        """
        if not (arrays / store.MANIFEST).is_file():  # not created yet
            return
        key, digest = f"{ARRAYS}{arrays.name}", store.digest(arrays)
        recorded = self.optuna.user_attrs.get(key)
        if recorded is None:
            self.optuna.set_user_attr(key, digest)
        elif recorded != digest:
            raise UserError(
                f"sweep {self.sweep.name} was started with other data: {arrays} changed since",
                "restore it, or use name=NEW for a new sweep",
            )

    def suggest(self, trial: Trial) -> dict[str, Any]:
        """Sample the values of a trial.

        The sampler is seeded again for each value. With one worker, values thus depend only on the sweep's seed, the trial's
        number and earlier trials. A kill changes none of them, not even between two values.
        """
        self.optuna.sampler = make_sampler(self.sweep, trial.number, 0)
        _ = trial.relative_params  # sample jointly, before the first value is stored
        chosen: dict[str, Any] = {}
        for turn, (key, part) in enumerate(self.sweep.active(chosen), 1):
            self.optuna.sampler = make_sampler(self.sweep, trial.number, turn)
            if isinstance(part, FloatRange):
                chosen[key] = trial.suggest_float(key, part.low, part.high, log=part.log, step=part.step)
            elif isinstance(part, IntRange):
                chosen[key] = trial.suggest_int(key, part.low, part.high, log=part.log, step=part.step or 1)
            else:
                chosen[key] = trial.suggest_categorical(key, part.values)
        return chosen

    def best(self) -> list[FrozenTrial]:
        """Return the best trial, or the Pareto front sorted by the first objective. Trials beyond a limit are excluded."""
        done = self.snapshot().in_state(TrialState.COMPLETE)
        feasible = [trial for trial in done if all(excess <= 0 for excess in trial.constraints.values())]
        signs = [1 if objective.direction == "minimize" else -1 for objective in self.sweep.objectives]
        costs = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in feasible}
        ranked = sorted(feasible, key=lambda trial: (costs[trial.number][0], trial.number))
        if len(signs) == 1:
            return ranked[:1]
        return [trial for trial in ranked if not any(_dominates(other, costs[trial.number]) for other in costs.values())]


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


@contextmanager
def _heartbeats(trial: Trial) -> Iterator[None]:
    """Write a heartbeat periodically while a trial is trained."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(HEARTBEAT_SECONDS):
            with suppress(optuna.exceptions.OptunaError):  # the trial has ended, or the database is unreachable for a while
                trial.set_user_attr(LAST_HEARTBEAT, time.time())

    threading.Thread(target=beat, name="heartbeats", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def attribute(trial: Trial | FrozenTrial, name: str) -> Any:
    """Return a user attribute of a trial, also if an earlier version wrote it under its old name; None if there is none."""
    return trial.user_attrs.get(name, trial.user_attrs.get(OLD_NAMES.get(name, "")))


def start_time(trial: Trial) -> float:
    """Return when a trial was first taken, in seconds since 1970 UTC."""
    if FIRST_STARTED in trial.user_attrs:
        return float(trial.user_attrs[FIRST_STARTED])
    assert trial.datetime_start is not None  # taken by an older version, in its machine's local time
    return trial.datetime_start.timestamp() - MAX_TIMEZONE_DIFFERENCE


def reset_starts(trial: Trial) -> None:
    """Reset the count of starts, as a trial that was stopped or completed an epoch does not crash its process."""
    if trial.user_attrs.get(STARTS) != 0:
        trial.set_user_attr(STARTS, 0)


def fail(study: Study, trial: Trial, reason: str) -> None:
    """Mark a trial as failed, with the reason."""
    trial.set_user_attr(ERROR, reason[:500])
    study.optuna.tell(trial, state=TrialState.FAIL)


def is_finite(values: Sequence[float]) -> bool:
    """Return whether all values are finite, so that a trial can be ranked."""
    return all(math.isfinite(value) for value in values)
