"""A sweep's study in Optuna: its trials, in a database that outlives every process; who has taken which trial."""

import json
import math
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from reprise.config.compose import validated
from reprise.config.space import FloatRange, IntRange, combinations
from reprise.config.sweep import Sweep
from reprise.data import store
from reprise.errors import UserError, without_login
from reprise.sweeps.samplers import make_pruner, make_sampler
from reprise.tracking.address import checked, database, database_address

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPEC, CONF, TOKEN, ARRAYS = "sweep", "conf", "token", "sha256.processed/"
"""Attributes of a study; the last one begins the attributes with the hash of each data set's arrays."""
PLACE, LAST_HEARTBEAT, STARTS, THREADS, GIVEN_UP, ERROR = "place", "heard", "starts", "threads", "given up", "error"
"""Attributes of a trial; of the study, the place where it was begun."""
BEGAN = "began"
"""Attribute of a trial: when it was first taken, in seconds since 1970 UTC, as `HEARD` is. Optuna's own `datetime_start` is the
local time of the machine that took it, without its time zone."""
TRIES = 3
"""Processes that may die of one trial, with no epoch between, before it counts as failed."""
BEAT, LOST = 60.0, 900.0
"""Seconds between two signs of life of a trial that is trained; how long there is none until its machine counts as lost."""
WIDEST_OFFSET = 26 * 3600.0
"""Seconds between the clocks of the two time zones that are furthest apart."""
FILLED_WITHIN = 60.0
"""Seconds to wait for another machine that begins a sweep."""
MAKING_TABLES = 5.0
"""Seconds to wait for another machine that makes the tables of the database."""
OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class StudySnapshot:
    """How a sweep stands at one moment: to read all trials is what looking costs."""

    trials: list[FrozenTrial]
    max_failures: int

    def of(self, *states: TrialState) -> list[FrozenTrial]:
        """Trials in these states."""
        return [trial for trial in self.trials if trial.state in states]

    @property
    def failures(self) -> list[FrozenTrial]:
        """Trials that failed."""
        return self.of(TrialState.FAIL)

    @property
    def left(self) -> list[FrozenTrial]:
        """Trials that wait, or were taken and did not end."""
        return self.of(TrialState.WAITING, TrialState.RUNNING)

    @property
    def is_unfinished(self) -> bool:
        """Whether there is something to do, and not too much has failed."""
        return bool(self.left) and len(self.failures) <= self.max_failures


