"""A sweep's study in Optuna: its trials, in a database that outlives every process; who has taken which trial."""

import itertools
import json
import math
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, TrialState

from reprise.config.compose import validated
from reprise.config.sweep import Choice, FloatRange, IntRange, Sweep
from reprise.data import store
from reprise.errors import UserError

optuna.logging.set_verbosity(optuna.logging.ERROR)

SPEC, CONF, TOKEN, PLACE, ERROR, STARTS, LIMITS, THREADS = (
    "sweep",
    "conf",
    "token",
    "place",
    "error",
    "starts",
    "limits",
    "threads",
)
"""Attributes of a study and of its trials."""
TRIES = 3
"""Processes that may die of one trial before it counts as failed."""
OVER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


@dataclass(frozen=True)
class Standing:
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

    def look(self) -> Standing:
        """How it stands now."""
        every = self.optuna.get_trials(deepcopy=False)
        ours = [trial for trial in every if trial.number < self.sweep.n_trials]  # two machines at the last one make one too many
        return Standing(ours, self.sweep.max_failures)

    def has_free(self, standing: Standing) -> bool:
        """Whether a worker here would find a trial to take."""
        return any(trial.state == TrialState.WAITING or self._held_if_orphan(trial, release=True) for trial in standing.left)

    def _held_if_orphan(self, trial: FrozenTrial, release: bool = False) -> FileLock | None:
        """The lock on a trial that was taken here, by a process that is no more."""
        lock = self._lock(trial.number)
        if trial.state == TrialState.RUNNING and trial.user_attrs.get(PLACE, self.place) == self.place:
            with suppress(Timeout):
                lock.acquire(timeout=0)
                is_orphan = (
                    self.look().trials[trial.number].state == TrialState.RUNNING
                )  # it may have ended since it was looked at
                if release or not is_orphan:
                    lock.release()
                return lock if is_orphan else None
        return None

    @contextmanager
    def take(self) -> Iterator[Trial | None]:
        """The next trial, for this process alone: one whose process died, else one that waits; None: there is no other.

        The lock on a trial is the operating system's, so the death of a process frees it. Trials that were taken elsewhere are
        left to those there.
        """
        with FileLock(self.folder / "take.lock"):
            standing = self.look()
            trial, lock = (standing.is_unfinished and (self._orphan(standing) or self._waiting(standing))) or (None, None)
        try:
            yield trial
        finally:
            if lock:
                lock.release()

    def _orphan(self, standing: Standing) -> tuple[Trial, FileLock] | None:
        for frozen in standing.of(TrialState.RUNNING):
            if lock := self._held_if_orphan(frozen):
                trial = Trial(self.optuna, frozen._trial_id)
                starts = frozen.user_attrs.get(STARTS, 1) + 1
                if starts <= TRIES:
                    trial.set_user_attr(STARTS, starts)
                    return trial, lock
                fail(self, trial, f"{TRIES} processes died of it")
                lock.release()
        return None

    def _waiting(self, standing: Standing) -> tuple[Trial, FileLock] | None:
        if not standing.of(TrialState.WAITING):
            return None
        trial = self.optuna.ask()
        if trial.number >= self.sweep.n_trials:  # another machine was faster: Optuna has made one too many
            self.optuna.tell(trial, state=TrialState.FAIL)
            return None
        lock = self._lock(trial.number)
        lock.acquire()
        trial.set_user_attr(PLACE, self.place)
        return trial, lock

    def _lock(self, number: int) -> FileLock:
        return FileLock(self.folder / f"trial-{number}.lock")

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
        """The best trial, or, of several objectives, those that no other beats in all; only those within the limits."""
        done = self.look().of(TrialState.COMPLETE)
        fit = [trial for trial in done if all(over <= 0 for over in trial.user_attrs.get(LIMITS, []))]
        signs = [1 if objective.direction == "minimize" else -1 for objective in self.sweep.objectives]
        costs = {trial.number: [sign * value for sign, value in zip(signs, trial.values, strict=True)] for trial in fit}
        if len(signs) == 1:
            return sorted(fit, key=lambda trial: (costs[trial.number][0], trial.number))[:1]
        return [trial for trial in fit if not any(_beats(other, costs[trial.number]) for other in costs.values())]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and list(one) != list(other)


def fail(study: Study, trial: Trial, reason: str) -> None:
    """A trial that failed, and why."""
    trial.set_user_attr(ERROR, reason[:500])
    study.optuna.tell(trial, state=TrialState.FAIL)


def address(folder: Path, storage: str | None) -> str:
    """Of the database of studies: under mlruns/, or as given."""
    return storage or f"sqlite:///{(folder / 'sweeps.db').resolve()}"


