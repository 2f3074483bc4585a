"""What is known of a run, from its run directory or, where it was trained elsewhere, from the store. Only read here."""

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
from reprise.tracking import backend, lineage
from reprise.tracking.event_log import EventLog, Points, read_history
from reprise.tracking.run import find, has_run_dir
from reprise.tracking.statuses import corrected

EVERY_RUN = 50_000
"""The most runs that are listed."""
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
"""A line of packages.txt."""


@dataclass(frozen=True)
class RunRecord:
    """One run: what it was made from, and what came of it."""

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, Points]
    """Every metric's points (step, value)."""
    files: Path
    """Where its files lie: lineage/config.json, lineage/packages.txt, lineage/uncommitted.patch, best.safetensors."""

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config it was trained with."""
        file = self._file("lineage/config.json")
        found: dict[str, Any] = store.read_json(file)
        self._demand_recorded("sha256.config", lineage.config_hash(found), file)
        return found

    @property
    def packages(self) -> dict[str, str]:
        """The version of every package. `reproduce --env` gives them to pip, so nothing else may stand there."""
        file = self._file("lineage/packages.txt")
        content = file.read_bytes()
        if "sha256.packages" in self.tags:  # older runs do not say it
            self._demand_recorded("sha256.packages", lineage.text_hash(content), file)
        lines = content.decode("utf-8", "replace").splitlines()
        if others := [line for line in lines if not PACKAGE.fullmatch(line)]:
            raise UserError(f"{file} holds something else than packages: {others[0]!r}", f"run {self.name} cannot be run again")
        return dict(line.split("==") for line in lines)

    @property
    def patch(self) -> bytes:
        """What was not committed of the code, b"" where all was."""
        file = self.files / "lineage" / "uncommitted.patch"
        found = file.read_bytes() if file.is_file() else b""
        self._demand_recorded("sha256.patch", lineage.text_hash(found), file)
        return found

    @property
    def weights(self) -> Path:
        """Of the best epoch."""
        return self._file("best.safetensors")

    def tag(self, name: str) -> str:
        """One fact.

        Raises:
            UserError: when the run does not say it.

        """
        if name not in self.tags:
            raise UserError(f"run {self.name} does not say its {name}", "it was not trained to its end, or by an older reprise")
        return self.tags[name]

    def _demand_recorded(self, tag: str, found: str, file: Path) -> None:
        if found != self.tag(tag):
            raise UserError(f"{file} is not what was recorded (sha256 differs)", f"run {self.name} cannot be run again")

    def _file(self, name: str) -> Path:
        if not (self.files / name).is_file():
            raise UserError(f"run {self.name} has no {name}", "it was not trained to its end, or by an older reprise")
        return self.files / name


def read(folder: Path, wanted: str, tracking: TrackingConfig | None, scratch: Path) -> RunRecord:
    """Return the run whose id begins with `wanted`, or whose name it is; files of a remote run are copied to `scratch`.

    Raises:
        UserError: when neither a run directory nor the store has it.

    """
    if has_run_dir(folder, wanted) and ((run_dir := folder / "runs" / find(folder, wanted)) / "lineage").is_dir():
        return from_run_dir(run_dir)
    uri = backend.address(tracking, folder)
    with backend.answering(uri):
        client = backend.connect(uri, folder)
        run = find_in_store(client, wanted, uri)
        client.download_artifacts(run.info.run_id, "", str(scratch))
        metrics = {
            key: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics
        }
    return RunRecord(run.info.run_id, run.info.run_name, run.info.status, run.data.tags, metrics, scratch)


def from_run_dir(run_dir: Path) -> RunRecord:
    """The run whose run directory this is."""
    event_log = EventLog(run_dir)
    return RunRecord(
        run_dir.name,
        store.read_json(run_dir / "run.json")["name"],
        event_log.status,
        event_log.tags,
        read_history(event_log.file),
        run_dir,
    )


def find_in_store(client: MlflowClient, wanted: str, uri: str) -> Run:
    """The run of the store whose id begins with `wanted`, or whose name it is.

    Raises:
        UserError: when there is none, or more than one.

    """
    try:
        return client.get_run(wanted)
    except MlflowException:
        named = [run for run in every(client) if run.info.run_name == wanted or run.info.run_id.startswith(wanted)]
    if len(named) != 1:
        raise UserError(f"{len(named)} runs in {without_login(uri)} are called {wanted}", "`reprise runs` lists them")
    return named[0]


def every(client: MlflowClient, expression: str = "") -> list[Run]:
    """All runs of a store, or those that an expression of MLflow's is true of, the newest first."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, expression, max_results=EVERY_RUN, order_by=["attributes.start_time DESC"]))


@dataclass(frozen=True)
class Line:
    """One run of a list."""

    id: str
    name: str
    status: str
    tags: Mapping[str, str]
    metrics: Mapping[str, float]


def listed(folder: Path, tracking: TrackingConfig | None) -> list[Line]:
    """Every run of the store, the newest first."""
    uri = backend.address(tracking, folder)
    with backend.answering(uri):
        runs = every(backend.connect(uri, folder))
    ended = corrected(folder, [run.info.run_id for run in runs if run.info.status == "RUNNING"])
    lines = []
    for run in runs:
        status, why = ended.get(run.info.run_id, (run.info.status, {}))
        lines.append(Line(run.info.run_id, run.info.run_name, status, run.data.tags | why, run.data.metrics))
    return lines
