"""Addresses of stores: any path can be written as an address, and an invalid address is refused with a suggestion."""

import re
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import RDBStorage
from sqlalchemy import make_url

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError
from reprise.sweeps import optuna_storage, studies
from reprise.tracking import backend
from reprise.tracking.address import address, checked, database, database_address, local_address

UNUSUAL_NAME = "a%20b?c#d&e+f=g, h~'ü日{i}"
PLAIN = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Zs", "Cc"]) | st.sampled_from("%?#&+=, ~'{}:;@")
)
NAMES = (st.sampled_from("%?#{} ").flatmap(lambda odd: PLAIN.map(lambda text: text + odd)) | PLAIN).filter(
    lambda name: name.strip(".") and len(name.encode()) < 200
)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_the_address_of_a_file_can_be_parsed_back(folder: str, name: str) -> None:
    file = Path("/") / folder / name
    url = make_url(database_address(file))
    assert url.database == str(file)
    assert not url.query
    assert url.get_dialect().driver == "pysqlite"
    assert database(database_address(file)) == file
    assert checked(database_address(file), "tracking.uri") == database_address(file)
    assert database_address(file).format() == database_address(file)  # as Optuna does


def test_a_plain_path_has_the_plain_address(tmp_path: Path) -> None:
    assert database_address(tmp_path / "ü 1" / "mlflow.db") == f"sqlite:///{tmp_path}/ü 1/mlflow.db"


def test_databases_of_a_folder_with_an_unusual_name_are_created_in_it_only(tmp_path: Path) -> None:
    folder = tmp_path / UNUSUAL_NAME / "mlruns"
    with closing(backend.connect(local_address(folder), folder)._tracking_client.store.engine.raw_connection()) as connection:
        assert connection.cursor().execute("SELECT count(*) FROM experiments").fetchone() == (1,)
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        (artifacts,) = store.execute("SELECT artifact_location FROM experiments").fetchone()
    assert artifacts.startswith((folder / "artifacts").as_uri())
    storage = RDBStorage(studies.address(folder, None))
    storage.engine.dispose()
    assert {file.name for file in folder.iterdir()} >= {"mlflow.db", "sweeps.db"}
    assert [file.name for file in tmp_path.iterdir()] == [UNUSUAL_NAME]


SUGGESTIONS = {
    "localhost:5000": "http://localhost:5000",
    "localhost": "http://localhost",
    "127.0.0.1:5000/mlflow": "http://127.0.0.1:5000/mlflow",
    "[::1]:5000": "http://[::1]:5000",
    "http:/localhost:5000": "http://localhost:5000",
    "https:runs.org": "https://runs.org",
    "https:///runs.org": "https://runs.org",
    "sqlite:////": "FILE.db",
    "sqlite://": "FILE.db",
    "sqlite:///:memory:": "FILE.db",
    "sqlite:///mlflow.db": "sqlite:////here/mlflow.db",
    "sqlite:mlflow.db": "sqlite:////here/mlflow.db",
    "sqlite:/abs/mlflow.db": "sqlite:////abs/mlflow.db",
    "sqlite://abs/mlflow.db": "sqlite:////abs/mlflow.db",
    "./runs": "sqlite:////here/runs/mlflow.db",
    "/abs/runs": "sqlite:////abs/runs/mlflow.db",
    "file:///abs/a%20b": "sqlite:////abs/a b/mlflow.db",
    "postgres://127.0.0.1/runs": "postgresql://127.0.0.1/runs",
    "postgresql+nothing://127.0.0.1/runs": "postgresql://",
    "postgresql+asyncpg://127.0.0.1/runs": "postgresql://",
    "postgresql://127.0.0.1:port/runs": "postgresql://HOST:PORT/NAME",
    "http://localhost:port": "http://HOST:PORT",
    "http://": "http://HOST:PORT",
    "http://two words": "http://HOST:PORT",
    "htp://localhost:5000": "http://HOST:PORT",
    "mlruns": "http://HOST:PORT",
}


@pytest.mark.parametrize("uri_text", SUGGESTIONS)
def test_an_invalid_address_is_refused_with_a_suggestion(uri_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", lambda path: Path("/here") / path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri_text)
    with pytest.raises(UserError, match=re.escape(f"MLFLOW_TRACKING_URI={uri_text}: ")) as refused:
        address(None, Path("mlruns"))
    assert SUGGESTIONS[uri_text] in str(refused.value).partition("; ")[2]


@pytest.mark.parametrize(
    "uri_text",
    ["http://localhost:5000", "https://runs.org/mlflow", "sqlite:////abs/mlflow.db", "databricks", "databricks://profile"],
)
def test_a_valid_address_is_unchanged(uri_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = TrackingConfig(uri=uri_text, experiment="digits", log_model=False)
    assert address(config, Path("mlruns")) == uri_text


DRIVERS = {
    "postgresql": ("psycopg", "psycopg[binary]"),
    "postgresql+psycopg2": ("psycopg2", "psycopg2-binary"),
    "mysql": ("MySQLdb", "mysqlclient"),
    "mysql+pymysql": ("pymysql", "pymysql"),
    "mssql": ("pyodbc", "pyodbc"),
}


@pytest.mark.parametrize("scheme", DRIVERS)
@pytest.mark.parametrize("for_runs", [True, False])
def test_a_database_without_its_driver_is_refused_with_the_package_to_install(
    scheme: str, for_runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = DRIVERS[scheme]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=re.escape(f"pip install '{package}'")) as refused:
        checked(f"{scheme}://me:secret@127.0.0.1/runs", "storage", for_runs)
    assert "secret" not in str(refused.value)


@settings(deadline=None)  # the first address of a database imports its dialect
@given(st.text() | st.from_regex(r"(http|sqlite|postgresql|mysql)(\+\w+)?:/{0,5}[\w@:%?/.]*", fullmatch=True))
def test_any_text_is_accepted_unchanged_or_refused(uri_text: str) -> None:
    for for_runs in (True, False):
        with suppress(UserError):
            assert checked(uri_text, "tracking.uri", for_runs) == uri_text


@pytest.mark.parametrize("uri_text", ["me:secret@localhost:5000", "http:/me:secret@localhost", "http://me:se/secret@localhost"])
def test_the_error_shows_no_login(uri_text: str) -> None:
    with pytest.raises(UserError) as refused:
        checked(uri_text, "tracking.uri")
    assert "secret" not in str(refused.value)


def test_a_database_of_sweeps_that_cannot_be_opened_is_a_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_storage, "TABLES_TIMEOUT", 0)
    (tmp_path / "sweeps.db").mkdir()
    with pytest.raises(UserError, match=r"the database of sweeps sqlite:.*fails: .*unable to open"):
        studies.exists("mine", tmp_path, f"sqlite:///{tmp_path}/sweeps.db")
