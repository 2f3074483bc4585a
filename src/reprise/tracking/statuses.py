"""The status of runs that were trained here: the store does not learn that a process died. Without MLflow; only read."""

from collections.abc import Iterable
from pathlib import Path

from reprise.data import store
from reprise.tracking.descriptions import GROUP
from reprise.tracking.event_log import EventLog
from reprise.tracking.resume import at_work

SILENT = "its process died"
"""Why a run ended whose process wrote no end."""


def corrected(folder: Path, running: Iterable[str]) -> dict[str, tuple[str, dict[str, str]]]:
    """Of runs that the store holds for RUNNING, those that are not: their status, and tags that say why.

    A run is going on while its process holds the lock of its training. Runs of other machines are left as the store has them.
    """
    wanted = set(running)
    if not wanted:
        return {}
    alive = at_work(folder)  # before the event logs: a run may end in between
    found = {}
    for run_dir in _trained_here(folder):
        run_id = _id_in_store(run_dir)
        if run_id in wanted and (now := _status(run_dir, alive)) and now[0] != "RUNNING":
            found[run_id] = now
    return found


def _trained_here(folder: Path) -> list[Path]:
    return [file.parent for file in (folder / "runs").glob("*/config.json") if (file.parent / "run.json").is_file()]


def _id_in_store(run_dir: Path) -> str:
    file = run_dir / "mlflow_id"
    return file.read_text() if file.is_file() else run_dir.name


def _status(run_dir: Path, alive: set[str]) -> tuple[str, dict[str, str]] | None:
    """By the event log and the lock; None of a run that stands for others, which may have no lock of its own."""
    event_log = EventLog(run_dir)
    tags = event_log.tags
    if event_log.status != "RUNNING":
        return event_log.status, {key: tags[key] for key in ("error", "pruned") if key in tags}
    if GROUP in tags:
        return None
    is_alive = not alive.isdisjoint({run_dir.name, store.read_json(run_dir / "run.json").get("token")})
    return ("RUNNING", {}) if is_alive else ("FAILED", {"error": SILENT})