@dataclass(frozen=True)
class Study:
    """An open study, and the folder where its trials are taken and its frozen conf/ lies: one for workers that share disks."""

    optuna: optuna.Study
    sweep: Sweep
    folder: Path
    place: str
    """A name of that folder that no other has."""

    @property
    def token(self) -> str:
        """By which the run of the whole sweep is found."""
        return str(self.optuna.user_attrs[TOKEN])

    def look(self) -> StudySnapshot:
        """How it stands now."""
        return StudySnapshot(self.optuna.get_trials(deepcopy=False), self.sweep.max_failures)

    def has_free(self, standing: StudySnapshot) -> bool:
        """Whether a worker here would find a trial to take."""
        return any(trial.state == TrialState.WAITING or self._is_orphan(trial) for trial in standing.left)

    @contextmanager
    def take(self) -> Iterator[Trial | None]:
        """The next trial, for this process alone: one whose process died, else one that waits; None: there is no other.

        The lock on a trial is the operating system's, so the death of a process frees it. Trials that were taken elsewhere are
        left to those there, as long as they are heard of.
        """
        with FileLock(self.folder / "take.lock"):
            standing = self.look()
            trial, lock = (standing.is_unfinished and (self._orphan(standing) or self._waiting(standing))) or (None, None)
        try:
            with _signs_of_life(trial) if trial else nullcontext():
                yield trial
        finally:
            if lock:
                lock.release()

    def _is_orphan(self, trial: FrozenTrial) -> bool:
        """Whether the process that took a trial is no more. Here its lock tells; elsewhere, that nothing was heard of it."""
        if trial.state != TrialState.RUNNING:
            return False
        lock = self._lock(trial.number)
        taken_here = trial.user_attrs.get(PLACE) == self.place if PLACE in trial.user_attrs else Path(lock.lock_file).is_file()
        if not taken_here:
            if LAST_HEARTBEAT not in trial.user_attrs:  # its process may have died before the first heartbeat: count from now on
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    self._opened(trial).set_user_attr(LAST_HEARTBEAT, time.time())
                return False
            return bool(time.time() - trial.user_attrs[LAST_HEARTBEAT] > LOST)
        with suppress(Timeout), lock.acquire(timeout=0):
            return self.look().trials[trial.number].state == TrialState.RUNNING  # it may have ended since it was looked at
        return False

    def _orphan(self, standing: StudySnapshot) -> tuple[Trial, FileLock] | None:
        for frozen in filter(self._is_orphan, standing.left):
            trial, lock = self._opened(frozen), self._lock(frozen.number)
            starts = frozen.user_attrs.get(STARTS, 1) + 1
            if starts <= TRIES:
                lock.acquire()
                trial.set_user_attr(STARTS, starts)
                self._note_taken(trial)
                return trial, lock
            fail(self, trial, f"{TRIES} processes died of it")
        return None

    def _waiting(self, standing: StudySnapshot) -> tuple[Trial, FileLock] | None:
        """As `optuna.Study.ask` does, which would make one trial more when another machine is faster at the last."""
        for frozen in standing.of(TrialState.WAITING):
            lock = self._lock(frozen.number)
            lock.acquire()  # first: of a trial that was killed before its place was noted, the lock shows where that is
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                if self.optuna._storage.set_trial_state_values(frozen._trial_id, TrialState.RUNNING):
                    trial = self._opened(frozen)
                    trial.set_user_attr(BEGAN, time.time())
                    self._note_taken(trial)
                    return trial, lock
            lock.release()
            Path(lock.lock_file).unlink()
        return None

    def _note_taken(self, trial: Trial) -> None:
        """Write the first heartbeat, before other machines can look for one, and where the trial is trained."""
        trial.set_user_attr(LAST_HEARTBEAT, time.time())
        trial.set_user_attr(PLACE, self.place)

    def _opened(self, trial: FrozenTrial) -> Trial:
        """A trial to go on with, in the light of all that have ended by now."""
        self.optuna._thread_local.cached_all_trials = None
        return Trial(self.optuna, trial._trial_id)

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number}.lock")

    def demand_same_arrays(self, arrays: Path) -> None:
        """Record the hash of the arrays of a data set at its first use, and demand the same one later.

        Raises:
            UserError: when they changed since: trials on different data cannot be ranked.

        """
        if not (arrays / store.MANIFEST).is_file():  # not made yet
            return
        key, found = f"{ARRAYS}{arrays.name}", store.digest(arrays)
        known = self.optuna.user_attrs.get(key)
        if known is None:
            self.optuna.set_user_attr(key, found)
        elif known != found:
            raise UserError(
                f"sweep {self.sweep.name} was begun with other data: {arrays} changed since",
                "restore it, or say name=NEW for a new sweep",
            )

    def choose(self, trial: Trial) -> dict[str, Any]:
        """The values of a trial.

        The sampler is seeded anew for each, so that with one worker they depend on the sweep's seed, the trial's number and the
        trials before it, and on nothing else: a kill changes none, not even one between two values.
        """
        self.optuna.sampler = make_sampler(self.sweep, trial.number, 0)
        _ = trial.relative_params  # drawn together, before the first is kept
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
        """The best trial, or, of several objectives, those that no other beats in all; only those within the limits.

        By the first objective.
        """
        done = self.look().of(TrialState.COMPLETE)
        fit = [trial for trial in done if all(over <= 0 for over in trial.constraints.values())]
        signs = [1 if objective.direction == "minimize" else -1 for objective in self.sweep.objectives]
        costs = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in fit}
        ranked = sorted(fit, key=lambda trial: (costs[trial.number][0], trial.number))
        if len(signs) == 1:
            return ranked[:1]
        return [trial for trial in ranked if not any(_beats(other, costs[trial.number]) for other in costs.values())]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


