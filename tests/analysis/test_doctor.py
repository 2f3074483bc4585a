"""`reprise doctor` finds every planted fault by its code, and nothing in a project without faults."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reprise import memory
from reprise.analysis import doctor
from reprise.analysis.doctor import machine
from reprise.analysis.doctor.findings import Check
from reprise.data import store
from reprise.project_paths import ProjectPaths
from reprise.tracking import probe, run_info
from reprise.tracking.entries import StatusEntry
from reprise.tracking.event_log import EventLog
from reprise.tracking.run_info import RunInfo
from tests.pipeline.conftest import clone, run_in

Planted = tuple[list[str], dict[str, str]]
"""Arguments and environment variables of the command that meets the fault."""
DIGITS = "experiment=digits_cnn"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A clone with raw files, arrays, windows, weights, a tracking store and a run."""
    root = clone(tmp_path_factory.mktemp("doctor") / "clone")
    assert run_in(root, "reprise", "preprocess", "data=digits").returncode == 0
    for folder in (ProjectPaths(root).windows("digits_cnn"), ProjectPaths(root).models("digits_cnn")):
        with store.publish(folder) as draft:
            (draft / "content").write_text("as written")
    shutil.copy(empty_store, store.made(root / "mlruns"))
    make_run(root, "FINISHED")
    return root


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    return shutil.copytree(clean, tmp_path / "clone", symlinks=True)


