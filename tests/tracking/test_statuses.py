"""The status of a run whose process died, in lists on the machine where it was trained: its lock decides."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from reprise.analysis.compare import _exclusion_reason
from reprise.config.schema import TrackingConfig
from reprise.tracking import backend, groups, listing, record, recovery, resume
from reprise.tracking.entries import StatusEntry, TagsEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.resume import Training
from reprise.tracking.run import Run, create_run
from reprise.tracking.statuses import PROCESS_DIED, corrected_statuses

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


def open_run(folder: Path, training: Training) -> Run:
    run = create_run(TRACKING, folder, training.token(0), "mine", {})
    run.tag({"seed": "0"})
    run.flush()
    return run


def listed_status(folder: Path) -> tuple[str, str, str | None]:
    """Return the status of the only run in both lists, and the reason why `compare` excludes it."""
    (row,), (line,) = listing.read(folder, TRACKING, [], None), record.list_runs(folder, TRACKING)
    assert row.tags == line.tags
    return row.status, line.status, _exclusion_reason(row)


def test_a_run_is_running_as_long_as_its_lock_is_held(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
        # also between its creation and the record of its id
        assert listed_status(folder) == ("RUNNING", "RUNNING", "still running")
        training.record_run_id(0, run.id)
        assert listed_status(folder) == ("RUNNING", "RUNNING", "still running")
    assert listed_status(folder) == ("FAILED", "FAILED", PROCESS_DIED)
    assert backend.connect(backend.local_address(folder), folder).get_run(run.id).info.status == "RUNNING"
    assert recovery.close_stale_runs(folder, TRACKING, set()) == ["mine"]
    assert listed_status(folder) == ("FAILED", "FAILED", PROCESS_DIED)


def test_a_run_whose_final_status_was_not_synced_has_ended(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
        run.event_log.append(TagsEntry({"error": "no room"}), StatusEntry("FAILED", 0))
    assert listed_status(folder) == ("FAILED", "FAILED", "failed")


def test_a_run_started_without_the_store_is_found_by_its_local_id(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
    renamed = run.run_dir.rename(run.run_dir.with_name(training.token(0)))
    assert corrected_statuses(folder, [run.id]) == {run.id: ("FAILED", {"error": PROCESS_DIED})}
    assert EventLog(renamed).status == "RUNNING"


def test_runs_of_other_machines_keep_the_status_of_the_store(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
    (run.run_dir / "config.json").unlink()  # as for a run trained elsewhere and evaluated here
    assert listed_status(folder)[:2] == ("RUNNING", "RUNNING")
    assert corrected_statuses(folder, ["of another machine"]) == {}


def test_a_run_that_is_started_anew_is_closed(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
        training.record_run_id(0, run.id)
    with resume.lock_training(folder, "key", 0):
        assert recovery.close_all(folder, [run.id, run.id, "none"]) == ["mine"]
    assert listed_status(folder) == ("FAILED", "FAILED", PROCESS_DIED)


def parent(folder: Path) -> AbstractContextManager[Run]:
    return groups.open_parent(TRACKING, folder, "token", "sweep-mine", {}, {"group": "sweep"})


def test_a_parent_run_is_running_while_its_process_lives(folder: Path) -> None:
    with parent(folder) as run:
        assert listed_status(folder)[:2] == ("RUNNING", "RUNNING")
        assert recovery.close_stale_runs(folder, TRACKING, set()) == recovery.close_lost_runs(folder) == []
        with parent(folder) as same:  # of a second driver on shared disks
            assert same.id == run.id
        assert resume.active_run_ids(folder) == {run.id}
    assert listed_status(folder)[:2] == ("FINISHED", "FINISHED")
    assert not list((folder / "in_progress").glob("*.json"))


def test_the_parent_run_of_a_dead_process_is_closed_and_delivered_once(folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=die_in_parent, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert listed_status(folder)[:2] == ("FAILED", "FAILED")
    assert recovery.sync_waiting_runs(folder, TRACKING) == ([], [])  # nothing waits
    assert recovery.close_stale_runs(folder, TRACKING, set()) == ["sweep-mine"]
    assert recovery.sync_waiting_runs(folder, TRACKING) == (["sweep-mine"], [])
    assert recovery.sync_waiting_runs(folder, TRACKING) == ([], [])
    with parent(folder) as run:
        assert "error" not in run.event_log.tags
    assert listed_status(folder)[:2] == ("FINISHED", "FINISHED")


def die_in_parent(folder: Path) -> None:
    with parent(folder):
        os.kill(os.getpid(), signal.SIGKILL)


def test_an_open_run_that_no_training_knows_is_closed(folder: Path) -> None:
    groups.start_parent(
        TRACKING, folder, "token", "sweep-mine", {}, {"group": "sweep"}
    )  # as an older version did, without a lock
    assert recovery.close_stale_runs(folder, TRACKING, set()) == []
    assert recovery.close_lost_runs(folder) == ["sweep-mine"]
    assert recovery.close_lost_runs(folder) == []
    assert listed_status(folder)[:2] == ("FAILED", "FAILED")


def test_a_run_whose_id_was_not_recorded_before_a_kill_is_closed(folder: Path) -> None:
    with resume.lock_training(folder, "key", 0) as training:
        run = open_run(folder, training)
        assert recovery.close_lost_runs(folder) == []
    assert recovery.close_stale_runs(folder, TRACKING, set()) == ["mine"]  # in the store, by its token
    assert recovery.close_lost_runs(folder) == ["mine"]  # in its run directory
    assert EventLog(run.run_dir).status == "FAILED"