@contextmanager
def _signs_of_life(trial: Trial) -> Iterator[None]:
    """While a trial is trained, the study hears of it now and then."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            with suppress(optuna.exceptions.OptunaError):  # it has ended, or the database is away for a while
                trial.set_user_attr(LAST_HEARTBEAT, time.time())

    threading.Thread(target=beat, name="signs of life", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def began(trial: Trial) -> float:
    """When a trial was first taken, in seconds since 1970 UTC."""
    if BEGAN in trial.user_attrs:
        return float(trial.user_attrs[BEGAN])
    assert trial.datetime_start is not None  # begun by an older version, in the time zone of its machine
    return trial.datetime_start.timestamp() - WIDEST_OFFSET


def came_on(trial: Trial) -> None:
    """A trial that is stopped, or has trained an epoch, kills no process."""
    if trial.user_attrs.get(STARTS) != 0:
        trial.set_user_attr(STARTS, 0)


def fail(study: Study, trial: Trial, reason: str) -> None:
    """A trial that failed, and why."""
    trial.set_user_attr(ERROR, reason[:500])
    study.optuna.tell(trial, state=TrialState.FAIL)


def address(folder: Path, storage: str | None) -> str:
    """Of the database of studies: under mlruns/, or as given.

    Raises:
        UserError: when the given one is malformed, relative, or needs a driver that is not installed.

    """
    return checked(storage, "storage", for_runs=False) if storage else database_address(folder / "sweeps.db")


def begin(sweep: Sweep, root: Path, folder: Path, storage: str | None) -> Study:
    """A new study, or the one of this name if it was begun as the same sweep.

    All its trials wait in it from the start, so their number is exact whoever dies. conf/ is kept in it: editing a file changes
    nothing that waits.

    Raises:
        UserError: when another sweep of this name was begun.

    """
    place = _place(store.made(folder / "sweeps" / sweep.name))
    with FileLock(folder / "sweeps" / "begin.lock"):
        where: dict[str, Any] = {"study_name": sweep.name, "storage": _connect(address(folder, storage), folder)}
        try:
            opened = optuna.create_study(**where, directions=[objective.direction for objective in sweep.objectives])
            opened.set_user_attr(PLACE, place)
        except optuna.exceptions.DuplicatedStudyError:
            opened = optuna.load_study(**where)
        if storage is None or opened.user_attrs.get(PLACE) == place:
            _fill(opened, sweep, root)
        else:
            _wait_until_filled(opened, sweep)
        begun = _spec(opened)
        if begun != sweep:
            changed = next(key for key in Sweep.model_fields if getattr(begun, key) != getattr(sweep, key))
            raise UserError(
                f"a sweep {sweep.name} was begun with another {changed}",
                f"say name=NEW for a new one, or `reprise sweep sweep={sweep.name} resume` to go on with that",
            )
    return load(sweep.name, folder, storage)


def _fill(opened: optuna.Study, sweep: Sweep, root: Path) -> None:
    """Write down what the sweep is, and let its trials wait; what stands there already is left as it is."""
    if SPEC not in opened.user_attrs:
        conf = {str(file.relative_to(root)): file.read_text("utf-8") for file in sorted((root / "conf").rglob("*.yaml"))}
        opened.set_user_attr(CONF, json.dumps(conf))
        opened.set_user_attr(TOKEN, uuid.uuid4().hex)
        opened.set_user_attr(SPEC, sweep.model_dump_json())
    _enqueue(opened, _spec(opened))


def _wait_until_filled(opened: optuna.Study, sweep: Sweep) -> None:
    """Another machine begins it at this moment, or began it before."""
    until = time.monotonic() + FILLED_WITHIN
    while SPEC not in opened.user_attrs or len(opened.get_trials(deepcopy=False)) < _spec(opened).n_trials:
        if time.monotonic() > until:
            raise UserError(
                f"sweep {sweep.name} was cut short while it was begun", "say the same again where that was, or name=NEW"
            )
        time.sleep(0.5)


def extend(study: Study, changes: Mapping[str, Any]) -> Study:
    """The study with more trials, or more that may fail.

    Raises:
        UserError: when it would have fewer trials.

    """
    asked = validated(Sweep, {**study.sweep.model_dump(), **changes}, "what resume was asked")
    if asked.n_trials < study.sweep.n_trials:
        raise UserError(f"n_trials={asked.n_trials}: sweep {asked.name} was begun with {study.sweep.n_trials}", "ask for more")
    with FileLock(study.folder / "take.lock"):
        study.optuna.set_user_attr(SPEC, asked.model_dump_json())
        _enqueue(study.optuna, asked)
    return replace(study, sweep=asked)


def _enqueue(opened: optuna.Study, sweep: Sweep) -> None:
    """Let every trial wait that does not yet, those with values of their own before the others."""
    values = combinations(sweep.space) if sweep.sampler.kind == "grid" else sweep.first
    for number in range(len(opened.get_trials(deepcopy=False)), sweep.n_trials):
        opened.enqueue_trial(values[number] if number < len(values) else {})


def exists(name: str, folder: Path, storage: str | None) -> bool:
    """Whether a sweep of this name was begun."""
    known = optuna.get_all_study_names(_connect(address(folder, storage), folder))
    return name in known


def load(name: str, folder: Path, storage: str | None) -> Study:
    """A study that was begun.

    Raises:
        UserError: when there is none of this name.

    """
    try:
        opened = optuna.load_study(study_name=name, storage=_connect(address(folder, storage), folder))
    except KeyError:
        raise UserError(f"no sweep {name} was begun", f"`reprise sweep sweep={name}` begins it") from None
    if SPEC not in opened.user_attrs:
        raise UserError(f"sweep {name} was cut short while it was begun", "say the same again without resume")
    sweep = _spec(opened)
    ours = store.made(folder / "sweeps" / name)
    for file, text in json.loads(opened.user_attrs[CONF]).items():
        place = ours / file
        if not place.is_file() or place.read_text("utf-8") != text:
            store.write_atomically(store.made(place.parent) / place.name, text.encode())
    opened.pruner = make_pruner(sweep, sweep.config(ours, {}).trainer.max_epochs * sweep.seeds)
    return Study(opened, sweep, ours, _place(ours))


def _place(folder: Path) -> str:
    file = folder / "place"
    with FileLock(folder / "place.lock"):
        if not file.is_file():
            store.write_atomically(file, uuid.uuid4().hex.encode())
        return file.read_text()


def _spec(opened: optuna.Study) -> Sweep:
    return validated(Sweep, json.loads(opened.user_attrs[SPEC]), f"the study {opened.study_name}")


def _connect(uri: str, folder: Path) -> optuna.storages.BaseStorage:
    """Of several processes one makes the tables; a database file waits for its turn instead of failing."""
    waiting = {"connect_args": {"timeout": 100}} if database(uri) else {"pool_pre_ping": True}
    with FileLock(store.made(folder / "sweeps") / "storage.lock"):
        try:
            with suppress(IntegrityError, OperationalError):  # another machine makes the tables at the same moment
                return optuna.storages.RDBStorage(uri, engine_kwargs=waiting)
            time.sleep(MAKING_TABLES)
            return optuna.storages.RDBStorage(uri, engine_kwargs=waiting)
        except SQLAlchemyError as error:
            reason, shown = without_login(str(error).split("\n")[0])[:200], uri.partition("?")[0]
            raise UserError(f"the database of sweeps {shown} fails: {reason}", "start it, or set storage") from error


def is_finite(values: Sequence[float]) -> bool:
    """Whether a trial can be judged by them."""
    return all(math.isfinite(value) for value in values)
