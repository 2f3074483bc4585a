"""What refers to a run: registered models, results of the pipeline, sweeps, and other runs. `reprise gc` keeps such runs."""

import contextlib
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from reprise.config.compose import leaves
from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend, run_info
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import EventLog, outbox
from reprise.tracking.groups import CHILDREN
from reprise.tracking.links import PARENT_TAG
from reprise.tracking.run import store_address
from reprise.tracking.run_info import RunInfo

PUBLISHED = "training.json"
"""File in data/models/<experiment>/ with the sha256 of the weights."""


@dataclass(frozen=True)
class LocalRun:
    """A run of this project, as its run directory describes it."""

    run_dir: Path
    info: RunInfo
    mlflow_id: str
    """MLflow's id; "" if the store never had the run."""
    uri: str
    """The address of its tracking store."""
    status: str
    """Its status; FAILED instead of RUNNING if no process trains it."""
    tags: Mapping[str, str]
    figures: Mapping[str, float]
    """Metrics with one value."""
    children: tuple[str, ...]
    """The ids of the runs that it is the parent of."""

    @property
    def id(self) -> str:
        """The name of the run directory."""
        return self.run_dir.name

    @property
    def aliases(self) -> set[str]:
        """Everything that identifies the run: id in this project, id in MLflow, token, name."""
        return {self.id, self.mlflow_id, self.info.token, self.info.name} - {""}

    @property
    def is_parent(self) -> bool:
        """Whether it groups other runs, or holds a comparison."""
        return GROUP in self.tags


def local_runs(folder: Path, tracking: TrackingConfig | None, active: set[str]) -> list[LocalRun]:
    """Return every run under `folder` (mlruns/), oldest first. `active` has ids and tokens of runs in training.

    Raises:
        UserError: if a run directory is damaged.

    """
    runs = [_local_run(run_dir, folder, tracking, active) for run_dir in run_info.run_dirs(folder)]
    return sorted(runs, key=lambda run: (run.info.started, run.id))


def _local_run(run_dir: Path, folder: Path, tracking: TrackingConfig | None, active: set[str]) -> LocalRun:
    info, log = run_info.read(run_dir), EventLog(run_dir)
    is_stale = log.status == "RUNNING" and active.isdisjoint({run_dir.name, info.token})
    id_file, children_file = run_dir / "mlflow_id", run_dir / CHILDREN
    return LocalRun(
        run_dir,
        info,
        id_file.read_text("utf-8").strip() if id_file.is_file() else "",
        store_address(info.store, tracking, folder),
        "FAILED" if is_stale else log.status,
        log.tags,
        log.figures,
        tuple(store.read_json(children_file)) if children_file.is_file() else (),
    )


@dataclass(frozen=True)
class Reason:
    """Why a run must not be deleted."""

    kind: Literal["active", "registered", "result", "sweep"]
    text: str


def reasons_to_keep(runs: Iterable[LocalRun], folder: Path, active: set[str]) -> dict[str, Reason]:
    """Return, by run id, why a run must not be deleted: what uses it or refers to it, other than a run.

    Raises:
        UserError: if it cannot be found out, for example because a tracking store cannot be reached.

    """
    runs = list(runs)
    used = {uri: registered(uri, folder) for uri in dict.fromkeys(run.uri for run in runs)}
    published, sweeps = _of_pipeline(folder), _sweeps(folder)
    reasons: dict[str, Reason] = {}
    for run in runs:
        if not active.isdisjoint({run.id, run.info.token}):
            reasons[run.id] = Reason("active", "it is being trained")
        elif outbox(folder, run.id).is_file():
            reasons[run.id] = Reason("active", "it is in use, or not synced yet (`reprise sync`)")
        elif model := used[run.uri].get(run.mlflow_id):
            reasons[run.id] = Reason("registered", f"registered model {model} was made from it")
        elif found := published.get(run.id) or published.get(run.tags.get("sha256.weights", "")):
            reasons[run.id] = Reason("result", f"data/models/{found} holds its weights")
        elif run.tags.get("sweep") in sweeps:
            reasons[run.id] = Reason("sweep", f"sweep {run.tags['sweep']} refers to it")
    return reasons


def registered(uri: str, folder: Path) -> dict[str, str]:
    """Return the registered models of a store, `NAME version N`, by MLflow's id of their run."""
    with backend.store_errors(uri):
        versions = backend.connect(uri, folder).search_model_versions()
        found = {}
        while True:
            found.update({str(one.run_id): f"{one.name} version {one.version}" for one in versions})
            if not versions.token:
                return found
            versions = backend.connect(uri, folder).search_model_versions(page_token=versions.token)


def _of_pipeline(folder: Path) -> dict[str, str]:
    """Return the experiments of the pipeline by the ids of the runs that trained their weights.

    If an experiment has weights and no record of its runs, its name is found by the hash of the weights.
    """
    experiments: dict[str, str] = {}
    for file in sorted((folder / "pipeline").glob("*.json")):
        if not file.name.endswith(".windows.json"):
            experiments |= {run["run_id"]: file.stem for run in store.read_json(file).values()}
    for file in sorted((folder.parent / "data" / "models").glob(f"*/{PUBLISHED}")):
        if not (folder / "pipeline" / f"{file.parent.name}.json").is_file():
            experiments |= {entry["sha256"]: file.parent.name for entry in store.read_json(file)}
    return experiments


def _sweeps(folder: Path) -> set[str]:
    """Return the names of the sweeps of this project: those with a folder, and those of the local database."""
    names = {entry.name for entry in (folder / "sweeps").glob("*/")}
    database = folder / "sweeps.db"
    if database.is_file():
        try:
            with contextlib.closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as opened:
                names |= {name for (name,) in opened.execute("SELECT study_name FROM studies")}
        except sqlite3.Error as error:
            raise UserError(f"{database} cannot be read: {error}", "repair it: the runs of its sweeps must be known") from None
    return names


def referrers(runs: Iterable[LocalRun]) -> dict[str, set[str]]:
    """Return, by run id, the ids of the runs that refer to it.

    A run refers to its parent and its children, and to every run that one of its tags or settings names: `verified_by`,
    `reproduces`, the run whose weights it starts from.
    """
    runs = list(runs)
    known = {alias: run.id for run in runs for alias in run.aliases}
    found: dict[str, set[str]] = {run.id: set() for run in runs}
    for run in runs:
        for value in {*run.children, *run.tags.values(), *_settings(run.run_dir / "config.json")}:
            target = known.get(value)
            if target and target != run.id:
                found[target].add(run.id)
    return found


def _settings(file: Path) -> set[str]:
    """Return the text values of a config."""
    config: Any = store.read_json(file) if file.is_file() else {}
    return {value for _, value in leaves(config) if isinstance(value, str)}


def depth(run: LocalRun, runs: Mapping[str, LocalRun]) -> int:
    """Return how many parents a run has above it."""
    seen = {run.id}
    while (parent := runs.get(run.tags.get(PARENT_TAG, ""))) and parent.id not in seen:
        seen.add(parent.id)
        run = parent
    return len(seen) - 1