def make_run(root: Path, status: str, run_id: str = "a1") -> Path:
    run_dir = store.made(root / "mlruns" / "runs" / run_id)
    run_info.write(run_dir, RunInfo(run_id=run_id, name=f"run-{run_id}", token=run_id))
    log = EventLog(run_dir)
    log.append(StatusEntry(status, None if status == "RUNNING" else 1000))
    log.delivered = len(log.entries)
    log.is_synced()
    return run_dir


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def diagnose(root: Path, *arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Return exit code and output of `reprise doctor --json`."""
    port = [] if "--port" in arguments else ["--port", str(free_port())]
    done = run_in(root, "reprise", "doctor", "--json", *port, *arguments, **environment)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def test_a_project_without_faults_has_no_findings_and_nothing_is_changed(clean: Path) -> None:
    before = {
        file: file.stat().st_mtime_ns for file in clean.rglob("*") if ".git" not in file.parts and "mlflow" not in file.name
    }
    code, report = diagnose(clean)
    assert report["findings"] == []
    assert (code, report["status"]) == (0, "ok")
    after = {file: file.stat().st_mtime_ns for file in clean.rglob("*") if ".git" not in file.parts and "mlflow" not in file.name}
    assert {file for file in before if before[file] != after.get(file)} <= {clean / "mlruns"}  # SQLite's temporary files
    with contextlib.closing(sqlite3.connect(clean / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT count(*) FROM experiment_tags").fetchone() == (0,)


def metadata(root: Path, *lines: str) -> Planted:
    """Install a `reprise` with other requirements, before the real one on the path."""
    folder = store.made(root / "other" / "reprise-0.1.0.dist-info")
    (folder / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: reprise", "Version: 0.1.0", *lines, ""]))
    return [], {"PYTHONPATH": str(folder.parent)}


def pinned(root: Path) -> Planted:
    (root / "constraints.txt").write_text("# pins\ntorch==1.0.0\nanother==2.0\n")
    return [], {}


def test_packages_that_every_command_compiles_again_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def codes() -> set[str]:
        machine.packages(check := Check("packages"), tmp_path)
        return {finding.code for finding in check.findings}

    monkeypatch.setattr("sys.pycache_prefix", str(tmp_path))  # no bytecode there
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    assert codes() == set()
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    assert codes() == {"packages-uncompiled"}


def broken_config(root: Path) -> Planted:
    file = root / "conf" / "experiment" / "digits_cnn.yaml"
    file.write_text(file.read_text().replace("max_epochs: 2", "max_epochs: some"))
    return [], {}


def no_such_devices(_: Path) -> Planted:
    return ["trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=64", "trainer.batch_size=64"], {}


def huge_arrays(root: Path) -> Planted:
    with (root / "data" / "processed" / "digits" / "huge.npy").open("wb") as stream:
        stream.truncate(1 << 43)  # sparse: takes no disk
    return [DIGITS, "trainer.preload_to_device=true"], {}


def changed(file: str) -> Callable[[Path], Planted]:
    def plant(root: Path) -> Planted:
        path = next(root.glob(file))
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-1] + b"?")
        return [], {}

    return plant


def no_repository(root: Path) -> Planted:
    shutil.rmtree(root / ".git")
    return [], {}


def git_lock(root: Path) -> Planted:
    (root / ".git" / "index.lock").touch()
    os.utime(root / ".git" / "index.lock", (0, 0))
    return [], {}


def text_in(file: str, text: str) -> Callable[[Path], Planted]:
    def plant(root: Path) -> Planted:
        store.made((root / file).parent)
        (root / file).write_text(text)
        return [], {}

    return plant


def database_locked(root: Path, stack: ExitStack) -> Planted:
    database = stack.enter_context(contextlib.closing(sqlite3.connect(root / "mlruns" / "mlflow.db", isolation_level=None)))
    database.execute("BEGIN IMMEDIATE")
    return [], {}


def interrupted(root: Path) -> Planted:
    make_run(root, "RUNNING", "b2")
    (store.made(root / "mlruns" / "in_progress") / "key.json").write_text(json.dumps({"0": {"token": "b2", "run_id": "b2"}}))
    return [], {}


def unsynced(root: Path) -> Planted:
    EventLog(make_run(root, "FINISHED", "b2")).append(StatusEntry("FINISHED", 2000))
    return [], {}


def stopped_holder(root: Path, stack: ExitStack) -> Planted:
    file = root / "mlruns" / "prepare.lock"
    script = f"import filelock, time; lock = filelock.FileLock({str(file)!r}); lock.acquire(); print('held', flush=True); time.sleep(600)"
    process = stack.enter_context(subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    return [], {}


def port_in_use(_: Path, stack: ExitStack) -> Planted:
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
    return ["--port", str(listener.getsockname()[1])], {}


def setting(*arguments: str, **environment: str) -> Callable[[Path], Planted]:
    return lambda _: (list(arguments), environment)


FAULTS: dict[str, tuple[int, str, Callable[..., Planted]]] = {
    "Python is too old": (1, "python-version", lambda root: metadata(root, "Requires-Python: >=3.99")),
    "a package is missing": (2, "package-missing", lambda root: metadata(root, "Requires-Dist: absent-package>=1")),
    "a package is too old": (3, "package-version", lambda root: metadata(root, "Requires-Dist: torch>=99")),
    "a package is not the pinned one": (1, "package-unpinned", pinned),
    "an experiment has a wrong value": (2, "config-invalid", broken_config),
    "pipeline.yaml is no YAML": (3, "config-invalid", text_in("conf/pipeline.yaml", "experiments: [")),
    "no such experiment": (4, "config-invalid", setting("experiment=digits_cmn")),
    "the pictures are gone": (
        5,
        "data-missing",
        setting("experiment=image_folder", "data.path=/no/such/folder", "data.name=mine"),
    ),
    "more GPUs than there are": (6, "gpu-missing", no_such_devices),
    "more threads than CPUs": (1, "threads-exceed-cpus", setting(OMP_NUM_THREADS="4096")),
    "more threads than CPUs in the config": (6, "threads-exceed-cpus", setting("trainer.threads=4096")),
    "arrays larger than the memory": (6, "memory-low", huge_arrays),
    "mlruns/ is read-only": (2, "not-writable", setting(FAULT="30 /mlruns$")),
    "a raw file changed": (1, "raw-damaged", changed("data/raw/digits/*")),
    "an array changed": (1, "arrays-damaged", changed("data/processed/digits/train/*.npy")),
    "windows changed": (1, "windows-damaged", changed("data/windows/digits_cnn/content")),
    "weights changed": (1, "weights-damaged", changed("data/models/digits_cnn/content")),
    "no git repository": (2, "code-unrecorded", no_repository),
    "git was killed": (1, "git-locked", git_lock),
    "DVC was killed": (1, "dvc-lock-damaged", text_in(".dvc/tmp/rwlock", '{"a": ')),
    "dvc.lock has conflict markers": (2, "dvc-lock-damaged", text_in("dvc.lock", "<<<<<<< HEAD\nschema: '2.0'\n")),
    "the tracking address is malformed": (2, "tracking-address", setting(MLFLOW_TRACKING_URI="postgres://host/name")),
    "the tracking server is down": (3, "tracking-unreachable", setting(MLFLOW_TRACKING_URI="http://127.0.0.1:1")),
    "the tracking database is damaged": (4, "tracking-damaged", text_in("mlruns/mlflow.db", "no database " * 100)),
    "the tracking database is locked": (1, "tracking-locked", database_locked),
    "run.json is damaged": (4, "run-damaged", text_in("mlruns/runs/a1/run.json", "{")),
    "the record of a training is damaged": (5, "run-damaged", text_in("mlruns/in_progress/key.json", '{"0": 1}')),
    "a training was killed": (1, "run-interrupted", interrupted),
    "entries wait for the store": (3, "runs-unsynced", unsynced),
    "gc was killed": (3, "gc-interrupted", text_in("mlruns/trash/a1/run.json", "{}")),
    "a stopped process holds a lock": (1, "lock-held", stopped_holder),
    "the mirror is gone": (1, "mirror-missing", setting(REPRISE_MIRROR="/no/such/folder")),
    "the mirror does not answer": (2, "mirror-unreachable", setting(REPRISE_MIRROR="http://127.0.0.1:1/")),
    "the sweep database is malformed": (2, "sweep-storage", setting(REPRISE_STORAGE="sweeps.db")),
    "another program uses the port": (1, "port-in-use", port_in_use),
}
"""Faults with their codes. Those with the same number are planted together."""
WARNINGS = {
    "package-unpinned",
    "threads-exceed-cpus",
    "code-unrecorded",
    "run-interrupted",
    "runs-unsynced",
    "gc-interrupted",
    "port-in-use",
}


@pytest.mark.parametrize("group", sorted({number for number, _, _ in FAULTS.values()}))
def test_every_planted_fault_is_found_with_its_code_and_a_fix_and_nothing_else(root: Path, group: int) -> None:
    planted = [(code, plant) for number, code, plant in FAULTS.values() if number == group]
    arguments, environment = list[str](), dict[str, str]()
    with ExitStack() as stack:
        for _, plant in planted:
            more_arguments, more_environment = plant(root, stack) if plant.__code__.co_argcount == 2 else plant(root)
            arguments += more_arguments
            environment |= more_environment
        code, report = diagnose(root, *sorted(arguments, key=lambda word: "=" in word), **environment)
    assert sorted(finding["code"] for finding in report["findings"]) == sorted(code for code, _ in planted), report["findings"]
    for finding in report["findings"]:
        assert finding["message"]
        assert finding["fix"]
        assert finding["severity"] == ("warning" if finding["code"] in WARNINGS else "error")
    assert code == 2  # each group has an error


def test_warnings_alone_are_no_failure(root: Path) -> None:
    unsynced(root)
    code, report = diagnose(root)
    assert (code, report["status"]) == (0, "ok")
    assert [finding["severity"] for finding in report["findings"]] == ["warning"]


def test_a_full_disk_is_found(clean: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    check = Check("disk")
    machine.disk(check, ProjectPaths(clean))
    assert [finding.code for finding in check.findings] == ["disk-full", "temporary-folder"]


def test_a_tracking_server_that_hangs_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{listener.getsockname()[1]}")
        _, problem = probe.probe(None, tmp_path)
    assert problem
    assert problem[0] == "tracking-fails"


def test_a_gpu_that_pytorch_does_not_use_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    store.made(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0")
    check = Check("devices")
    machine.devices(check, [], tmp_path)
    assert [finding.code for finding in check.findings] == ["gpu-unused"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 99 kB\nMemAvailable: 4096 kB\n"}, 4096 * 1024),
        ({"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "700\n"}, 300),
        (
            {
                "proc/meminfo": "MemAvailable: 4096 kB\n",
                "sys/fs/cgroup/memory.max": "1000\n",
                "sys/fs/cgroup/memory.current": "900\n",
                "sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 500\n",
            },
            600,
        ),
        ({"sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "900\n"}, None),
    ],
)
def test_available_memory_is_the_least_that_kernel_and_cgroups_leave(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    mounts = "31 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
    for name, text in {"proc/self/cgroup": "0::/\n", "proc/self/mountinfo": mounts, **files}.items():
        file = tmp_path / name
        store.made(file.parent)
        file.write_text(text)
    assert memory.available(tmp_path) == expected


def test_the_findings_are_printed_with_their_fixes(root: Path) -> None:
    git_lock(root)
    done = run_in(root, "reprise", "doctor", "--port", str(free_port()))
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[-1] == "doctor  1 finding"
    (found,) = (number for number, line in enumerate(lines) if "git-locked" in line)
    assert lines[found - 1].startswith("error    code ")
    assert lines[found + 1].startswith("         fix: if no git is running: rm ")
    assert len([line for line in lines if line.startswith("ok ")]) == 13


@contextlib.contextmanager
def health_page(text: bytes) -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + text)

        threading.Thread(target=answer, daemon=True).start()
        yield int(listener.getsockname()[1])


def test_a_running_dashboard_is_no_fault() -> None:
    server: AbstractContextManager[int] = health_page(b"OK")
    with server as number:
        check = Check("port")
        doctor.services.port(check, number)
    assert check.findings == []
    assert check.facts == [f"a dashboard runs on {number}"]
