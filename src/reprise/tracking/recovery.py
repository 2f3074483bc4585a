"""Recover stale runs: mark runs of dead processes as FAILED, adopt runs of interrupted reproductions, sync waiting event logs."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout
from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend, run_info
from reprise.tracking.entries import StatusEntry, TagsEntry
from reprise.tracking.event_log import EventLog, outbox
from reprise.tracking.mlflow_sync import RUN_TOKEN_TAG
from reprise.tracking.resume import active_run_ids, known_ids_and_tokens, pending_runs, stale_runs
from reprise.tracking.run import now, open_run_dir
from reprise.tracking.statuses import PROCESS_DIED


def close_stale_runs(folder: Path, tracking: TrackingConfig | None, resumed: set[str]) -> list[str]:
    """Mark stale runs as FAILED, except those about to resume. Return their names.

    `stale_runs` holds the lock of each run while it is closed, so a process that resumes the run waits.
    """
    closed = [*adopt_reproductions(folder, tracking), *_close_pending_runs(folder, folder, tracking)]
    return closed + [
        name for run_id in stale_runs(folder) if run_id not in resumed and (name := _close(folder / "runs" / run_id))
    ]


def close_lost_runs(folder: Path) -> list[str]:
    """Mark waiting runs as FAILED that have not ended and that no training in progress knows. Return their names.

    Their process died before it recorded their id, or an older version opened them as parent without a lock.
    """
    waiting = [folder / "runs" / file.name for file in sorted((folder / "outbox").glob("*"))]
    trained_here = [run_dir for run_dir in waiting if run_info.exists(run_dir) and (run_dir / "config.json").is_file()]
    known = known_ids_and_tokens(folder)  # after the run directories are listed: a run is known before it has one
    return [
        name
        for run_dir in trained_here
        if known.isdisjoint({run_dir.name, run_info.read(run_dir).token}) and (name := _close(run_dir))
    ]


def close_all(folder: Path, run_ids: Iterable[str]) -> list[str]:
    """Mark runs as FAILED that this process holds and will not resume. Return the names of those that had not ended."""
    return [name for run_id in run_ids if (name := _close(folder / "runs" / run_id))]


def tagged_runs(folder: Path, since: int, tags: Mapping[str, str]) -> Iterator[tuple[Path, EventLog]]:
    """Yield run directory and event log of runs with these tags that started at `since` (milliseconds since 1970) or later."""
    for run_dir in run_info.run_dirs(folder):
        if run_info.read(run_dir).started >= since:
            event_log = EventLog(run_dir)
            if tags.items() <= event_log.tags.items():
                yield run_dir, event_log


def finished_runs(folder: Path, since: int, tags: Mapping[str, str]) -> Iterator[Path]:
    """Yield those run directories of `tagged_runs` that finished and are not stale: a kill can leave a finished run open."""
    stale = set(stale_runs(folder))
    yield from (
        run_dir
        for run_dir, event_log in tagged_runs(folder, since, tags)
        if event_log.status == "FINISHED" and run_dir.name not in stale
    )


def _close(run_dir: Path) -> str | None:
    """Mark a run without a final status as FAILED. Return its name, or None if there is no such run."""
    if not run_info.exists(run_dir) or (event_log := EventLog(run_dir)).status != "RUNNING":
        return None
    event_log.append(TagsEntry({"error": PROCESS_DIED}), StatusEntry("FAILED", now()))
    return run_info.read(run_dir).name


def _close_pending_runs(folder: Path, trained_in: Path, tracking: TrackingConfig | None) -> list[str]:
    """Mark runs as FAILED whose process died after creating them in the store and before the run directory under `trained_in`."""
    uri = backend.address(tracking, folder)
    closed: list[str] = []
    with suppress(MlflowException, UserError):  # the store is unreachable: the next start tries again
        for token in pending_runs(trained_in):
            client = backend.connect(uri, folder)
            experiments = [experiment.experiment_id for experiment in client.search_experiments()]
            for run in client.search_runs(experiments, f"tags.`{RUN_TOKEN_TAG}` = '{token}'"):
                if run.info.status == "RUNNING":
                    client.set_tag(run.info.run_id, "error", PROCESS_DIED)
                    client.set_terminated(run.info.run_id, "FAILED")
                    closed.append(run.info.run_name)
    return closed


def sync_waiting_runs(folder: Path, tracking: TrackingConfig | None) -> tuple[list[str], list[str]]:
    """Sync the event logs of runs that no process holds. Return the names of runs with new entries, and reasons of failures."""
    delivered: list[str] = []
    failures: list[str] = []
    down: dict[str, str] = {}
    active = active_run_ids(folder)
    for waiting in sorted((folder / "outbox").glob("*")):
        if waiting.name in active:
            continue
        if not run_info.exists(folder / "runs" / waiting.name):  # killed before its first entry
            waiting.unlink(missing_ok=True)
            continue
        run = open_run_dir(tracking, folder, waiting.name)
        uri, has_entries = run.mlflow_sync.uri, bool(run.event_log.waiting)
        failure = down[uri] if uri in down else run.mlflow_sync.now()
        if failure:
            down[uri] = failure  # skip further attempts at that store
            failures.append(f"{run.name}: {failure}")
        elif has_entries:
            delivered.append(run.name)
    return delivered, failures


COPY, PREFIX = "copy", "prefix"
"""In the folder of a reproduction: the working copy of the repository, and a file with the project's path inside it."""


@contextlib.contextmanager
def reproduction(folder: Path) -> Iterator[Path]:
    """Yield an empty folder mlruns/reproduce/… and remove it afterwards. `adopt_reproductions` handles it after a kill."""
    parent = store.made(folder / "reproduce")
    with contextlib.ExitStack() as locks:
        with FileLock(folder / "reproduce.lock"):  # without it, the folder would look stale until it is locked
            scratch = Path(tempfile.mkdtemp(dir=parent))
            locks.enter_context(FileLock(scratch / "lock"))
        try:
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def adopt_reproductions(folder: Path, tracking: TrackingConfig | None) -> list[str]:
    """Adopt the runs of reproductions whose process died. Return the names of the runs that had to be closed."""
    closed: list[str] = []
    if not (folder / "reproduce").is_dir():
        return closed
    with FileLock(folder / "reproduce.lock"):
        for scratch in sorted((folder / "reproduce").glob("*/")):
            with suppress(Timeout), FileLock(scratch / "lock", timeout=0):
                prefix = scratch / PREFIX
                other = scratch / COPY / (prefix.read_text("utf-8") if prefix.is_file() else "") / "mlruns"
                if not active_run_ids(other):  # trainings it started may still be ending
                    closed += adopt_runs(folder, other, tracking)
                    shutil.rmtree(scratch, ignore_errors=True)
    return closed


def adopt_runs(folder: Path, other: Path, tracking: TrackingConfig | None) -> list[str]:
    """Move runs and windows out of the mlruns/ `other` of a working copy. Return the names of the runs that had to be closed.

    Runs that are not fully synced are added to the outbox of `folder`, so that `reprise sync` sends them.
    """
    closed = _close_pending_runs(folder, other, tracking)
    for run_dir in sorted((other / "runs").glob("*")):
        if name := _close(run_dir):
            closed.append(name)
        if name or outbox(other, run_dir.name).is_file():
            store.made(folder / "outbox")
            outbox(folder, run_dir.name).touch()
    for source in (*(other / "windows").glob("*"), *(other / "runs").glob("*")):
        target = store.made(folder / source.parent.name) / source.name
        if not target.exists():
            source.rename(target)
    return closed
