"""What earlier processes left behind: runs whose process died, and words that wait for the store."""

from contextlib import suppress
from pathlib import Path

from mlflow.exceptions import MlflowException

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend
from reprise.tracking.delivery import BIRTHMARK
from reprise.tracking.run import at_home, now
from reprise.tracking.spool import Spool
from reprise.tracking.unfinished import dead, held, unborn

SILENT = "its process ended without a word"


def close_dead(folder: Path, tracking: TrackingConfig | None, resumed: set[str]) -> list[str]:
    """Say FAILED of every run whose process died without a word, but for those that are about to go on; their names."""
    closed = _close_unborn(folder, tracking)
    for run_id in set(dead(folder)) - resumed:
        home = folder / "runs" / run_id
        if (home / "run.json").is_file() and (spool := Spool(home)).status == "RUNNING":
            spool.append({"tags": {"error": SILENT}}, {"status": "FAILED", "timestamp": now()})
            closed.append(str(store.read_json(home / "run.json")["name"]))
    return closed


def _close_unborn(folder: Path, tracking: TrackingConfig | None) -> list[str]:
    """Of runs that the store has and whose process died before they had a home."""
    uri = backend.address(tracking, folder)
    closed: list[str] = []
    with suppress(MlflowException, UserError):  # of a store that is away: the next start tries again
        for token in unborn(folder):
            client = backend.connect(uri, folder)
            every = [experiment.experiment_id for experiment in client.search_experiments()]
            for run in client.search_runs(every, f"tags.`{BIRTHMARK}` = '{token}'"):
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
        run = at_home(tracking, folder, waiting.name)
        uri = run.delivery.uri
        failure = down[uri] if uri in down else run.delivery.now()
        if failure:
            down[uri] = failure  # the others of that store need not wait for it as well
        (failures if failure else delivered).append(f"{run.name}: {failure}" if failure else run.name)
    return delivered, failures
