"""Check the tracking store: reach it, write to it, read it back. Nothing is left behind."""

import contextlib
import socket
import sqlite3
import threading
import uuid
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError, without_login
from reprise.tracking.address import address, database

CONNECT_SECONDS, LOCK_SECONDS, ANSWER_SECONDS = 2.0, 2.0, 5.0
"""Seconds to wait for a connection to a server, for SQLite's write lock, and for the store to write and read."""
CHECKED_SIZE = 200 << 20
"""Bytes of a database up to which all of its pages are checked."""
TAG = "reprise.doctor"
Problem = tuple[
    Literal["tracking-address", "tracking-unreachable", "tracking-damaged", "tracking-locked", "tracking-fails"], str, str
]
"""Code, message and fix."""


def probe(tracking: TrackingConfig | None, folder: Path) -> tuple[str, Problem | None]:
    """Return the address of the store without a login, and what is wrong with it.

    A local database that does not exist yet is not created.
    """
    try:
        uri = address(tracking, folder)
    except UserError as error:
        return "", ("tracking-address", error.what, error.hint)
    shown, file = without_login(uri.partition("?")[0]), database(uri)
    if file is not None and not file.exists():
        return f"{shown} (not created yet)", None
    problem = _database_problem(file) if file else _connection_problem(uri)
    return shown, problem or _write_problem(uri, folder)


def _database_problem(file: Path) -> Problem | None:
    """Check a SQLite database without MLflow, which tries again for minutes if it is damaged."""
    try:
        with contextlib.closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=rw", uri=True, timeout=LOCK_SECONDS)) as opened:
            if file.stat().st_size <= CHECKED_SIZE:
                (result,) = opened.execute("PRAGMA quick_check(1)").fetchone()
                if result != "ok":
                    raise sqlite3.DatabaseError(result)
            opened.execute("BEGIN IMMEDIATE")
            opened.execute("ROLLBACK")
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            what = f"another process holds the write lock of {file}"
            return "tracking-locked", what, f"end that process: `fuser {file}` prints its id"
        return "tracking-damaged", f"{file}: {error}", "correct its permissions, or those of its folder"
    except sqlite3.DatabaseError as error:
        fix = (
            f"restore a backup, or move it away: the next run makes a new one, and run directories stay: mv {file} {file}.damaged"
        )
        return "tracking-damaged", f"{file} is damaged: {error}", fix
    return None


def _connection_problem(uri: str) -> Problem | None:
    """Connect to the host of a server, which fails sooner than a request."""
    parts = urlsplit(uri)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS):
            return None
    except OSError as error:
        what = f"the tracking server {parts.hostname}:{port} cannot be reached: {error.strerror or error}"
        return "tracking-unreachable", what, "start the server, or set tracking.uri; metrics wait in the event logs meanwhile"


def _write_problem(uri: str, folder: Path) -> Problem | None:
    """Write and read through MLflow, in a thread of its own: a server that hangs would block for minutes."""
    failures: list[UserError] = []
    from reprise.tracking import backend  # late, and outside of the time limit: MLflow takes seconds to import

    def attempt() -> None:
        try:
            with backend.store_errors(uri):
                _write_and_read(backend.connect(uri, folder))
        except UserError as error:
            failures.append(error)

    thread = threading.Thread(target=attempt, name="probe", daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    if thread.is_alive():
        what = f"the tracking store did not answer within {ANSWER_SECONDS:.0f} s"
        return "tracking-fails", what, "look at the log of the server, or set tracking.uri"
    return ("tracking-fails", failures[0].what, failures[0].hint) if failures else None


def _write_and_read(client: "backend.MlflowClient") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Set a tag of an experiment, read it, and delete it. A store without an experiment is only read."""
    for experiment in client.search_experiments(max_results=1):
        token = uuid.uuid4().hex
        client.set_experiment_tag(experiment.experiment_id, TAG, token)
        stored = client.get_experiment(experiment.experiment_id).tags.get(TAG)
        client.delete_experiment_tag(experiment.experiment_id, TAG)
        if stored != token:
            raise UserError("the tracking store does not return what was written to it", "look at the log of the server")
