"""The status of a training in progress, read from its run directory or, for another machine, from the tracking store."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend, run_info
from reprise.tracking.descriptions import GROUP
from reprise.tracking.entries import MetricEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.record import find_in_store
from reprise.tracking.resume import active_ids_and_tokens, active_run_ids
from reprise.tracking.run import find, has_run_dir
from reprise.tracking.statuses import PROCESS_DIED

EPOCH_METRICS = ("train/", "val/")
"""Prefixes of the metrics that are logged every epoch."""
Times = list[tuple[int, float, int]]
"""The (epoch, value, milliseconds since 1970) points of a metric."""


@dataclass(frozen=True)
class LiveStatus:
    """State of a training."""

    name: str
    status: str
    why: str
    """Why it ended early, "" if it finished or still runs."""
    epochs: int
    """The configured number of epochs."""
    metrics: dict[str, Times]


StatusReader = Callable[[], LiveStatus]


def follow(folder: Path, requested: str, tracking: TrackingConfig | None) -> StatusReader:
    """Return a function that reads the status of a run: from its run directory if it is trained here, else from the store.

    Raises:
        UserError: if there is no such run, or it is a parent run.

    """
    if (
        has_run_dir(folder, requested)
        and (run_dir := folder / "runs" / find(folder, requested)).joinpath("config.json").is_file()
    ):
        _check_is_training(EventLog(run_dir).tags, requested)
        return lambda: _from_run_dir(folder, run_dir)
    uri = backend.address(tracking, folder)
    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        run = find_in_store(client, requested, uri)
    _check_is_training(run.data.tags, requested)

    def read_status() -> LiveStatus:
        with backend.store_errors(uri):
            return _from_store(client, run.info.run_id)

    return read_status


def running_names(folder: Path) -> list[str]:
    """Return the names of the runs that are training here now, newest first."""
    run_dirs = [
        run_dir for run_dir in (folder / "runs" / run_id for run_id in active_run_ids(folder)) if run_info.exists(run_dir)
    ]
    running = [run_info.read(run_dir) for run_dir in run_dirs if _is_open(EventLog(run_dir))]
    return [info.name for info in sorted(running, key=lambda info: -info.started)]


def _is_open(event_log: EventLog) -> bool:
    return event_log.status == "RUNNING" and GROUP not in event_log.tags


def _check_is_training(tags: dict[str, str], requested: str) -> None:
    if GROUP in tags:
        raise UserError(f"{requested} is the parent of several runs", "name one of them; `reprise runs` lists them")


def _from_run_dir(folder: Path, run_dir: Path) -> LiveStatus:
    info, config = run_info.read(run_dir), store.read_json(run_dir / "config.json")
    # Before the event log is read, as the run may end in between. A run that is about to be opened is known by its token.
    alive = not active_ids_and_tokens(folder).isdisjoint({run_dir.name, info.token})
    event_log, metrics = EventLog(run_dir), dict[str, Times]()
    for entry in event_log.entries:
        if isinstance(entry, MetricEntry) and entry.key.startswith(EPOCH_METRICS):
            metrics.setdefault(entry.key, []).append((entry.step, entry.value, entry.timestamp))
    is_stale = event_log.status == "RUNNING" and not alive
    status, why = ("FAILED", PROCESS_DIED) if is_stale else (event_log.status, event_log.tags.get("error", ""))
    return LiveStatus(info.name, status, why, config["trainer"]["max_epochs"], metrics)


def _from_store(client: MlflowClient, run_id: str) -> LiveStatus:
    run = client.get_run(run_id)
    metrics = {
        key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
        if key.startswith(EPOCH_METRICS)
    }
    why, epochs = run.data.tags.get("error", ""), int(run.data.params.get("trainer.max_epochs", 0))
    return LiveStatus(run.info.run_name, run.info.status, why, epochs, metrics)
