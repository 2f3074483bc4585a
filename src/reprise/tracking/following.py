"""A training as it goes on: what its home here says, or what the store has heard of it from another machine. Only read here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend
from reprise.tracking.notes import GROUP
from reprise.tracking.record import find_in_store
from reprise.tracking.run import find, is_at_home
from reprise.tracking.spool import Spool
from reprise.tracking.statuses import SILENT
from reprise.tracking.unfinished import held

SEEN = ("train/", "val/")
"""The metrics that come epoch by epoch."""
Times = list[tuple[int, float, int]]
"""Of a metric: (epoch, value, milliseconds since 1970)."""


@dataclass(frozen=True)
class Sight:
    """How a training stands."""

    name: str
    status: str
    why: str
    """It did not come to its end, "" where it did or may yet."""
    epochs: int
    """Asked for."""
    metrics: dict[str, Times]


Look = Callable[[], Sight]


def follow(folder: Path, wanted: str, tracking: TrackingConfig | None) -> Look:
    """A function that looks at a run: its home where it is trained here, else the store.

    Raises:
        UserError: when there is no such run, or it is the parent of others.

    """
    if is_at_home(folder, wanted) and (home := folder / "runs" / find(folder, wanted)).joinpath("config.json").is_file():
        _demand_training(Spool(home).tags, wanted)
        return lambda: _at_home(folder, home)
    uri = backend.address(tracking, folder)
    with backend.answering(uri):
        client = backend.connect(uri, folder)
        run = find_in_store(client, wanted, uri)
    _demand_training(run.data.tags, wanted)

    def look() -> Sight:
        with backend.answering(uri):
            return _in_store(client, run.info.run_id)

    return look


def going_on(folder: Path) -> list[str]:
    """The names of the runs that are trained here now, the newest first."""
    homes = [home for home in (folder / "runs" / run_id for run_id in held(folder)) if (home / "run.json").is_file()]
    known = [store.read_json(home / "run.json") for home in homes if _is_open(Spool(home))]
    return [about["name"] for about in sorted(known, key=lambda about: -about["started"])]


def _is_open(spool: Spool) -> bool:
    return spool.status == "RUNNING" and GROUP not in spool.tags


def _demand_training(tags: dict[str, str], wanted: str) -> None:
    if GROUP in tags:
        raise UserError(f"{wanted} stands for several runs", "name one of them; `reprise runs` lists them")


def _at_home(folder: Path, home: Path) -> Sight:
    alive = home.name in held(folder)  # asked before its spool is read: it may end in between
    spool, metrics = Spool(home), dict[str, Times]()
    for entry in spool.entries:
        if "key" in entry and entry["key"].startswith(SEEN):
            metrics.setdefault(entry["key"], []).append((entry["step"], entry["value"], entry["timestamp"]))
    about, config = store.read_json(home / "run.json"), store.read_json(home / "config.json")
    dead = spool.status == "RUNNING" and not alive
    status, why = ("FAILED", SILENT) if dead else (spool.status, spool.tags.get("error", ""))
    return Sight(about["name"], status, why, config["trainer"]["max_epochs"], metrics)


def _in_store(client: MlflowClient, run_id: str) -> Sight:
    run = client.get_run(run_id)
    metrics = {
        key: [(point.step, point.value, point.timestamp) for point in client.get_metric_history(run_id, key)]
        for key in run.data.metrics
        if key.startswith(SEEN)
    }
    why, epochs = run.data.tags.get("error", ""), int(run.data.params.get("trainer.max_epochs", 0))
    return Sight(run.info.run_name, run.info.status, why, epochs, metrics)
