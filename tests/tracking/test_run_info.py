"""run.json and the state of trainings in progress: files of earlier and newer versions are read, damaged ones are named."""

import json
from pathlib import Path

import pytest

from reprise.errors import UserError
from reprise.tracking import resume, run, run_info
from reprise.tracking.resume import Training
from reprise.tracking.run_info import CURRENT_STORE, RunInfo

RECORDED = {
    "run_id": "1ee4f2b4d6e44ba58c4feffad2ea0387",
    "name": "temperature_lstm-seed2-abaa",
    "token": "abaabc0983414ef299af2aa5b397d0c5",
    "experiment": "seattle_weather",
    "store": None,
    "started": 1795763038604,
}
"""As written by version 0.1. Never change it: it represents the files on users' disks."""


def write(run_dir: Path, content: object) -> Path:
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "run.json").write_text(json.dumps(content))
    return run_dir


def test_run_json_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    info = run_info.read(write(tmp_path / "a", RECORDED))
    assert info.model_dump() == RECORDED
    run_info.write(tmp_path / "a", info)
    assert json.loads((tmp_path / "a" / "run.json").read_text()) == RECORDED


def test_run_json_of_a_run_from_another_machine_needs_id_and_name_only(tmp_path: Path) -> None:
    info = run_info.read(write(tmp_path / "a", {"run_id": "a", "name": "mine"}))
    assert info == RunInfo(run_id="a", name="mine", token="", experiment="", store=CURRENT_STORE, started=0)


def test_fields_that_a_newer_version_added_to_run_json_are_ignored(tmp_path: Path) -> None:
    assert run_info.read(write(tmp_path / "a", RECORDED | {"host": "gpu1"})).model_dump() == RECORDED


@pytest.mark.parametrize(
    ("content", "problem"),
    [({"run_id": "a"}, "name: Field required"), (RECORDED | {"started": "today"}, "started: .*integer"), ([], "its content: ")],
)
def test_a_damaged_run_json_is_named(tmp_path: Path, content: object, problem: str) -> None:
    with pytest.raises(UserError, match=rf"run.json is damaged: {problem}"):
        run_info.read(write(tmp_path / "a", content))


def test_run_directories_are_those_with_a_run_json(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / "runs" / name, RECORDED)
    (tmp_path / "runs" / "0").mkdir()
    assert [run_dir.name for run_dir in run_info.run_dirs(tmp_path)] == ["a", "b"]


def test_the_state_of_a_training_is_read_again(tmp_path: Path) -> None:
    with resume.lock_training(tmp_path, "key", 0) as training:
        token = training.token(0)
        training.record_run_id(0, "run0")
        training.token(1)
    with resume.lock_training(tmp_path, "key", 0) as training:
        assert (training.run_id(0), training.token(0), training.run_id(1), training.run_id(2)) == ("run0", token, None, None)
        assert training.run_ids == ["run0"]
        waiting = training.token(1)
        assert list(training.pending_runs()) == [waiting]
        assert training.run_ids == ["run0"]


def test_the_state_that_an_earlier_version_wrote_is_read(tmp_path: Path) -> None:
    content = {"parent": {"token": "t0", "run_id": "p"}, "0": {"run_id": "a"}, "1": {"token": "t1"}}
    (tmp_path / "state.json").write_text(json.dumps(content))
    training = Training(tmp_path / "state.json")
    assert (training.run_ids, training.run_id("parent"), training.token(1)) == (["p", "a"], "p", "t1")


def test_fields_that_a_newer_version_added_to_the_state_are_kept(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"0": {"token": "t0", "host": "gpu1"}}))
    Training(tmp_path / "state.json").record_run_id(0, "a")
    assert json.loads((tmp_path / "state.json").read_text()) == {"0": {"token": "t0", "run_id": "a", "host": "gpu1"}}


@pytest.mark.parametrize("content", [[], {"0": "a"}, {"0": {"run_id": 3}}])
def test_a_damaged_state_is_named(tmp_path: Path, content: object) -> None:
    (tmp_path / "state.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"state.json is damaged: .*; delete it"):
        Training(tmp_path / "state.json")


def test_last_is_the_newest_finished_training(tmp_path: Path) -> None:
    for number, run_id in enumerate(["c", "a", "b", "d"]):
        run_dir = write(tmp_path / "runs" / (run_id * 32), {"run_id": run_id * 32, "name": run_id, "started": 1000 * number})
        if run_id != "d":  # is being trained
            (run_dir / run_info.OUTCOME).write_text("{}")
    assert [run.find(tmp_path, name)[0] for name in ("last", "last~0", "last~1", "last~2")] == ["b", "b", "a", "c"]
    assert run.has_run_dir(tmp_path, "last")
    for name in ("last~3", "last~", "latest"):
        assert not run.has_run_dir(tmp_path, name)
        with pytest.raises(UserError, match=rf"^0 runs are called {name}; there are "):
            run.find(tmp_path, name)
