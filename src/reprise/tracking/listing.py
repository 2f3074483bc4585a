"""Read all runs of a store at once, with their params and their metrics at the best epoch.

A local database is queried with SQL: MLflow takes two seconds to import, and more to create the objects of a thousand runs.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError
from reprise.tracking.address import address, database
from reprise.tracking.event_log import Points
from reprise.tracking.statuses import corrected

CONNECTIONS = 8
"""Parallel connections to a server, which returns one history per request."""
AT_BEST = """
    SELECT run_uuid, metrics.key, metrics.value FROM tags JOIN metrics USING (run_uuid)
    WHERE tags.key = 'best_epoch' AND metrics.key = ? AND step = CAST(tags.value AS INTEGER)
    AND NOT is_nan AND abs(metrics.value) < 1.7e308
"""
HISTORY = """
    SELECT run_uuid, step, value FROM metrics WHERE key = ? AND NOT is_nan AND abs(value) < 1.7e308 ORDER BY run_uuid, step
"""
INFINITE = 1.7e308
"""MLflow stores infinity as the largest double. NaN also fails the comparison `abs(value) < INFINITE`."""
FILTER_HINT = 'for example: params.`optimizer.lr` = "0.001" and tags.device = "cpu" and metrics.`val/loss` < 0.5'


@dataclass(frozen=True)
class Row:
    """A run in the list."""

    id: str
    name: str
    status: str
    started: int
    """Milliseconds since 1970."""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    last: dict[str, float] = field(default_factory=dict)
    """The last value of every metric. Values that are not finite are left out, here and below."""
    at_best: dict[str, float] = field(default_factory=dict)
    """The requested metrics at the best epoch, as tagged."""
    experiment_id: str = ""
    """Id of the MLflow experiment, one per data set."""


def read(folder: Path, tracking: TrackingConfig | None, metrics: Sequence[str], expression: str | None) -> list[Row]:
    """Return all runs of the store, or those that match an MLflow search expression, newest first.

    Raises:
        UserError: if the store fails or the expression is invalid.

    """
    uri = address(tracking, folder)
    file = database(uri)
    if file and not file.exists():
        return []
    matches = _matching(uri, folder, expression) if expression else None
    try:
        rows = _from_database(file, metrics) if file else _from_server(uri, folder, metrics)
    except sqlite3.Error:  # the tables of this MLflow version differ from those known here
        rows = _from_server(uri, folder, metrics)
    rows = [row for row in rows if matches is None or row.id in matches]
    ended = corrected(folder, [row.id for row in rows if row.status == "RUNNING"])
    return [replace(row, status=ended[row.id][0], tags=row.tags | ended[row.id][1]) if row.id in ended else row for row in rows]


def histories(folder: Path, tracking: TrackingConfig | None, requested: Mapping[str, str]) -> dict[str, Points]:
    """Return the (step, value) points of one metric per run. `requested` maps run ids to metrics."""
    uri = address(tracking, folder)
    file = database(uri)
    try:
        return _histories_from_database(file, requested) if file else _histories_from_server(uri, folder, requested)
    except sqlite3.Error:
        return _histories_from_server(uri, folder, requested)


def _matching(uri: str, folder: Path, expression: str) -> set[str]:
    from mlflow.exceptions import MlflowException  # late: MLflow takes two seconds to import

    from reprise.tracking import backend, record

    with backend.answering(uri):
        client = backend.connect(uri, folder)
        try:
            return {run.info.run_id for run in record.every(client, expression)}
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise UserError(f"--filter {expression}: {str(error).splitlines()[0]}", FILTER_HINT) from None


def _open_read_only(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)


def _from_database(file: Path, metrics: Sequence[str]) -> list[Row]:
    with closing(_open_read_only(file)) as store:
        store.execute("BEGIN")  # one transaction, so that all queries see the same state
        query = store.execute(
            "SELECT run_uuid, runs.name, status, start_time, experiment_id FROM runs JOIN experiments USING (experiment_id) "
            "WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' ORDER BY start_time DESC"
        )
        rows = {
            run_id: Row(run_id, name or "", status, started or 0, experiment_id=str(experiment))
            for run_id, name, status, started, experiment in query
        }
        _fill(rows, "tags", store.execute("SELECT run_uuid, key, value FROM tags"))
        _fill(rows, "params", store.execute("SELECT run_uuid, key, value FROM params"))
        _fill(
            rows,
            "last",
            store.execute("SELECT run_uuid, key, value FROM latest_metrics WHERE NOT is_nan AND abs(value) < 1.7e308"),
        )
        for metric in metrics:
            _fill(rows, "at_best", store.execute(AT_BEST, [metric]))
    return list(rows.values())


def _histories_from_database(file: Path, requested: Mapping[str, str]) -> dict[str, Points]:
    points: dict[str, Points] = {run_id: [] for run_id in requested}
    with closing(_open_read_only(file)) as store:
        for key in set(requested.values()):
            for run_id, step, value in store.execute(HISTORY, [key]):
                if requested.get(run_id) == key:
                    points[run_id].append((step, value))
    return points


def _fill(rows: Mapping[str, Row], part: str, values: Iterable[tuple[str, str, str]]) -> None:
    parts = {run_id: getattr(row, part) for run_id, row in rows.items()}
    for run_id, key, value in values:
        if run_id in parts:
            parts[run_id][key] = value


def _from_server(uri: str, folder: Path, metrics: Sequence[str]) -> list[Row]:
    from reprise.tracking import backend, record  # late: as above

    with backend.answering(uri):
        runs = record.every(backend.connect(uri, folder))
    rows = {
        run.info.run_id: Row(
            run.info.run_id,
            run.info.run_name or "",
            run.info.status,
            run.info.start_time or 0,
            run.data.tags,
            run.data.params,
            {key: value for key, value in run.data.metrics.items() if abs(value) < INFINITE},
            experiment_id=run.info.experiment_id,
        )
        for run in runs
    }
    for metric in metrics:
        requested = {row.id: metric for row in rows.values() if metric in row.last and "best_epoch" in row.tags}
        for run_id, points in _histories_from_server(uri, folder, requested).items():
            best = int(rows[run_id].tags["best_epoch"])
            rows[run_id].at_best.update((metric, value) for step, value in points if step == best)
    return list(rows.values())


def _histories_from_server(uri: str, folder: Path, requested: Mapping[str, str]) -> dict[str, Points]:
    from reprise.tracking import backend  # late: as above

    def points() -> Iterator[Points]:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for history in pool.map(client.get_metric_history, requested.keys(), requested.values()):
                yield sorted((point.step, point.value) for point in history if abs(point.value) < INFINITE)

    with backend.answering(uri):
        client = backend.connect(uri, folder)
        return dict(zip(requested, points(), strict=True))
