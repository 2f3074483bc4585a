"""The event log with several writers, and its delivery: no entry is lost, and a run that goes on has no end."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.config.schema import TrackingConfig
from reprise.data import store
from reprise.errors import UserError
from reprise.tracking import backend, leftovers, unfinished
from reprise.tracking.delivery import Delivery
from reprise.tracking.run import Run, at_home, ending, open_new
from reprise.tracking.spool import Spool

TRACKING = TrackingConfig(uri=None, experiment="digits", log_model=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return store.made(tmp_path / "mlruns" / "runs" / "a")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder mlruns/ of a project with an empty store."""
    folder = tmp_path_factory.mktemp("spool") / "mlruns"
    backend.connect(backend.local_address(folder), folder)
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = Path(shutil.copytree(made, tmp_path / "mlruns"))
    return open_new(TRACKING, folder, "token", "mine", {})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.booleans()), max_size=12))
def test_no_entry_of_several_writers_is_lost_or_torn(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int, bool]]
) -> None:
    home = store.made(tmp_path_factory.mktemp("writers") / "runs" / "a")
    writers, written = [Spool(home) for _ in range(3)], []
    for turn, (writer, count, killed) in enumerate(turns):
        new = [{"tags": {f"{turn}": str(number)}} for number in range(count)]
        writers[writer].append(*new)
        written += new
        if killed:
            with writers[writer].file.open("ab") as stream:
                stream.write(b'{"tags": {"to')
            writers[writer] = Spool(home)
    for spool in (*writers, Spool(home)):
        spool.refresh()
        assert spool.entries == written
        assert spool.waiting == written


def test_entries_that_come_while_others_are_delivered_wait_in_the_outbox(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home.parent.parent
    spool, other = Spool(home), Spool(home)
    spool.append({"tags": {"a": "1"}}, {"status": "FINISHED", "timestamp": 0})
    delivery, sent = Delivery(home, spool, "http://127.0.0.1:9", folder), []

    def send(_: str) -> None:
        sent.extend(spool.waiting)
        spool.delivered += len(spool.waiting)
        if len(sent) == 2:
            other.append({"tags": {"test_opened": "1"}})

    monkeypatch.setattr(delivery, "_run_id", str)
    monkeypatch.setattr(delivery, "_deliver", send)
    assert delivery.now() is None
    assert (folder / "outbox" / "a").is_file()
    assert [entry.get("tags") for entry in spool.waiting] == [{"test_opened": "1"}]
    assert delivery.now() is None
    assert not (folder / "outbox" / "a").exists()
    assert Spool(home).waiting == []
    other.append({"tags": {"late": "1"}})  # of a process that has had the log open all the while
    assert (folder / "outbox" / "a").is_file()


def test_only_one_process_delivers_a_run_at_a_time(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(home)
    spool.append({"status": "FINISHED", "timestamp": 0})
    delivery = Delivery(home, spool, "http://127.0.0.1:9", home.parent.parent)
    monkeypatch.setattr("reprise.tracking.delivery.ANOTHER_DELIVERS", 0)
    with FileLock(home / "delivery.lock"):
        assert delivery.now() == "another process has been delivering it for long"
    assert len(spool.waiting) == 1


def test_a_run_that_resumed_and_finished_has_no_error(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    with pytest.raises(UserError), ending(run):
        raise UserError("the disk is full")
    client = backend.connect(backend.local_address(folder), folder)
    failed = client.get_run(run.id)
    assert (failed.info.status, failed.data.tags["error"]) == ("FAILED", "the disk is full")
    again = at_home(TRACKING, folder, run.id)
    again.resume()
    again.settle()
    assert client.get_run(run.id).info.status == "RUNNING"
    again = at_home(TRACKING, folder, run.id)
    with ending(again):
        again.spool.delivered = 0  # killed before anything was marked as sent: all of it is sent again
    finished = client.get_run(run.id)
    assert finished.info.status == "FINISHED"
    assert "error" not in finished.data.tags
    assert "error" not in Spool(run.home).tags


def test_a_stale_run_is_locked_while_it_is_closed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mlruns"
    with unfinished.hold(folder, "key", 0) as training:
        training.opened(0, run.id)
    close, locked = leftovers._close, []

    def watched(home: Path) -> str | None:
        with pytest.raises(UserError, match="going on in another process"), unfinished.hold(folder, "key", 0):
            pass
        locked.append(home.name)
        return close(home)

    monkeypatch.setattr(leftovers, "_close", watched)
    assert leftovers.close_dead(folder, TRACKING, set()) == ["mine"]
    assert locked == [run.id]
    assert Spool(run.home).status == "FAILED"
    with unfinished.hold(folder, "key", 0) as training:
        assert training.run_id(0) == run.id
