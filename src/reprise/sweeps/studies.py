"""Create, load and extend the studies of sweeps."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock

from reprise.config import conf_files
from reprise.config.compose import validated
from reprise.config.space import combinations
from reprise.config.sweep import Sweep
from reprise.data import store
from reprise.errors import UserError
from reprise.sweeps import optuna_storage
from reprise.sweeps.samplers import make_pruner
from reprise.sweeps.study import CONF, FOLDER_ID, SPEC, TOKEN, Study
from reprise.tracking.address import checked, database_address

CREATION_TIMEOUT = 60.0
"""Seconds to wait while another machine creates the trials of a sweep."""


def address(folder: Path, storage: str | None) -> str:
    """Return the address of the study database: `storage`, else a file in `folder` (mlruns/).

    Raises:
        UserError: if `storage` is malformed, relative, or needs a driver that is not installed.

    """
    return checked(storage, "storage", for_runs=False) if storage else database_address(folder / "sweeps.db")


def create_or_load(sweep: Sweep, root: Path, folder: Path, storage: str | None) -> Study:
    """Create a study, or load the one of this name if it belongs to the same sweep.

    All trials are enqueued at the start, so that their number is exact whatever process dies. The study keeps a copy of conf/, so
    that later edits do not change waiting trials.

    Raises:
        UserError: if a different sweep of this name exists.

    """
    folder_id = _folder_id(store.made(folder / "sweeps" / sweep.name))
    with FileLock(folder / "sweeps" / "begin.lock"):
        connection = optuna_storage.connect(address(folder, storage), folder)
        created = optuna_storage.create(connection, sweep.name, [objective.direction for objective in sweep.objectives])
        opened = (created or optuna_storage.load(connection, sweep.name)).study
        if created:
            opened.set_user_attr(FOLDER_ID, folder_id)
        if storage is None or opened.user_attrs.get(FOLDER_ID) == folder_id:
            _fill(opened, sweep, root)
        else:
            _wait_until_filled(opened, sweep)
        existing = _spec(opened)
        if existing != sweep:
            changed = next(key for key in Sweep.model_fields if getattr(existing, key) != getattr(sweep, key))
            raise UserError(
                f"a sweep {sweep.name} was started with another {changed}",
                f"use name=NEW for a new one, or `reprise sweep sweep={sweep.name} resume` to resume that one",
            )
    return load(sweep.name, folder, storage)


def _fill(opened: optuna.Study, sweep: Sweep, root: Path) -> None:
    """Store the sweep's settings and enqueue its trials, unless they are stored already."""
    if SPEC not in opened.user_attrs:
        conf = {f"conf/{name}": file.read_text("utf-8") for name, file in conf_files.files(root)}
        opened.set_user_attr(CONF, json.dumps(conf))
        opened.set_user_attr(TOKEN, uuid.uuid4().hex)
        opened.set_user_attr(SPEC, sweep.model_dump_json())
    _enqueue(opened, _spec(opened))


def _wait_until_filled(opened: optuna.Study, sweep: Sweep) -> None:
    """Wait until another machine has created all trials."""
    deadline = time.monotonic() + CREATION_TIMEOUT
    while SPEC not in opened.user_attrs or len(opened.get_trials(deepcopy=False)) < _spec(opened).n_trials:
        if time.monotonic() > deadline:
            raise UserError(
                f"sweep {sweep.name} was interrupted while it was created", "run the same command again there, or use name=NEW"
            )
        time.sleep(0.5)


def extend(study: Study, changes: Mapping[str, Any]) -> Study:
    """Return the study with more trials, or with more allowed failures.

    Raises:
        UserError: if it would have fewer trials.

    """
    extended = validated(Sweep, {**study.sweep.model_dump(), **changes}, "what resume was extended")
    if extended.n_trials < study.sweep.n_trials:
        raise UserError(
            f"n_trials={extended.n_trials}: sweep {extended.name} was started with {study.sweep.n_trials}", "ask for more"
        )
    with FileLock(study.folder / "take.lock"):
        study.optuna.set_user_attr(SPEC, extended.model_dump_json())
        _enqueue(study.optuna, extended)
    return replace(study, sweep=extended)


def _enqueue(opened: optuna.Study, sweep: Sweep) -> None:
    """Enqueue the missing trials: first those with given values, then the others."""
    values = combinations(sweep.space) if sweep.sampler.kind == "grid" else sweep.first
    for number in range(len(opened.get_trials(deepcopy=False)), sweep.n_trials):
        opened.enqueue_trial(values[number] if number < len(values) else {})


def exists(name: str, folder: Path, storage: str | None) -> bool:
    """Return whether a sweep of this name exists."""
    return name in optuna.get_all_study_names(optuna_storage.connect(address(folder, storage), folder))


def load(name: str, folder: Path, storage: str | None) -> Study:
    """Load a study.

    Raises:
        UserError: if there is none of this name, or its creation was interrupted.

    """
    try:
        stored = optuna_storage.load(optuna_storage.connect(address(folder, storage), folder), name)
    except KeyError:
        raise UserError(f"no sweep {name} was begun", f"`reprise sweep sweep={name}` begins it") from None
    opened = stored.study
    if SPEC not in opened.user_attrs:
        raise UserError(f"sweep {name} was interrupted while it was created", "run the same command without resume")
    sweep = _spec(opened)
    study_folder = store.made(folder / "sweeps" / name)
    for file, text in json.loads(opened.user_attrs[CONF]).items():
        path = study_folder / file
        if not path.is_file() or path.read_text("utf-8") != text:
            store.write_atomically(store.made(path.parent) / path.name, text.encode())
    opened.pruner = make_pruner(sweep, sweep.config(study_folder, {}).trainer.max_epochs * sweep.seeds)
    return Study(stored, sweep, study_folder, _folder_id(study_folder))


def _folder_id(folder: Path) -> str:
    file = folder / "place"
    with FileLock(folder / "place.lock"):
        if not file.is_file():
            store.write_atomically(file, uuid.uuid4().hex.encode())
        return file.read_text()


def _spec(opened: optuna.Study) -> Sweep:
    return validated(Sweep, json.loads(opened.user_attrs[SPEC]), f"the study {opened.study_name}")
