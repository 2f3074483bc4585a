"""The tracking store: a database under mlruns/, or a server."""

import contextlib
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

from reprise.errors import UserError, without_login
from reprise.tracking.address import address as address
from reprise.tracking.address import database as database_of
from reprise.tracking.address import database_address
from reprise.tracking.address import local_address as local_address

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its seven block for minutes
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it can hold a password
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")

from mlflow import MlflowClient  # noqa: E402 -- it reads the environment when it is imported
from mlflow.exceptions import MlflowException  # noqa: E402


def connect(uri: str, folder: Path) -> MlflowClient:
    """A client of the store, which is made if it is a database that is not there yet.

    Two processes that open a fresh database at once break its migrations, hence the lock.

    Raises:
        UserError: when the store cannot be reached.

    """
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.ERROR)
    with answering(uri):
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
    """An empty store, whole or not at all: what is left of one whose making was cut short cannot be opened again."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # late: a server needs none

    draft = database.with_name(f".{database.name}")
    for left in database.parent.glob(f"{draft.name}*"):
        left.unlink()
    SqlAlchemyStore(database_address(draft), (folder / "artifacts").resolve().as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
    with contextlib.closing(sqlite3.connect(draft)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    draft.rename(database)


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """What goes wrong with the store, as the user's error: a dead server, a full disk."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error) as error:
        reason, shown = without_login(str(error).split("\n")[0])[:200], uri.partition("?")[0]
        raise UserError(f"the tracking store {shown} fails: {reason}", "start the server, or set tracking.uri") from error


def experiment_id(client: MlflowClient, name: str, folder: Path, local: bool) -> str:
    """The id of an MLflow experiment, made if needed; a local one keeps its artifacts under `folder`/artifacts."""
    with FileLock(folder / "experiments.lock"):
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        place = (folder / "artifacts").resolve().as_uri() if local else None
        return str(client.create_experiment(name, artifact_location=place))


def dashboard(uri: str, port: int) -> NoReturn:
    """Become MLflow's own server on 127.0.0.1 over the store; does not return.

    It serves one person, and jobs for language models have nothing to do: five processes instead of fifteen.
    """
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    command = f"-m mlflow ui --host 127.0.0.1 --port {port} --workers 2 --backend-store-uri".split()
    os.execv(sys.executable, [sys.executable, *command, uri])
