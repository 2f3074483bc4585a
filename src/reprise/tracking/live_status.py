"""The status of a training in progress, read from its run directory or, for another machine, from the tracking store."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import EventLog
from reprise.tracking.record import find_in_store
from reprise.tracking.resume import held
from reprise.tracking.run import find, has_run_dir
from reprise.tracking.statuses import SILENT

SEEN = ("train/", "val/")
"""The metrics that come epoch by epoch."""
Times = list[tuple[int, float, int]]
"""Of a metric: (epoch, value, milliseconds since 1970)."""


@dataclass(frozen=True)
class LiveStatus:
    """How a training stands."""

    name: str
    status: str
    why: str
    """It did not come to its end, "" where it did or may yet."""
    epochs: int
    """Asked for."""
    metrics: dict[str, Times]


StatusReader = Callable[[], LiveStatus]


def follow(folder: Path, wanted: str, tracking: TrackingConfig | None) -> StatusReader:
    """A function that looks at a run: its run directory where it is trained here, else the store.

    Raises:
        UserError: when there is no such run, or it is the parent of others.

    """
    if has_run_dir(folder, wanted) and (run_dir := folder / "runs" / find(folder, wanted)).joinpath("config.json").is_file():
        _demand_training(EventLog(run_dir).tags, wanted)
        return lambda: _from_run_dir(folder, run_dir)
    uri = backend.address(tracking, folder)
    with backend.answering(uri):
        client = backend.connect(uri, folder)
        run = find_in_store(client, wanted, uri)
    _demand_training(run.data.tags, wanted)

    def look() -> LiveStatus:
        with backend.answering(uri):
            return _in_store(client, run.info.run_id)

    return look


def going_on(folder: Path) -> list[str]:
    """The names of the runs that are trained here now, the newest first."""
    run_dirs = [run_dir for run_dir in (folder / "runs" / run_id for run_id in held(folder)) if (run_dir / "run.json").is_file()]
    known = [store.read_json(run_dir / "run.json") for run_dir in run_dirs if _is_open(EventLog(run_dir))]
    return [about["name"] for about in sorted(known, key=lambda about: -about["started"])]


def _is_open(event_log: EventLog) -> bool:
    return event_log.status == "RUNNING" and GROUP not in event_log.tags


def _demand_training(tags: dict[str, str], wanted: str) -> None:
    if GROUP in tags:
        raise UserError(f"{wanted} stands for several runs", "name one of them; `reprise runs` lists them")


def _from_run_dir(folder: Path, run_dir: Path) -> LiveStatus:
    alive = run_dir.name in held(folder)  # asked before its event log is read: it may end in between
    event_log, metrics = EventLog(run_dir), dict[str, Times]()
    for entry in event_log.entries:
        if "key" in entry and entry["key"].startswith(SEEN):
            metrics.setdefault(entry["key"], []).append((entry["step"], entry["value"], entry["timestamp"]))
    about, config = store.read_json(run_dir / "run.json"), store.read_json(run_dir / "config.json")
    stale_runs = event_log.status == "RUNNING" and not alive
    status, why = ("FAILED", SILENT) if stale_runs else (event_log.status, event_log.tags.get("error", ""))
    return LiveStatus(about["name"], status, why, config["trainer"]["max_epochs"], metrics)


def _in_store(client: MlflowClient, run_id: str) -> LiveStatus:
    run = client.get_run(run_id)
    metrics = {
        key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
        if key.startswith(SEEN)
    }
    why, epochs = run.data.tags.get("error", ""), int(run.data.params.get("trainer.max_epochs", 0))
    return LiveStatus(run.info.run_name, run.info.status, why, epochs, metrics)
