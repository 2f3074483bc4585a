"""Where runs are written down. Without MLflow, whose import takes two seconds."""

import os
from pathlib import Path

from reprise.config.schema import TrackingConfig


def address(config: TrackingConfig | None, folder: Path) -> str:
    """Where runs go: MLFLOW_TRACKING_URI, the configured address, or the database under `folder` (mlruns/)."""
    return os.environ.get("MLFLOW_TRACKING_URI") or (config and config.uri) or local_address(folder)


def local_address(folder: Path) -> str:
    """The database under `folder` (mlruns/)."""
    return f"sqlite:///{(folder / 'mlflow.db').resolve()}"


def database(uri: str) -> Path | None:
    """The file of a store that is a database of SQLite's, None of a server."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0]) if uri.startswith("sqlite:") else None
