"""Addresses of tracking stores and databases. Without MLflow, whose import takes two seconds."""

import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from reprise.config.schema import TrackingConfig
from reprise.errors import UserError

VARIABLE = "MLFLOW_TRACKING_URI"
"""The environment variable that overrides `tracking.uri`."""
SQLITE = ("sqlite", "sqlite+pysqlite")
"""Schemes of a SQLite file."""
SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""The databases that MLflow can use."""
DATABRICKS = ("databricks", "databricks-uc", "uc")
LOCAL_PATH = re.compile(r"file:|[/.~]")
"""How a path on this machine begins."""
SERVER = re.compile(r"(https?(?=:)|(?=localhost|.*[.:]))(?::/*)?((?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d+)?(?:/\S*)?)")
"""A server whose address lacks `http://` or part of it: it has a port or a dot in its name, or is this machine."""
RESERVED = re.compile(r"[%?#{}]")
"""Characters of a path that SQLAlchemy reads as part of the URL, and braces, which Optuna formats."""
PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "pysqlcipher3": "sqlcipher3",
}
"""What to install for a module, where the package has another name."""


def address(config: TrackingConfig | None, folder: Path) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, the configured address, or the database under `folder` (mlruns/).

    Raises:
        UserError: when the address is malformed, names a relative or temporary database, or needs a driver that is not installed.

    """
    if given := os.environ.get(VARIABLE):
        return checked(given, VARIABLE)
    if config and config.uri:
        return checked(config.uri, "tracking.uri")
    return local_address(folder)


def local_address(folder: Path) -> str:
    """The database under `folder` (mlruns/)."""
    return database_address(folder / "mlflow.db")


def database_address(file: Path) -> str:
    """Return SQLAlchemy's URL of a SQLite file, whatever characters its path holds.

    MLflow makes the folder of everything that follows `sqlite:///` without decoding it, which would be a folder outside of the
    project. It does not where the driver is named, so an encoded path is written that way.
    """
    path = str(file.resolve())
    encoded = RESERVED.sub(lambda found: quote(found[0]), path)
    return f"sqlite:///{path}" if encoded == path else f"sqlite+pysqlite:///{encoded}"


def database(uri: str) -> Path | None:
    """The file of a SQLite store, None of a server."""
    scheme, _, rest = uri.partition(":///")
    return Path(unquote(rest.partition("?")[0])) if scheme in SQLITE else None


def checked(uri: str, key: str, for_runs: bool = True) -> str:
    """Return an address that a user gave as `key`, if it can be one of a tracking store, or else of a database of sweeps.

    Raises:
        UserError: naming the address that was probably meant, or the package to install.

    """
    if re.search(r"[\x00-\x1f\x7f]", uri):
        raise UserError(f"{key}={_shown(uri)!r}: it holds a control character", _example(for_runs))
    scheme, separator, rest = uri.partition("://")
    if for_runs and ((scheme if separator else uri) in DATABRICKS or (separator and scheme in _plugged_in())):
        return uri
    known = (*DATABASES, *SERVERS) if for_runs else DATABASES
    if not separator or scheme.partition("+")[0] not in known:
        raise UserError(f"{key}={_shown(uri)}: {_objection(uri, for_runs)}", _meant(uri, for_runs))
    if scheme in SERVERS:
        _demand_host(uri, key)
    elif scheme in SQLITE:
        _demand_absolute(uri, unquote(rest.partition("?")[0]), key)
    else:
        _demand_driver(uri, key)
    return uri


def _plugged_in() -> set[str]:
    """Schemes of tracking stores that installed packages add to MLflow."""
    return {found.name for found in entry_points(group="mlflow.tracking_store")}


def _shown(uri: str) -> str:
    """An address without its login, also where no `//` stands before that."""
    scheme, separator, _ = uri.partition("://")
    _, at, place = uri.rpartition("@")
    return (scheme + separator if separator else "") + place if at else uri


def _objection(uri: str, for_runs: bool) -> str:
    if LOCAL_PATH.match(uri):
        return f"a folder cannot hold {'runs' if for_runs else 'sweeps'}"
    scheme, separator, _ = uri.partition("://")
    return f"no {'tracking store' if for_runs else 'database'} is reached by {scheme}://" if separator else "no scheme"


def _meant(uri: str, for_runs: bool) -> str:
    """The address that was probably meant, as a hint."""
    if uri.startswith("postgres://"):
        return f"write {uri.replace('postgres', 'postgresql', 1)}"
    if LOCAL_PATH.match(uri):
        place = Path(os.path.expanduser(unquote(re.sub("^file:(//)?", "", uri))))  # noqa: PTH111 -- Path's raises for ~nobody
        name = "mlflow.db" if for_runs else "sweeps.db"
        return f"write {database_address(place if place.suffix == '.db' else place / name)}"
    if path := re.fullmatch(r"sqlite:(/*)([^/].*)", uri):
        return f"write {database_address(Path(path[1][:1] + path[2]))}"
    if for_runs and (server := SERVER.fullmatch(uri)):
        return f"write {server[1] or 'http'}://{server[2]}"
    return _example(for_runs)


def _example(for_runs: bool) -> str:
    if for_runs:
        return "write http://HOST:PORT, sqlite:////FOLDER/mlflow.db or postgresql://HOST/NAME"
    return "write sqlite:////FOLDER/sweeps.db or postgresql://HOST/NAME"


def _demand_host(uri: str, key: str) -> None:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise UserError(f"{key}={_shown(uri)}: host or port is malformed", "write http://HOST:PORT") from None
    if uri != "".join(uri.split()):
        raise UserError(f"{key}={_shown(uri)}: it holds a space", "write http://HOST:PORT")
    if not parts.hostname:
        raise UserError(f"{key}={uri}: no host", _meant(uri.replace("://", ":", 1), for_runs=True))


def _demand_absolute(uri: str, path: str, key: str) -> None:
    """Of three slashes the third ends an empty host: an absolute path begins with a fourth."""
    if path.strip("/") in {"", ":memory:"}:
        raise UserError(f"{key}={uri}: a database in memory ends with its process", f"write {database_address(Path('FILE.db'))}")
    if not path.startswith("/"):
        raise UserError(f"{key}={uri}: SQLite has no host", f"write {database_address(Path('/', path))}")
    if not path.startswith("//"):
        meant = database_address(Path(path[1:]))
        raise UserError(f"{key}={uri}: a relative path depends on the current folder", f"write {meant}")


def _demand_driver(uri: str, key: str) -> None:
    """Refuse a database whose driver is not installed, as SQLAlchemy finds it."""
    from sqlalchemy.engine import make_url  # late: a SQLite file and a server do without
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    scheme = uri.partition("://")[0]
    try:
        dialect = make_url(uri).get_dialect()
        if dialect.is_async:
            raise UserError(f"{key}={uri}: driver {dialect.driver} is asynchronous", _without_driver(scheme))
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise UserError(f"{key}={uri}: SQLAlchemy has no driver {scheme}", _without_driver(scheme)) from None
    except (ArgumentError, ValueError):
        raise UserError(f"{key}={uri}: not an address of a database", "write postgresql://HOST:PORT/NAME") from None
    except ImportError as error:
        module = (error.name or scheme.partition("+")[2]).partition(".")[0]
        package = PACKAGES.get(module, module)
        raise UserError(f"{key}={uri}: its driver {module} is not installed", f"pip install '{package}'") from None


def _without_driver(scheme: str) -> str:
    return f"write {scheme.partition('+')[0]}://…"
