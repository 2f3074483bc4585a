"""The event log with several writers, and its sync: no entry is lost, and a resumed run has no final status."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend, recovery, resume
from reprise.tracking.entries import StatusEntry, TagsEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.mlflow_sync import MlflowSync
from reprise.tracking.run import Run, create_run, open_run_dir, recording_outcome

TRACKING = TrackingConfig(uri=None, experiment="digits", log_model=False)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return store.made(tmp_path / "mlruns" / "runs" / "a")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder mlruns/ of a project with an empty store."""
    folder = tmp_path_factory.mktemp("event log") / "mlruns"
    backend.connect(backend.local_address(folder), folder)
    return folder


@pytest.fixture
def run(empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = Path(shutil.copytree(empty_store, tmp_path / "mlruns"))
    return create_run(TRACKING, folder, "token", "mine", {})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), max_size=12))
def test_no_entry_of_several_writers_is_lost_or_truncated(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int, bool]]
) -> None:
    run_dir = store.made(tmp_path_factory.mktemp("writers") / "runs" / "a")
    writers, written = [EventLog(run_dir) for _ in range(3)], []
    for turn, (writer, count, killed) in enumerate(turns):
        new = [TagsEntry({f"{turn}": str(number)}) for number in range(count)]
        writers[writer].append(*new)
        written += new
        if killed:
            with writers[writer].file.open("ab") as stream:
                stream.write(b'{"tags": {"to')
            writers[writer] = EventLog(run_dir)
    for event_log in (*writers, EventLog(run_dir)):
        event_log.refresh()
        assert event_log.entries == written
        assert event_log.waiting == written


def test_entries_appended_during_a_sync_stay_in_the_outbox(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run_dir.parent.parent
    event_log, other = EventLog(run_dir), EventLog(run_dir)
    event_log.append(TagsEntry({"a": "1"}), StatusEntry("FINISHED", 0))
    mlflow_sync, sent = MlflowSync(run_dir, event_log, "http://127.0.0.1:9", folder), []

    def send(_: str) -> None:
        sent.extend(event_log.waiting)
        event_log.delivered += len(event_log.waiting)
        if len(sent) == 2:
            other.append(TagsEntry({"test_opened": "1"}))

    monkeypatch.setattr(mlflow_sync, "_run_id", str)
    monkeypatch.setattr(mlflow_sync, "_deliver", send)
    assert mlflow_sync.now() is None
    assert (folder / "outbox" / "a").is_file()
    assert event_log.waiting == [TagsEntry({"test_opened": "1"})]
    assert mlflow_sync.now() is None
    assert not (folder / "outbox" / "a").exists()
    assert EventLog(run_dir).waiting == []
    other.append(TagsEntry({"late": "1"}))  # by a process that opened the log earlier
    assert (folder / "outbox" / "a").is_file()


def test_only_one_process_syncs_a_run_at_a_time(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event_log = EventLog(run_dir)
    event_log.append(StatusEntry("FINISHED", 0))
    mlflow_sync = MlflowSync(run_dir, event_log, "http://127.0.0.1:9", run_dir.parent.parent)
    monkeypatch.setattr("reprise.tracking.mlflow_sync.LOCK_TIMEOUT", 0)
    with FileLock(run_dir / "delivery.lock"):
        assert mlflow_sync.now() == "another process is still sending it"
    assert len(event_log.waiting) == 1


def test_a_run_that_resumed_and_finished_has_no_error(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    with pytest.raises(UserError), recording_outcome(run):
        raise UserError("the disk is full")
    client = backend.connect(backend.local_address(folder), folder)
    failed = client.get_run(run.id)
    assert (failed.info.status, failed.data.tags["error"]) == ("FAILED", "the disk is full")
    again = open_run_dir(TRACKING, folder, run.id)
    again.resume()
    again.flush()
    assert client.get_run(run.id).info.status == "RUNNING"
    again = open_run_dir(TRACKING, folder, run.id)
    with recording_outcome(again):
        again.event_log.delivered = 0  # killed before anything was marked as sent: all of it is sent again
    finished = client.get_run(run.id)
    assert finished.info.status == "FINISHED"
    assert "error" not in finished.data.tags
    assert "error" not in EventLog(run.run_dir).tags


def test_an_error_that_names_a_file_in_another_encoding_is_delivered(run: Run, tmp_path: Path) -> None:
    with pytest.raises(UserError), recording_outcome(run):
        raise UserError(os.fsdecode(b"/data/caf\xe9.csv") + ": no such file")
    assert run.event_log.waiting == []
    stored = backend.connect(backend.local_address(tmp_path / "mlruns"), tmp_path / "mlruns").get_run(run.id)
    assert stored.data.tags["error"] == r"/data/caf\udce9.csv: no such file"


def test_a_stale_run_is_locked_while_it_is_closed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mlruns"
    with resume.lock_training(folder, "key", 0) as training:
        training.record_run_id(0, run.id)
    close, locked = recovery._close, []

    def check_lock_and_close(run_dir: Path) -> str | None:
        with pytest.raises(UserError, match="running in another process"), resume.lock_training(folder, "key", 0):
            pass
        locked.append(run_dir.name)
        return close(run_dir)

    monkeypatch.setattr(recovery, "_close", check_lock_and_close)
    assert recovery.close_stale_runs(folder, TRACKING, set()) == ["mine"]
    assert locked == [run.id]
    assert EventLog(run.run_dir).status == "FAILED"
    with resume.lock_training(folder, "key", 0) as training:
        assert training.run_id(0) == run.id
