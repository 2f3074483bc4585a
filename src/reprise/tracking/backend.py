"""The tracking store: a database under mlruns/, or a server."""

import contextlib
import importlib
import logging
import os
import sqlite3
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from filelock import FileLock
from sqlalchemy.exc import SQLAlchemyError

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError, without_login
from reprise.tracking import mlflow_tables
from reprise.tracking.address import address as address
from reprise.tracking.address import database as database_of
from reprise.tracking.address import local_address as local_address

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # MLflow's default of seven blocks for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it can hold a password
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")

from mlflow import MlflowClient  # noqa: E402 -- it reads the environment when it is imported
from mlflow.exceptions import MlflowException  # noqa: E402


def import_store(config: TrackingConfig, folder: Path) -> None:
    """Import what `connect` imports for a database. For processes that fork, so that the child does not import it again."""
    if database_of(address(config, folder)):
        importlib.import_module("mlflow.store.tracking.sqlalchemy_store")


def connect(uri: str, folder: Path) -> MlflowClient:
    """Return a client of the store. Create the database file if it does not exist.

    A lock guards the creation: two processes that open a new database at the same time break its migrations.

    Raises:
        UserError: when the store cannot be reached.

    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
    with store_errors(uri):
        database = database_of(uri)
        if database is None:
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
            return client
        database.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(database.with_suffix(".lock")):
            if not database.exists():
                _make_database(database, folder)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
        return client


def _make_database(database: Path, folder: Path) -> None:
    """Create an empty store atomically: MLflow cannot open a database whose creation was interrupted."""
    draft = database.with_name(f".{database.name}")
    for file in database.parent.glob(f"{draft.name}*"):  # of an interrupted creation
        file.unlink()
    mlflow_tables.create_database(draft, folder / "artifacts")
    draft.rename(database)


@contextlib.contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Raise errors of the store, such as an unreachable server or a full disk, as `UserError`."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        reason, shown = without_login(str(error).split("\n")[0])[:200], uri.partition("?")[0]
        raise UserError(f"the tracking store {shown} fails: {reason}", "start the server, or set tracking.uri") from error


def get_or_create_experiment(client: MlflowClient, name: str, folder: Path, local: bool) -> str:
    """Return the id of an MLflow experiment; create it if needed. A local one keeps its artifacts under `folder`/artifacts."""
    with FileLock(folder / "experiments.lock"):
        existing = client.get_experiment_by_name(name)
        if existing is not None:
            return str(existing.experiment_id)
        location = (folder / "artifacts").resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=location))


def serve_dashboard(uri: str, port: int) -> NoReturn:
    """Replace this process by MLflow's server for the store, on 127.0.0.1. Does not return.

    Two workers suffice for one user, and MLflow's jobs for language models are disabled: five processes instead of fifteen.
    """
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    os.environ.setdefault("PYTHONSAFEPATH", "1")  # no standard module is imported from the project, by the workers neither
    command = f"-m mlflow ui --host 127.0.0.1 --port {port} --workers 2 --backend-store-uri".split()
    os.execv(sys.executable, [sys.executable, *command, uri])