def begin(sweep: Sweep, root: Path, folder: Path, storage: str | None) -> Study:
    """A new study, or the one of this name if it was begun as the same sweep.

    All its trials wait in it from the start, so their number is exact whoever dies. conf/ is kept in it: editing a file changes
    nothing that waits.

    Raises:
        UserError: when another sweep of this name was begun.

    """
    with FileLock(store.made(folder / "sweeps") / "begin.lock"):
        directions = [objective.direction for objective in sweep.objectives]
        opened = optuna.create_study(
            storage=_connect(address(folder, storage), folder),
            study_name=sweep.name,
            directions=directions,
            load_if_exists=True,
        )
        if SPEC not in opened.user_attrs:
            conf = {str(file.relative_to(root)): file.read_text("utf-8") for file in sorted((root / "conf").rglob("*.yaml"))}
            opened.set_user_attr(CONF, json.dumps(conf))
            opened.set_user_attr(TOKEN, uuid.uuid4().hex)
            opened.set_user_attr(SPEC, sweep.model_dump_json())
        begun = _spec(opened)
        if begun != sweep:
            changed = next(key for key in Sweep.model_fields if getattr(begun, key) != getattr(sweep, key))
            raise UserError(
                f"a sweep {sweep.name} was begun with another {changed}",
                f"say name=NEW for a new one, or `reprise sweep sweep={sweep.name} resume` to go on with that",
            )
        for number in range(len(opened.get_trials(deepcopy=False)), sweep.n_trials):
            opened.enqueue_trial(_combination(sweep, number) if sweep.sampler.kind == "grid" else {})
    return load(sweep.name, folder, storage)


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
    opened.pruner = make_pruner(sweep)
    return Study(opened, sweep, ours, _place(ours))


def _place(folder: Path) -> str:
    file = folder / "place"
    with FileLock(folder / "place.lock"):
        if not file.is_file():
            store.write_atomically(file, uuid.uuid4().hex.encode())
        return file.read_text()


def _combination(sweep: Sweep, number: int) -> dict[str, Any]:
    """The values of a trial of a grid, the last key changing fastest; after the last combination comes the first."""
    values = [part.values for part in sweep.space.values() if isinstance(part, Choice)]
    every = list(itertools.product(*values))
    return dict(zip(sweep.space, every[number % len(every)], strict=True))


def _spec(opened: optuna.Study) -> Sweep:
    return validated(Sweep, json.loads(opened.user_attrs[SPEC]), f"the study {opened.study_name}")


def _connect(uri: str, folder: Path) -> optuna.storages.BaseStorage:
    """Of several processes one makes the tables; a database file waits for its turn instead of failing."""
    waiting = {"connect_args": {"timeout": 100}} if uri.startswith("sqlite") else {"pool_pre_ping": True}
    with FileLock(store.made(folder / "sweeps") / "storage.lock"):
        return optuna.storages.RDBStorage(uri, engine_kwargs=waiting)


def make_sampler(sweep: Sweep, number: int, turn: int) -> BaseSampler:
    """The sampler as it stands before the draw of a trial that has this turn."""
    wanted, seed = sweep.sampler, (sweep.sampler.seed * 100_003 + number) * 1_009 + turn

    def over(trial: FrozenTrial) -> Sequence[float]:
        return list(trial.user_attrs.get(LIMITS, [0.0]))

    limits = over if sweep.limits else None
    kinds: dict[str, Any] = {
        "tpe": lambda: optuna.samplers.TPESampler(
            n_startup_trials=wanted.startup, seed=seed, multivariate=True, group=True, constraints_func=limits
        ),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(n_startup_trials=max(1, wanted.startup), seed=seed),
        "gp": lambda: optuna.samplers.GPSampler(n_startup_trials=max(1, wanted.startup), seed=seed, constraints_func=limits),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "grid": lambda: optuna.samplers.RandomSampler(seed=seed),  # `begin` has fixed every value
        "sobol": lambda: optuna.samplers.QMCSampler(qmc_type="sobol", scramble=True, seed=wanted.seed),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: BaseSampler = kinds[wanted.kind]()
    return made


def make_pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    """What decides when a trial is given up."""
    wanted = sweep.pruner
    first = max(1, wanted.warmup)
    kinds: dict[str, Any] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=wanted.startup, n_warmup_steps=wanted.warmup),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(min_resource=first, reduction_factor=wanted.reduction),
        "asha": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=wanted.reduction),
        "wilcoxon": lambda: optuna.pruners.WilcoxonPruner(n_startup_steps=2),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: optuna.pruners.BasePruner = kinds[wanted.kind]()
    return made


def is_finite(values: Sequence[float]) -> bool:
    """Whether a trial can be judged by them."""
    return all(math.isfinite(value) for value in values)
