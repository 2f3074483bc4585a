"""What earlier processes left behind: runs whose process died, here or in a working copy, and words that wait for the store."""

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
from reprise.tracking import backend
from reprise.tracking.event_log import EventLog, outbox
from reprise.tracking.mlflow_sync import RUN_TOKEN_TAG
from reprise.tracking.resume import held, pending_runs, stale_runs
from reprise.tracking.run import now, open_run_dir
from reprise.tracking.statuses import SILENT


def close_stale_runs(folder: Path, tracking: TrackingConfig | None, resumed: set[str]) -> list[str]:
    """Mark stale runs as FAILED, except those about to resume; their names.

    `dead` holds the lock of each while it is closed: a process that resumes one waits for that.
    """
    closed = [*adopt_reproductions(folder, tracking), *_close_pending_runs(folder, folder, tracking)]
    return closed + [
        name for run_id in stale_runs(folder) if run_id not in resumed and (name := _close(folder / "runs" / run_id))
    ]


def close_all(folder: Path, run_ids: Iterable[str]) -> list[str]:
    """Mark runs as FAILED that this process holds and will not resume; the names of those that had not ended."""
    return [name for run_id in run_ids if (name := _close(folder / "runs" / run_id))]


def made(folder: Path, since: int, tags: Mapping[str, str]) -> Iterator[tuple[Path, EventLog]]:
    """The run directories that carry these tags, begun at `since` (milliseconds) or later, and what each has said."""
    for file in sorted((folder / "runs").glob("*/run.json")):
        if store.read_json(file).get("started", 0) >= since:
            event_log = EventLog(file.parent)
            if tags.items() <= event_log.tags.items():
                yield file.parent, event_log


def ended(folder: Path, since: int, tags: Mapping[str, str]) -> Iterator[Path]:
    """Those of them that came to their end, of which nothing is left to be closed: a kill can keep that from being noted."""
    left = set(stale_runs(folder))
    yield from (
        run_dir for run_dir, event_log in made(folder, since, tags) if event_log.status == "FINISHED" and run_dir.name not in left
    )


def _close(run_dir: Path) -> str | None:
    """Say FAILED of a run that ended without a word; its name, or None where there is no such run."""
    if not (run_dir / "run.json").is_file() or (event_log := EventLog(run_dir)).status != "RUNNING":
        return None
    event_log.append({"tags": {"error": SILENT}}, {"status": "FAILED", "timestamp": now()})
    return str(store.read_json(run_dir / "run.json")["name"])


def _close_pending_runs(folder: Path, trained_in: Path, tracking: TrackingConfig | None) -> list[str]:
    """Of runs that the store has and whose process died before they had a run directory under `trained_in`."""
    uri = backend.address(tracking, folder)
    closed: list[str] = []
    with suppress(MlflowException, UserError):  # of a store that is away: the next start tries again
        for token in pending_runs(trained_in):
            client = backend.connect(uri, folder)
            every = [experiment.experiment_id for experiment in client.search_experiments()]
            for run in client.search_runs(every, f"tags.`{RUN_TOKEN_TAG}` = '{token}'"):
                if run.info.status == "RUNNING":
                    client.set_tag(run.info.run_id, "error", SILENT)
                    client.set_terminated(run.info.run_id, "FAILED")
                    closed.append(run.info.run_name)
    return closed


def deliver_waiting(folder: Path, tracking: TrackingConfig | None) -> tuple[list[str], list[str]]:
    """Deliver what waits of runs that no process holds: names of those that are up to date now, and why the others are not."""
    delivered: list[str] = []
    failures: list[str] = []
    down: dict[str, str] = {}
    alive = held(folder)
    for waiting in sorted((folder / "outbox").glob("*")):
        if waiting.name in alive:
            continue
        if not (folder / "runs" / waiting.name / "run.json").is_file():  # killed before it had said anything
            waiting.unlink(missing_ok=True)
            continue
        run = open_run_dir(tracking, folder, waiting.name)
        uri = run.mlflow_sync.uri
        failure = down[uri] if uri in down else run.mlflow_sync.now()
        if failure:
            down[uri] = failure  # the others of that store need not wait for it as well
        (failures if failure else delivered).append(f"{run.name}: {failure}" if failure else run.name)
    return delivered, failures


COPY, PREFIX = "copy", "prefix"
"""In the folder of a reproduction: the working copy of the repository, and a file with the project's folder below it."""


@contextlib.contextmanager
def reproduction(folder: Path) -> Iterator[Path]:
    """An empty folder mlruns/reproduce/… to run a run again in, gone after the block; `take_over` finds it if we are killed."""
    place = store.made(folder / "reproduce")
    with contextlib.ExitStack() as held:
        with FileLock(folder / "reproduce.lock"):  # between its making and its lock it would be taken for a dead one's
            made = Path(tempfile.mkdtemp(dir=place))
            held.enter_context(FileLock(made / "lock"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


def adopt_reproductions(folder: Path, tracking: TrackingConfig | None) -> list[str]:
    """Bring run directory what reproductions have made whose process died; names of the runs that had to be closed."""
    closed: list[str] = []
    if not (folder / "reproduce").is_dir():
        return closed
    with FileLock(folder / "reproduce.lock"):
        for left in sorted((folder / "reproduce").glob("*/")):
            with suppress(Timeout), FileLock(left / "lock", timeout=0):
                prefix = left / PREFIX
                other = left / COPY / (prefix.read_text("utf-8") if prefix.is_file() else "") / "mlruns"
                if not held(other):  # what they had started may take a moment to end too
                    closed += adopt_runs(folder, other, tracking)
                    shutil.rmtree(left, ignore_errors=True)
    return closed


def adopt_runs(folder: Path, other: Path, tracking: TrackingConfig | None) -> list[str]:
    """Runs and windows out of the mlruns/ of a working copy, before that goes; names of the runs that had to be closed.

    What the store lacks of them is noted here too, so that `reprise sync` delivers it.
    """
    closed = _close_pending_runs(folder, other, tracking)
    for run_dir in sorted((other / "runs").glob("*")):
        if name := _close(run_dir):
            closed.append(name)
        if name or outbox(other, run_dir.name).is_file():
            store.made(folder / "outbox")
            outbox(folder, run_dir.name).touch()
    for found in (*(other / "windows").glob("*"), *(other / "runs").glob("*")):
        target = store.made(folder / found.parent.name) / found.name
        if not target.exists():
            found.rename(target)
    return closed
