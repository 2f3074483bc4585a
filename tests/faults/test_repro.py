"""A `dvc repro` that is killed and restarted repeatedly ends with the outputs of an undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from difflib import ndiff
from pathlib import Path

import pytest

from tests.cli_fork_server import user_environment
from tests.pipeline.conftest import clone, make_project, run_in

KILLS, LONGEST = 3, 10.0
STAGES = (
    "compose",
    "download data=digits",
    "preprocess data=digits",
    "window --pipeline digits_cnn",
    "train --pipeline digits_cnn",
    "evaluate --pipeline digits_cnn",
    "draw --pipeline digits_cnn",
)


def repro(project: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "reprise", "repro", *arguments]
    with (project / "repro.log").open("ab") as log:
        return subprocess.Popen(command, cwd=project, env=user_environment(), stdout=log, stderr=log, start_new_session=True)


def outputs(project: Path) -> dict[str, bytes]:
    """Return the content of every output of the pipeline."""
    folder = project / "data"
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".gitignore"
    }


def kill_until_done(project: Path, kills: int, rng: random.Random, longest: float) -> int:
    """Start the pipeline repeatedly, and kill DVC, alone or with its child processes, after a random time. Return the number of kills."""
    done = 0
    while True:
        process = repro(project)
        try:
            code = process.wait(timeout=longest * rng.random() if done < kills else None)
        except subprocess.TimeoutExpired:
            kill = os.kill if rng.random() < 0.5 else os.killpg
            kill(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
        else:
            assert code == 0, (project / "repro.log").read_text()
            return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after a `reprise repro` that was killed at random instants."""
    killed = clone(tmp_path_factory.mktemp("killed") / "clone")
    assert kill_until_done(killed, KILLS, random.Random(0), LONGEST) > 0
    return killed


def test_a_pipeline_killed_at_random_times_ends_with_the_same_bytes(project: Path, tmp_path: Path) -> None:
    undisturbed = make_project(tmp_path / "project")
    for stage in STAGES:
        done = run_in(undisturbed, "reprise", *stage.split())
        assert done.returncode == 0, done.stderr
    assert outputs(project) == outputs(undisturbed)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_truncated_dvc_files_are_repaired(project: Path, fraction: float) -> None:
    lock, users = project / "dvc.lock", project / ".dvc" / "tmp" / "rwlock"
    content, before = lock.read_bytes(), outputs(project)
    cut = int(fraction * len(content))
    lock.write_bytes(content[: cut - 1 if content[:cut].endswith(b"\n") else cut])  # within a line
    users.write_bytes(b"" if fraction else b'{"read": {"a": [{"pi')
    (project / "repro.log").unlink()
    code = repro(project, "--verbose").wait()
    log = (project / "repro.log").read_text()
    assert code == 0, log
    assert "dvc.lock: half written by a DVC that was killed; repaired" in log
    assert lock.read_bytes() == content, "".join(ndiff(content.decode().splitlines(True), lock.read_text().splitlines(True)))
    assert "Running stage" not in log, log  # every stage was restored from DVC's run cache
    assert outputs(project) == before


def test_a_lock_file_cut_at_the_end_of_a_line_is_completed(project: Path) -> None:
    """It is valid YAML and lacks outputs of its last stage: DVC restores them from its run cache."""
    lock = project / "dvc.lock"
    content, before = lock.read_bytes(), outputs(project)
    lock.write_bytes(content[: content.rindex(b"\n", 0, int(0.9 * len(content))) + 1])
    (project / "repro.log").unlink()
    assert repro(project, "--verbose").wait() == 0
    log = (project / "repro.log").read_text()
    assert lock.read_bytes() == content
    assert "Running stage" not in log, log
    assert outputs(project) == before


@pytest.mark.parametrize("partial", [b"", b"cmd: repr", None], ids=["an empty draft", "a draft", "an empty folder"])
def test_an_incomplete_entry_of_dvcs_run_cache_is_repaired(project: Path, partial: bytes | None) -> None:
    lock, content, before = project / "dvc.lock", (project / "dvc.lock").read_bytes(), outputs(project)
    (entry,) = (file for file in (project / ".dvc/cache/runs").glob("*/*/*") if b"cmd: reprise compose" in file.read_bytes())
    entry.unlink()
    if partial is not None:
        (entry.parent / ".VqFjxepTx0PB7lgMuUv-Cw.tmp").write_bytes(partial)
    lock.write_bytes(content[: content.index(b"  compose:")])
    (project / "repro.log").unlink()
    code = repro(project).wait()
    log = (project / "repro.log").read_text()
    assert code == 0, log
    assert log.count("Running stage") == 1, log
    assert f"{entry.parent.name}: half written by a DVC that was killed; repaired" in log
    assert lock.read_bytes() == content
    assert outputs(project) == before


def test_a_stage_ends_with_the_dvc_that_started_it() -> None:
    waiting = "import sys, time; from reprise import parent_watchdog; parent_watchdog.end_with_parent(); print('on', flush=True); time.sleep(60)"
    starting = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waiting!r}])"
    with subprocess.Popen([sys.executable, "-c", starting], stdout=subprocess.PIPE, env=user_environment()) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"on\n"
        parent.kill()
        killed_at = time.monotonic()
        assert parent.stdout.read() == b""  # the pipe closes when the last process that holds it has ended
        assert time.monotonic() - killed_at < 30


def test_a_stage_ends_if_its_dvc_died_before_the_watchdog_started() -> None:
    late = "import os, time; os.getppid = lambda: 1; from reprise import parent_watchdog; parent_watchdog.end_with_parent(); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", late], env=user_environment(), timeout=30).returncode == -signal.SIGTERM
