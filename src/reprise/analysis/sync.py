"""Sync event logs of run directories to MLflow."""

from collections.abc import Sequence

from rich.console import Console

from reprise.config import TrackingConfig, tracking_config
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import recovery


def run(paths: ProjectPaths, overrides: Sequence[str], console: Console) -> None:
    """Mark runs of dead processes as FAILED, then sync every event log that was not delivered, except of running trainings.

    Raises:
        UserError: when an event log could not be delivered.

    """
    tracked = address(paths, overrides)
    for name in [*recovery.close_stale_runs(paths.store, tracked, set()), *recovery.close_lost_runs(paths.store)]:
        console.print(f"sync  {name}: its process died; marked as FAILED", highlight=False, soft_wrap=True)
    delivered, failures = recovery.sync_waiting_runs(paths.store, tracked)
    for name in delivered:
        console.print(f"sync  {name}: delivered", highlight=False, soft_wrap=True)
    if failures:
        raise UserError(f"{len(failures)} runs are not sent yet: {failures[0]}", "start the server, then `reprise sync` again")
    if not delivered:
        console.print("sync  nothing to send")


def address(paths: ProjectPaths, overrides: Sequence[str]) -> TrackingConfig:
    """Return the tracking config of conf/, with the override `tracking.uri=ADDRESS` applied.

    Raises:
        UserError: for an override of another key.

    """
    config = tracking_config(paths.root)
    for item in overrides:
        key, _, value = item.partition("=")
        if key != "tracking.uri":
            raise UserError(f"{key}: no such key here", "only tracking.uri may be set")
        config = config.model_copy(update={"uri": value})
    return config
