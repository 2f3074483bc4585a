"""Adapter of Optuna's storage: the only module that uses trial ids, trial states and the constructor of `optuna.trial.Trial`.

`Study.ask` creates a new trial if none waits, and cannot open a trial that another process started. Both need methods of
`RDBStorage` that Optuna documents for developers of storages. tests/sweeps/test_optuna_storage.py fails if a new version changes
them.
"""

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock
from optuna.storages import RDBStorage
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from reprise.data import store
from reprise.errors import UserError, without_login
from reprise.tracking.address import database

TABLES_TIMEOUT = 5.0
"""Seconds to wait while another machine creates the tables of the database."""


@dataclass(frozen=True)
class StoredStudy:
    """An Optuna study and the database that holds it."""

    study: optuna.Study
    storage: RDBStorage

    def start_waiting_trial(self, number: int) -> bool:
        """Change a trial from WAITING to RUNNING. Return whether this process did so; False if another one was faster."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):  # another process has even finished it
            return self.storage.set_trial_state_values(self._trial_id(number), TrialState.RUNNING)
        return False

    def open_trial(self, number: int) -> Trial:
        """Return a trial for reading and writing, also one that another process started. `study` must have read its trials."""
        return Trial(self.study, self._trial_id(number))

    def _trial_id(self, number: int) -> int:
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        return self.storage.get_trial_id_from_study_id_trial_number(study_id, number)


def connect(uri: str, folder: Path) -> RDBStorage:
    """Open a sweep database. A lock lets one process create the tables; SQLite waits for its lock instead of failing.

    Raises:
        UserError: if the database cannot be reached.

    """
    options = {"connect_args": {"timeout": 100}} if database(uri) else {"pool_pre_ping": True}
    with FileLock(store.made(folder / "sweeps") / "storage.lock"):
        try:
            with suppress(IntegrityError, OperationalError):  # another machine creates the tables at the same time
                return RDBStorage(uri, engine_kwargs=options)
            time.sleep(TABLES_TIMEOUT)
            return RDBStorage(uri, engine_kwargs=options)
        except SQLAlchemyError as error:
            reason, shown = without_login(str(error).split("\n")[0])[:200], uri.partition("?")[0]
            raise UserError(f"the database of sweeps {shown} fails: {reason}", "start it, or set storage") from error


def create(storage: RDBStorage, name: str, directions: Sequence[Literal["minimize", "maximize"]]) -> StoredStudy | None:
    """Create a study; return None if one of this name exists."""
    try:
        return StoredStudy(optuna.create_study(storage=storage, study_name=name, directions=directions), storage)
    except optuna.exceptions.DuplicatedStudyError:
        return None


def load(storage: RDBStorage, name: str) -> StoredStudy:
    """Load a study.

    Raises:
        KeyError: if there is none of this name.

    """
    return StoredStudy(optuna.load_study(study_name=name, storage=storage), storage)
