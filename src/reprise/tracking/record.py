"""Read the record of a run: from its run directory, or from the store if it was trained elsewhere."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError, without_login
from reprise.tracking import backend, lineage, run_info
from reprise.tracking.event_log import EventLog, Points, read_history
from reprise.tracking.run import find, has_run_dir
from reprise.tracking.statuses import corrected_statuses

MAX_RUNS = 50_000
"""Maximum number of runs in a list."""
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
"""A line of packages.txt."""


@dataclass(frozen=True)
class RunRecord:
    """A run: its lineage and its results."""

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, Points]
    """The (step, value) points of every metric."""
    files: Path
    """The folder of its files: lineage/config.json, lineage/packages.txt, lineage/uncommitted.patch, best.safetensors."""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config of the training."""
        file = self._file("lineage/config.json")
        config: dict[str, Any] = store.read_json(file)
        self._check_recorded("sha256.config", lineage.config_hash(config), file)
        return config

    @property
    def packages(self) -> dict[str, str]:
        """The version of every package. `reproduce --env` passes them to pip, so the file must hold nothing else."""
        file = self._file("lineage/packages.txt")
        content = file.read_bytes()
        if "sha256.packages" in self.tags:  # missing in older runs
            self._check_recorded("sha256.packages", lineage.text_hash(content), file)
        lines = content.decode("utf-8", "replace").splitlines()
        if others := [line for line in lines if not PACKAGE.fullmatch(line)]:
            raise UserError(
                f"{file} contains something other than packages: {others[0]!r}", f"run {self.name} cannot be run again"
            )
        return dict(line.split("==") for line in lines)

    @property
    def patch(self) -> bytes:
        """The patch of uncommitted code, b"" if all was committed."""
        file = self.files / "lineage" / "uncommitted.patch"
        patch = file.read_bytes() if file.is_file() else b""
        self._check_recorded("sha256.patch", lineage.text_hash(patch), file)
        return patch

    @property
    def weights(self) -> Path:
        """The file with the weights of the best epoch."""
        return self._file("best.safetensors")

    def tag(self, name: str) -> str:
        """Return a tag.

        Raises:
            UserError: if the run does not have it.

        """
        if name not in self.tags:
            raise UserError(f"run {self.name} has no tag {name}", "it was not trained to its end, or by an older reprise")
        return self.tags[name]

    def _check_recorded(self, tag: str, actual: str, file: Path) -> None:
        if actual != self.tag(tag):
            raise UserError(f"{file} is not what was recorded (sha256 differs)", f"run {self.name} cannot be run again")

    def _file(self, name: str) -> Path:
        if not (self.files / name).is_file():
            raise UserError(f"run {self.name} has no {name}", "it was not trained to its end, or by an older reprise")
        return self.files / name


def read(folder: Path, requested: str, tracking: TrackingConfig | None, scratch: Path) -> RunRecord:
    """Return the run with this name or prefix of an id. Files of a remote run are copied to `scratch`.

    Raises:
        UserError: if neither the run directories nor the store have it.

    """
    if has_run_dir(folder, requested) and ((run_dir := folder / "runs" / find(folder, requested)) / "lineage").is_dir():
        return from_run_dir(run_dir)
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        run = find_in_store(client, requested, uri)
        client.download_artifacts(run.info.run_id, "", str(scratch))
        metrics = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
    return RunRecord(run.info.run_id, run.info.run_name, run.info.status, run.data.tags, metrics, scratch)


def from_run_dir(run_dir: Path) -> RunRecord:
    """Return the run of a run directory."""
    event_log = EventLog(run_dir)
    return RunRecord(
        run_dir.name,
        run_info.read(run_dir).name,
        event_log.status,
        event_log.tags,
        read_history(event_log.file),
        run_dir,
    )


def find_in_store(client: MlflowClient, requested: str, uri: str) -> Run:
    """Return the run of the store with this name or prefix of an id.

    Raises:
        UserError: if there is none, or more than one.

    """
    try:
        return client.get_run(requested)
    except MlflowException:
        matches = [run for run in all_runs(client) if run.info.run_name == requested or run.info.run_id.startswith(requested)]
    if len(matches) != 1:
        raise UserError(f"{len(matches)} runs in {without_login(uri)} are called {requested}", "`reprise runs` lists them")
    return matches[0]


def all_runs(client: MlflowClient, expression: str = "") -> list[Run]:
    """Return all runs of a store, or those that match an MLflow search expression, newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, expression, max_results=MAX_RUNS, order_by=["attributes.start_time DESC"]))


@dataclass(frozen=True)
class RunSummary:
    """A run in a list."""

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def list_runs(folder: Path, tracking: TrackingConfig | None) -> list[RunSummary]:
    """Return every run of the store, newest first."""
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        runs = all_runs(backend.connect(uri, folder))
    ended = corrected_statuses(folder, [run.info.run_id for run in runs if run.info.status == "RUNNING"])
    lines = []
    for run in runs:
        status, why = ended.get(run.info.run_id, (run.info.status, {}))
        lines.append(RunSummary(run.info.run_id, run.info.run_name, status, run.data.tags | why, run.data.metrics))
    return lines
