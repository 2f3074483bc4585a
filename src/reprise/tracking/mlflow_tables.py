"""Adapter of MLflow's database: the only module that knows MLflow's tables and the class that creates them.

`reprise runs` and `compare` read the tables with SQL: MLflow takes two seconds to import, and more to create the objects of a
thousand runs. MLflow documents neither, so tests/tracking/test_mlflow_tables.py fails if a new version changes them.
"""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reprise.tracking.address import database_address
from reprise.tracking.event_log import Points

INFINITE = 1.7e308
"""MLflow stores infinity as the largest double. NaN also fails the comparison `abs(value) < INFINITE`."""
RUNS = """
    SELECT run_uuid, runs.name, status, start_time, experiment_id FROM runs JOIN experiments USING (experiment_id)
    WHERE runs.lifecycle_stage = 'active' AND experiments.lifecycle_stage = 'active' ORDER BY start_time DESC
"""
LAST = "SELECT run_uuid, key, value FROM latest_metrics WHERE NOT is_nan AND abs(value) < 1.7e308"
AT_BEST = """
    SELECT run_uuid, metrics.key, metrics.value FROM tags JOIN metrics USING (run_uuid)
    WHERE tags.key = 'best_epoch' AND metrics.key = ? AND step = CAST(tags.value AS INTEGER)
    AND NOT is_nan AND abs(metrics.value) < 1.7e308
"""
HISTORY = """
    SELECT run_uuid, step, value FROM metrics WHERE key = ? AND NOT is_nan AND abs(value) < 1.7e308 ORDER BY run_uuid, step
"""


class ChangedTablesError(Exception):
    """The database could not be read: this version of MLflow has other tables, or the file is damaged."""


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


def create_database(file: Path, artifacts: Path) -> None:
    """Create an empty store that keeps artifacts in the folder `artifacts`. Close the file, so that it can be renamed."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # late: MLflow takes two seconds to import

    SqlAlchemyStore(database_address(file), artifacts.resolve().as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def purge(uri: str, artifacts: Path, run_id: str, models: Iterable[str]) -> None:
    """Delete the rows of a run and of the models it logged, which MLflow's client only marks as deleted."""
    from mlflow.exceptions import MlflowException  # late: as above
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri, artifacts.resolve().as_uri())  # type: ignore[no-untyped-call]
    try:
        for model_id in models:
            with contextlib.suppress(MlflowException):  # deleted before a kill
                store._hard_delete_logged_model(model_id)  # type: ignore[no-untyped-call]
        store._hard_delete_run(run_id)  # type: ignore[no-untyped-call]
    finally:
        store.engine.dispose()


def read_rows(file: Path, metrics: Sequence[str]) -> list[Row]:
    """Return all runs of a database, newest first, with `metrics` at their best epochs.

    Raises:
        ChangedTablesError: if the tables are not those of the MLflow versions known here.

    """
    with _opened(file) as store:
        store.execute("BEGIN")  # one transaction, so that all queries see the same state
        rows = {
            run_id: Row(run_id, name or "", status, started or 0, experiment_id=str(experiment))
            for run_id, name, status, started, experiment in store.execute(RUNS)
        }
        _fill(rows, "tags", store.execute("SELECT run_uuid, key, value FROM tags"))
        _fill(rows, "params", store.execute("SELECT run_uuid, key, value FROM params"))
        _fill(rows, "last", store.execute(LAST))
        for metric in metrics:
            _fill(rows, "at_best", store.execute(AT_BEST, [metric]))
    return list(rows.values())


def read_histories(file: Path, requested: Mapping[str, str]) -> dict[str, Points]:
    """Return the (step, value) points of one metric per run. `requested` maps run ids to metrics.

    Raises:
        ChangedTablesError: if the tables are not those of the MLflow versions known here.

    """
    points: dict[str, Points] = {run_id: [] for run_id in requested}
    with _opened(file) as store:
        for key in set(requested.values()):
            for run_id, step, value in store.execute(HISTORY, [key]):
                if requested.get(run_id) == key:
                    points[run_id].append((step, value))
    return points


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database read-only."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise ChangedTablesError(str(error)) from error


def _fill(rows: Mapping[str, Row], part: str, values: Iterable[tuple[str, str, str]]) -> None:
    parts = {run_id: getattr(row, part) for run_id, row in rows.items()}
    for run_id, key, value in values:
        if run_id in parts:
            parts[run_id][key] = value
