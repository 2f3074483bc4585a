"""DVC's files are as the adapter reads them. A failure of the first tests means: adapt tracking/dvc_files.py to the new DVC."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import psutil
import pytest
import yaml

from reprise.errors import UserError
from reprise.tracking import dvc_files
from reprise.tracking.dvc_files import LockedStage

HINT = f"DVC {version('dvc')} changed its files: adapt tracking/dvc_files.py"
COPY = {"cmd": "cp a b", "deps": ["a"], "outs": ["b"]}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose only stage was run by DVC."""
    root = tmp_path_factory.mktemp("dvc") / "project"
    root.mkdir()
    (root / "a").write_text("content")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"copy": COPY}}))
    for command in ("git init -q", f"{sys.executable} -m dvc init -q", f"{sys.executable} -m dvc repro -q", "git add -A"):
        subprocess.run(command.split(), cwd=root, check=True)
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-qm", "start"], cwd=root, check=True)
    return root


@pytest.fixture
def root(reproduced: Path, tmp_path: Path) -> Path:
    return shutil.copytree(reproduced, tmp_path / "project")


def test_dvc_locks_command_and_hashes_of_a_stage(root: Path) -> None:
    md5 = hashlib.md5(b"content").hexdigest()
    assert yaml.safe_load((root / "dvc.lock").read_text())["schema"] == dvc_files.SCHEMA, HINT
    assert dvc_files.locked_stage(root, "copy") == LockedStage("cp a b", {"a": md5}, {"b": md5}), HINT
    assert dvc_files.output_hashes(root) == {"b": md5}, HINT
    assert dvc_files.dependency_hashes(root, "copy") == {"a": md5}, HINT


def test_dvc_writes_its_files_where_the_repair_looks_for_them(root: Path) -> None:
    (entry,) = (root / dvc_files.FOLDER / "cache" / "runs").glob("*/*/*")
    assert yaml.safe_load(entry.read_text())["cmd"] == "cp a b", HINT
    assert isinstance(json.loads((root / dvc_files.FOLDER / "tmp" / "rwlock").read_text()), dict), HINT
    assert dvc_files.repair(root) == [], HINT  # complete files stay as they are


@pytest.mark.parametrize("committed", [False, True])
def test_a_lock_file_is_parsed_unless_it_is_as_committed(committed: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    load = dvc_files._load_yaml
    monkeypatch.setattr(dvc_files, "_load_yaml", lambda text: (parsed.append(text), load(text))[1])
    if not committed:
        with (root / "dvc.lock").open("a") as file:
            file.write("# changed\n")
    assert dvc_files.repair(root) == []
    assert bool(parsed) is not committed
    assert dvc_files.incomplete_locks(root) == ([], [])
    assert parsed


def test_a_lock_file_that_git_does_not_know_is_parsed(root: Path) -> None:
    for command in ("rm -q --cached dvc.lock", "config status.showUntrackedFiles no"):
        subprocess.run(["git", *command.split()], cwd=root, check=True)
    (root / "dvc.lock").write_text("schema: '2.0'\nstages:\n  copy:\n    cmd: cp a b\n    de")
    assert dvc_files.repair(root) == [root / "dvc.lock"]


def test_incomplete_files_are_repaired(root: Path) -> None:
    lock, process_list = root / "dvc.lock", root / dvc_files.FOLDER / "tmp" / "rwlock"
    content = lock.read_bytes()
    lock.write_bytes(content[:40])
    process_list.write_bytes(b'{"read": {"a"')
    (entry,) = (root / dvc_files.FOLDER / "cache" / "runs").glob("*/*/*")
    draft = entry.with_name(".draft.tmp")
    entry.rename(draft)
    assert dvc_files.repair(root) == [lock, process_list, draft, entry.parent]
    assert lock.read_bytes() == content
    assert not process_list.exists()
    assert not entry.parent.exists()


def test_stages_that_never_ran_have_no_hashes(tmp_path: Path) -> None:
    assert dvc_files.output_hashes(tmp_path) == {}
    assert dvc_files.dependency_hashes(tmp_path, "copy") == {}
    with pytest.raises(UserError, match=r"train@x: not in dvc.lock; run it first: `dvc repro train@x`"):
        dvc_files.locked_stage(tmp_path, "train@x")


def test_both_pipelines_are_read(tmp_path: Path) -> None:
    for folder, name in ((tmp_path, "a"), (tmp_path / "long", "b")):
        folder.mkdir(exist_ok=True)
        stages = {name: {"cmd": "true", "outs": [{"path": name, "hash": "md5", "md5": "0" * 32}]}}
        (folder / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    assert dvc_files.output_hashes(tmp_path) == {"a": "0" * 32, "b": "0" * 32}
    assert dvc_files.locked_stage(tmp_path, "long/dvc.yaml:b").outputs == {"b": "0" * 32}


@pytest.mark.parametrize("content", ["schema: '3.0'\nstages: {}\n", "stages: {}\n", ""])
def test_a_lock_file_of_another_schema_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "dvc.lock").write_text(content)
    with pytest.raises(UserError, match=r"dvc.lock: schema .*, where 2.0 is expected"):
        dvc_files.output_hashes(tmp_path)


def test_ended_processes_are_removed_from_the_list_of_users(root: Path) -> None:
    file = root / dvc_files.FOLDER / "tmp" / "rwlock"
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(zombie.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended, running = [{"pid": one.pid, "cmd": "repro"} for one in (zombie, gone)], {"pid": os.getpid(), "cmd": "repro"}
    users = {"write": {"a": ended[0], "b": running, "c": ended[1]}, "read": {"d": ended, "e": [*ended, running]}}
    file.write_text(json.dumps(users))
    dvc_files.forget_ended_processes(root)
    assert json.loads(file.read_text()) == {"write": {"b": running}, "read": {"e": [running]}}
    zombie.wait()
