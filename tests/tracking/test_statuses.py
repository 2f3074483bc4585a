"""What lists show of a run whose process died: its lock tells, on the machine where it was trained."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reprise.analysis.compare import _exclusion_reason
from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.tracking import backend, listing, record, recovery, resume
from reprise.tracking.entries import StatusEntry, TagsEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.resume import Training
from reprise.tracking.run import Run, open_new
from reprise.tracking.statuses import PROCESS_DIED, corrected

TRACKING = TrackingConfig(uri=None, experiment="digits", log_model=False)
Opened = Callable[[Training], Run]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("statuses") / "mlruns"
    backend.connect(backend.local_address(folder), folder)
    return folder


@pytest.fixture
def folder(empty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(empty, tmp_path / "mlruns"))


def opened(folder: Path, training: Training) -> Run:
    run = open_new(TRACKING, folder, training.token(0), "mine", {})
    run.tag({"seed": "0"})
    run.flush()
    return run


def shown(folder: Path) -> tuple[str, str, str | None]:
    """The status of the only run, in both lists, and why `compare` leaves it out."""
    (row,), (line,) = listing.read(folder, TRACKING, [], None), record.listed(folder, TRACKING)
    assert row.tags == line.tags
    return row.status, line.status, _exclusion_reason(row)


def test_a_run_is_going_on_as_long_as_its_lock_is_held(folder: Path) -> None:
    with resume.hold(folder, "key", 0) as training:
        run = opened(folder, training)
        assert shown(folder) == ("RUNNING", "RUNNING", "still going")  # between its making and its being noted too
        training.opened(0, run.id)
        assert shown(folder) == ("RUNNING", "RUNNING", "still going")
    assert shown(folder) == ("FAILED", "FAILED", PROCESS_DIED)
    assert backend.connect(backend.local_address(folder), folder).get_run(run.id).info.status == "RUNNING"
    assert recovery.close_stale_runs(folder, TRACKING, set()) == ["mine"]
    assert shown(folder) == ("FAILED", "FAILED", PROCESS_DIED)


def test_a_run_whose_end_was_not_delivered_has_ended(folder: Path) -> None:
    with resume.hold(folder, "key", 0) as training:
        run = opened(folder, training)
        run.event_log.append(TagsEntry({"error": "no room"}), StatusEntry("FAILED", 0))
    assert shown(folder) == ("FAILED", "FAILED", "failed")


def test_a_run_that_began_while_the_store_was_away_is_known_by_its_own_id(folder: Path) -> None:
    with resume.hold(folder, "key", 0) as training:
        run = opened(folder, training)
    away = run.run_dir.rename(run.run_dir.with_name(training.token(0)))
    assert corrected(folder, [run.id]) == {run.id: ("FAILED", {"error": PROCESS_DIED})}
    assert EventLog(away).status == "RUNNING"


def test_runs_of_other_machines_and_runs_that_stand_for_others_are_left_as_the_store_has_them(folder: Path) -> None:
    with resume.hold(folder, "key", 0) as training:
        run = opened(folder, training)
    (run.run_dir / "config.json").unlink()  # as of one that was trained elsewhere and is evaluated here
    assert shown(folder)[:2] == ("RUNNING", "RUNNING")
    store.write_json(run.run_dir / "config.json", {})
    run.tag({"group": "sweep"})
    assert shown(folder)[:2] == ("RUNNING", "RUNNING")
    assert corrected(folder, ["of another machine"]) == {}


def test_a_run_that_is_begun_anew_is_closed(folder: Path) -> None:
    with resume.hold(folder, "key", 0) as training:
        run = opened(folder, training)
        training.opened(0, run.id)
    with resume.hold(folder, "key", 0):
        assert recovery.close_all(folder, [run.id, run.id, "none"]) == ["mine"]
    assert shown(folder) == ("FAILED", "FAILED", PROCESS_DIED)
