"""Read all runs of a store at once, with their params and their metrics at the best epoch."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError
from reprise.tracking.address import address, database
from reprise.tracking.event_log import Points
from reprise.tracking.mlflow_tables import INFINITE, ChangedTablesError, read_histories, read_rows
from reprise.tracking.mlflow_tables import Row as Row
from reprise.tracking.statuses import corrected_statuses

CONNECTIONS = 8
"""Parallel connections to a server, which returns one history per request."""
FILTER_HINT = 'for example: params.`optimizer.lr` = "0.001" and tags.device = "cpu" and metrics.`val/loss` < 0.5'


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
        rows = read_rows(file, metrics) if file else _from_server(uri, folder, metrics)
    except ChangedTablesError:  # slower, but MLflow knows its own tables
        rows = _from_server(uri, folder, metrics)
    rows = [row for row in rows if matches is None or row.id in matches]
    ended = corrected_statuses(folder, [row.id for row in rows if row.status == "RUNNING"])
    return [replace(row, status=ended[row.id][0], tags=row.tags | ended[row.id][1]) if row.id in ended else row for row in rows]


def histories(folder: Path, tracking: TrackingConfig | None, requested: Mapping[str, str]) -> dict[str, Points]:
    """Return the (step, value) points of one metric per run. `requested` maps run ids to metrics."""
    uri = address(tracking, folder)
    file = database(uri)
    try:
        return read_histories(file, requested) if file else _histories_from_server(uri, folder, requested)
    except ChangedTablesError:
        return _histories_from_server(uri, folder, requested)


def _matching(uri: str, folder: Path, expression: str) -> set[str]:
    from mlflow.exceptions import MlflowException  # late: MLflow takes two seconds to import

    from reprise.tracking import backend, record

    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        try:
            return {run.info.run_id for run in record.all_runs(client, expression)}
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            raise UserError(f"--filter {expression}: {str(error).splitlines()[0]}", FILTER_HINT) from None


def _from_server(uri: str, folder: Path, metrics: Sequence[str]) -> list[Row]:
    from reprise.tracking import backend, record  # late: as above

    with backend.store_errors(uri):
        runs = record.all_runs(backend.connect(uri, folder))
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
        requested = {run.info.run_id: metric for run in runs if metric in run.data.metrics and "best_epoch" in run.data.tags}
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

    with backend.store_errors(uri):
        client = backend.connect(uri, folder)
        return dict(zip(requested, points(), strict=True))
