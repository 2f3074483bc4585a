"""MLflow's tables are as the adapter reads them. A failure here means: adapt tracking/mlflow_tables.py to the new MLflow."""

import math
import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from reprise.config.schema import TrackingConfig
from reprise.tracking import backend, listing, mlflow_tables
from reprise.tracking.listing import _from_server, _histories_from_server
from reprise.tracking.mlflow_tables import ChangedTablesError, read_histories, read_rows

HINT = f"MLflow {mlflow.__version__} changed its tables: adapt tracking/mlflow_tables.py"
TRACKING = TrackingConfig(uri=None, experiment="digits", log_model=False)
METRICS = ["val/loss", "val/accuracy"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder mlruns/ of a store with two runs, one deleted run and one deleted experiment."""
    folder = tmp_path_factory.mktemp("tables") / "mlruns"
    client = backend.connect(backend.local_address(folder), folder)
    experiment = backend.get_or_create_experiment(client, "digits", folder, local=True)
    ids = [client.create_run(experiment, start_time=start, run_name=f"run{start}").info.run_id for start in (1000, 2000, 3000)]
    for run_id in ids:
        log_epochs(client, run_id)
    client.set_terminated(ids[0], "FINISHED", 5000)
    client.delete_run(ids[2])
    old = client.create_experiment("old")
    client.create_run(old)
    client.delete_experiment(old)
    return folder


def log_epochs(client: MlflowClient, run_id: str) -> None:
    client.set_tag(run_id, "best_epoch", "2")
    client.log_param(run_id, "optimizer.lr", "0.001")
    for step, loss in ((1, 0.5), (2, 0.25), (3, 0.75)):
        client.log_metric(run_id, "val/loss", loss, step=step)
        client.log_metric(run_id, "val/accuracy", (math.nan, 0.5, math.inf)[step - 1], step=step)


def test_sql_reads_the_same_runs_as_mlflow(folder: Path) -> None:
    uri = backend.local_address(folder)
    by_sql, by_mlflow = read_rows(folder / "mlflow.db", METRICS), _from_server(uri, folder, METRICS)
    assert by_sql == by_mlflow, HINT
    assert [(row.name, row.status, row.started) for row in by_sql] == [
        ("run2000", "RUNNING", 2000),
        ("run1000", "FINISHED", 1000),
    ]
    assert by_sql[0].at_best == {"val/loss": 0.25, "val/accuracy": 0.5}
    assert by_sql[0].last == {"val/loss": 0.75}


def test_sql_reads_the_same_histories_as_mlflow(folder: Path) -> None:
    first, second = (row.id for row in read_rows(folder / "mlflow.db", []))
    requested = {first: "val/loss", second: "val/accuracy"}
    by_sql = read_histories(folder / "mlflow.db", requested)
    assert by_sql == _histories_from_server(backend.local_address(folder), folder, requested), HINT
    assert by_sql == {first: [(1, 0.5), (2, 0.25), (3, 0.75)], second: [(2, 0.5)]}


def test_a_new_database_can_be_renamed_and_opened_by_mlflow(tmp_path: Path) -> None:
    draft, file = tmp_path / ".draft.db", tmp_path / "mlflow.db"
    mlflow_tables.create_database(draft, tmp_path / "artifacts")
    assert sorted(path.name for path in tmp_path.glob("*draft*")) == [".draft.db"], HINT  # no open journal
    draft.rename(file)
    (default,) = MlflowClient(f"sqlite:///{file}").search_experiments()
    assert default.artifact_location.startswith((tmp_path / "artifacts").as_uri()), HINT
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("query", ["RUNS", "LAST", "AT_BEST"])
def test_unknown_tables_are_read_by_mlflow_instead(folder: Path, query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    expected = listing.read(folder, TRACKING, METRICS, None)
    monkeypatch.setattr(mlflow_tables, query, "SELECT a FROM table_of_another_version")
    with pytest.raises(ChangedTablesError, match="no such table"):
        read_rows(folder / "mlflow.db", METRICS)
    assert listing.read(folder, TRACKING, METRICS, None) == expected
