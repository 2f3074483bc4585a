"""Correct the status of runs that were trained here, as the store does not notice that a process died. Does not import MLflow."""

from collections.abc import Iterable
from pathlib import Path

from reprise.tracking import run_info
from reprise.tracking.event_log import EventLog
from reprise.tracking.resume import active_ids_and_tokens

PROCESS_DIED = "its process died"
"""Reason for the end of a run whose process wrote no final status."""


def corrected_statuses(folder: Path, running: Iterable[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Return status and explaining tags of runs that the store lists as RUNNING, but that are not.

    A run is RUNNING while its process holds the lock of its training. Runs of other machines are not corrected.
    """
    requested = set(running)
    if not requested:
        return {}
    active = active_ids_and_tokens(folder)  # before the event logs are read, as a run may end in between
    statuses = {}
    for run_dir in _trained_here(folder):
        run_id = _id_in_store(run_dir)
        if run_id in requested and (status := _status(run_dir, active))[0] != "RUNNING":
            statuses[run_id] = status
    return statuses


def _trained_here(folder: Path) -> list[Path]:
    return [file.parent for file in (folder / "runs").glob("*/config.json") if run_info.exists(file.parent)]


def _id_in_store(run_dir: Path) -> str:
    file = run_dir / "mlflow_id"
    return file.read_text() if file.is_file() else run_dir.name


def _status(run_dir: Path, active: set[str]) -> tuple[str, dict[str, str]]:
    """Return the status by event log and lock, and the tags that explain it."""
    event_log = EventLog(run_dir)
    tags = event_log.tags
    if event_log.status != "RUNNING":
        return event_log.status, {key: tags[key] for key in ("error", "pruned") if key in tags}
    is_active = not active.isdisjoint({run_dir.name, run_info.read(run_dir).token})
    return ("RUNNING", {}) if is_active else ("FAILED", {"error": PROCESS_DIED})
