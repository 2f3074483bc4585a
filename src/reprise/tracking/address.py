"""Addresses of tracking stores and databases. This module does not import MLflow, which takes two seconds."""

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
"""The beginning of a local path."""
SERVER = re.compile(r"(https?(?=:)|(?=localhost|.*[.:]))(?::/*)?((?:[\w.-]+|\[[\da-fA-F:]+\])(?::\d+)?(?:/\S*)?)")
"""A server address without a complete `http://`: its name holds a port or a dot, or is localhost."""
RESERVED = re.compile(r"[%?#{}]")
"""Characters of a path that SQLAlchemy parses as part of the URL, and braces, which Optuna passes to `str.format`."""
PACKAGES = {
    "psycopg": "psycopg[binary]",
    "psycopg2": "psycopg2-binary",
    "MySQLdb": "mysqlclient",
    "mysql": "mysql-connector-python",
    "pysqlcipher3": "sqlcipher3",
}
"""Package to install for a module, if their names differ."""


def address(config: TrackingConfig | None, folder: Path) -> str:
    """Return the tracking store: MLFLOW_TRACKING_URI, else the configured address, else the database under `folder` (mlruns/).

    Raises:
        UserError: when the address is malformed, names a relative or temporary database, or needs a driver that is not installed.

    """
    if given := os.environ.get(VARIABLE):
        return checked(given, VARIABLE)
    if config and config.uri:
        return checked(config.uri, "tracking.uri")
    return local_address(folder)


def local_address(folder: Path) -> str:
    """Return the address of the database under `folder` (mlruns/)."""
    return database_address(folder / "mlflow.db")


def database_address(file: Path) -> str:
    """Return SQLAlchemy's URL of a SQLite file, whatever characters its path holds.

    MLflow creates the folder of the path after `sqlite:///` without decoding it, so an encoded path would create a folder outside
    the project. It creates none if the URL names the driver. Encoded paths are therefore written with the driver.
    """
    path = str(file.resolve())
    encoded = RESERVED.sub(lambda match: quote(match[0]), path)
    return f"sqlite:///{path}" if encoded == path else f"sqlite+pysqlite:///{encoded}"


def database(uri: str) -> Path | None:
    """Return the file of a SQLite store, or None for a server."""
    scheme, _, rest = uri.partition(":///")
    return Path(unquote(rest.partition("?")[0])) if scheme in SQLITE else None


def checked(uri: str, key: str, for_runs: bool = True) -> str:
    """Validate and return the address that a user gave as `key`: of a tracking store, or of a sweep database if not `for_runs`.

    Raises:
        UserError: naming the address that was probably meant, or the package to install.

    """
    if re.search(r"[\x00-\x1f\x7f]", uri):
        raise UserError(f"{key}={_redacted(uri)!r}: it holds a control character", _example(for_runs))
    scheme, separator, rest = uri.partition("://")
    if for_runs and ((scheme if separator else uri) in DATABRICKS or (separator and scheme in _plugin_schemes())):
        return uri
    known = (*DATABASES, *SERVERS) if for_runs else DATABASES
    if not separator or scheme.partition("+")[0] not in known:
        raise UserError(f"{key}={_redacted(uri)}: {_problem(uri, for_runs)}", _suggestion(uri, for_runs))
    if scheme in SERVERS:
        _check_host(uri, key)
    elif scheme in SQLITE:
        _check_absolute(uri, unquote(rest.partition("?")[0]), key)
    else:
        _check_driver(uri, key)
    return uri


def _plugin_schemes() -> set[str]:
    """Return the schemes of tracking stores that installed packages register with MLflow."""
    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}


def _redacted(uri: str) -> str:
    """Return an address without its login, even if no `//` precedes the login."""
    scheme, separator, _ = uri.partition("://")
    _, at, location = uri.rpartition("@")
    return (scheme + separator if separator else "") + location if at else uri


def _problem(uri: str, for_runs: bool) -> str:
    if LOCAL_PATH.match(uri):
        return f"a folder cannot hold {'runs' if for_runs else 'sweeps'}"
    scheme, separator, _ = uri.partition("://")
    return f"no {'tracking store' if for_runs else 'database'} is reached by {scheme}://" if separator else "no scheme"


def _suggestion(uri: str, for_runs: bool) -> str:
    """Return the address that was probably meant, as a hint."""
    if uri.startswith("postgres://"):
        return f"write {uri.replace('postgres', 'postgresql', 1)}"
    if LOCAL_PATH.match(uri):
        local = Path(os.path.expanduser(unquote(re.sub("^file:(//)?", "", uri))))  # noqa: PTH111 -- Path's raises for ~nobody
        name = "mlflow.db" if for_runs else "sweeps.db"
        return f"write {database_address(local if local.suffix == '.db' else local / name)}"
    if path := re.fullmatch(r"sqlite:(/*)([^/].*)", uri):
        return f"write {database_address(Path(path[1][:1] + path[2]))}"
    if for_runs and (server := SERVER.fullmatch(uri)):
        return f"write {server[1] or 'http'}://{server[2]}"
    return _example(for_runs)


def _example(for_runs: bool) -> str:
    if for_runs:
        return "write http://HOST:PORT, sqlite:////FOLDER/mlflow.db or postgresql://HOST/NAME"
    return "write sqlite:////FOLDER/sweeps.db or postgresql://HOST/NAME"


def _check_host(uri: str, key: str) -> None:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        raise UserError(f"{key}={_redacted(uri)}: host or port is malformed", "write http://HOST:PORT") from None
    if uri != "".join(uri.split()):
        raise UserError(f"{key}={_redacted(uri)}: it holds a space", "write http://HOST:PORT")
    if not parts.hostname:
        raise UserError(f"{key}={uri}: no host", _suggestion(uri.replace("://", ":", 1), for_runs=True))


def _check_absolute(uri: str, path: str, key: str) -> None:
    """Check that a SQLite path is absolute. The third slash ends an empty host, so an absolute path begins with a fourth."""
    if path.strip("/") in {"", ":memory:"}:
        raise UserError(f"{key}={uri}: a database in memory ends with its process", f"write {database_address(Path('FILE.db'))}")
    if not path.startswith("/"):
        raise UserError(f"{key}={uri}: SQLite has no host", f"write {database_address(Path('/', path))}")
    if not path.startswith("//"):
        suggestion = database_address(Path(path[1:]))
        raise UserError(f"{key}={uri}: a relative path depends on the current folder", f"write {suggestion}")


def _check_driver(uri: str, key: str) -> None:
    """Check with SQLAlchemy that the database's driver is installed."""
    from sqlalchemy.engine import make_url  # late: SQLite files and servers do not need it
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    scheme = uri.partition("://")[0]
    try:
        dialect = make_url(uri).get_dialect()
        if dialect.is_async:
            raise UserError(f"{key}={uri}: driver {dialect.driver} is asynchronous", _scheme_hint(scheme))
        dialect.import_dbapi()
    except NoSuchModuleError:
        raise UserError(f"{key}={uri}: SQLAlchemy has no driver {scheme}", _scheme_hint(scheme)) from None
    except (ArgumentError, ValueError):
        raise UserError(f"{key}={uri}: not an address of a database", "write postgresql://HOST:PORT/NAME") from None
    except ImportError as error:
        module = (error.name or scheme.partition("+")[2]).partition(".")[0]
        package = PACKAGES.get(module, module)
        raise UserError(f"{key}={uri}: its driver {module} is not installed", f"pip install '{package}'") from None


def _scheme_hint(scheme: str) -> str:
    return f"write {scheme.partition('+')[0]}://…"
