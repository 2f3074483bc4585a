"""Addresses of stores: any path can be written as one, and a wrong one is refused with the one that was meant."""

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
from reprise.sweeps import optuna_storage, study
from reprise.tracking import backend
from reprise.tracking.address import address, checked, database, database_address, local_address

NASTY = "a%20b?c#d&e+f=g, h~'ü日{i}"
PLAIN = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs", "Zs", "Cc"]) | st.sampled_from("%?#&+=, ~'{}:;@")
)
NAMES = (st.sampled_from("%?#{} ").flatmap(lambda odd: PLAIN.map(lambda text: text + odd)) | PLAIN).filter(
    lambda name: name.strip(".") and len(name.encode()) < 200
)


@settings(deadline=None)
@given(NAMES, NAMES)
def test_the_address_of_a_file_leads_back_to_it(folder: str, name: str) -> None:
    file = Path("/") / folder / name
    url = make_url(database_address(file))
    assert url.database == str(file)
    assert not url.query
    assert url.get_dialect().driver == "pysqlite"
    assert database(database_address(file)) == file
    assert checked(database_address(file), "tracking.uri") == database_address(file)
    assert database_address(file).format() == database_address(file)  # as Optuna does


def test_an_ordinary_path_has_the_ordinary_address(tmp_path: Path) -> None:
    assert database_address(tmp_path / "ü 1" / "mlflow.db") == f"sqlite:///{tmp_path}/ü 1/mlflow.db"


def test_databases_of_an_odd_folder_lie_in_it_and_nowhere_else(tmp_path: Path) -> None:
    folder = tmp_path / NASTY / "mlruns"
    with closing(backend.connect(local_address(folder), folder)._tracking_client.store.engine.raw_connection()) as connection:
        assert connection.cursor().execute("SELECT count(*) FROM experiments").fetchone() == (1,)
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        (artifacts,) = store.execute("SELECT artifact_location FROM experiments").fetchone()
    assert artifacts.startswith((folder / "artifacts").as_uri())
    storage = RDBStorage(study.address(folder, None))
    storage.engine.dispose()
    assert {file.name for file in folder.iterdir()} >= {"mlflow.db", "sweeps.db"}
    assert [file.name for file in tmp_path.iterdir()] == [NASTY]


MEANT = {
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


@pytest.mark.parametrize("given_one", MEANT)
def test_a_wrong_address_is_refused_with_the_one_that_was_meant(given_one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "resolve", lambda path: Path("/here") / path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", given_one)
    with pytest.raises(UserError, match=re.escape(f"MLFLOW_TRACKING_URI={given_one}: ")) as refused:
        address(None, Path("mlruns"))
    assert MEANT[given_one] in str(refused.value).partition("; ")[2]


@pytest.mark.parametrize(
    "given_one",
    ["http://localhost:5000", "https://runs.org/mlflow", "sqlite:////abs/mlflow.db", "databricks", "databricks://profile"],
)
def test_an_address_that_mlflow_can_use_is_left_as_it_is(given_one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = TrackingConfig(uri=given_one, experiment="digits", log_model=False)
    assert address(config, Path("mlruns")) == given_one


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


@settings(deadline=None)  # the first of a database imports its dialect
@given(st.text() | st.from_regex(r"(http|sqlite|postgresql|mysql)(\+\w+)?:/{0,5}[\w@:%?/.]*", fullmatch=True))
def test_whatever_is_given_is_taken_as_it_is_or_refused(given_one: str) -> None:
    for for_runs in (True, False):
        with suppress(UserError):
            assert checked(given_one, "tracking.uri", for_runs) == given_one


@pytest.mark.parametrize("given_one", ["me:secret@localhost:5000", "http:/me:secret@localhost", "http://me:se/secret@localhost"])
def test_a_refusal_does_not_show_a_login(given_one: str) -> None:
    with pytest.raises(UserError) as refused:
        checked(given_one, "tracking.uri")
    assert "secret" not in str(refused.value)


def test_a_database_of_sweeps_that_cannot_be_opened_is_a_users_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optuna_storage, "TABLES_TIMEOUT", 0)
    (tmp_path / "sweeps.db").mkdir()
    with pytest.raises(UserError, match=r"the database of sweeps sqlite:.*fails: .*unable to open"):
        study.exists("mine", tmp_path, f"sqlite:///{tmp_path}/sweeps.db")
