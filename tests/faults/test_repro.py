"""A `dvc repro` that is killed again and again, and started again, ends as one that was not."""

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


def made(project: Path) -> dict[str, bytes]:
    """Every byte that the pipeline made."""
    folder = project / "data"
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != ".gitignore"
    }


def kill_until_done(project: Path, kills: int, chance: random.Random, longest: float) -> int:
    """Start the pipeline again and again, and kill it after a random time: DVC alone, or with all it started. How often it was."""
    done = 0
    while True:
        process = repro(project)
        try:
            code = process.wait(timeout=longest * chance.random() if done < kills else None)
        except subprocess.TimeoutExpired:
            kill = os.kill if chance.random() < 0.5 else os.killpg
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


def test_killed_at_random_instants_it_ends_with_the_same_bytes(project: Path, tmp_path: Path) -> None:
    undisturbed = make_project(tmp_path / "project")
    for stage in STAGES:
        done = run_in(undisturbed, "reprise", *stage.split())
        assert done.returncode == 0, done.stderr
    assert made(project) == made(undisturbed)


@pytest.mark.parametrize("left", [0.0, 0.3, 0.9])
def test_what_a_kill_left_of_the_files_dvc_writes_in_place_is_put_right(project: Path, left: float) -> None:
    lock, users = project / "dvc.lock", project / ".dvc" / "tmp" / "rwlock"
    whole, before = lock.read_bytes(), made(project)
    lock.write_bytes(whole[: int(left * len(whole))])
    users.write_bytes(b"" if left else b'{"read": {"a": [{"pi')
    (project / "repro.log").unlink()
    code = repro(project, "--verbose").wait()
    said = (project / "repro.log").read_text()
    assert code == 0, said
    assert "dvc.lock: half written by a DVC that was killed; repaired" in said
    assert lock.read_bytes() == whole, "".join(ndiff(whole.decode().splitlines(True), lock.read_text().splitlines(True)))
    assert "Running stage" not in said, said  # all of it was in DVC's cache of runs
    assert made(project) == before


@pytest.mark.parametrize("left", [b"", b"cmd: repr", None], ids=["an empty draft", "a draft", "an empty folder"])
def test_what_a_kill_left_of_a_run_that_was_about_to_enter_dvcs_cache_is_put_right(project: Path, left: bytes | None) -> None:
    lock, whole, before = project / "dvc.lock", (project / "dvc.lock").read_bytes(), made(project)
    (entry,) = (file for file in (project / ".dvc/cache/runs").glob("*/*/*") if b"cmd: reprise compose" in file.read_bytes())
    entry.unlink()
    if left is not None:
        (entry.parent / ".VqFjxepTx0PB7lgMuUv-Cw.tmp").write_bytes(left)
    lock.write_bytes(whole[: whole.index(b"  compose:")])
    (project / "repro.log").unlink()
    code = repro(project).wait()
    said = (project / "repro.log").read_text()
    assert code == 0, said
    assert said.count("Running stage") == 1, said
    assert f"{entry.parent.name}: half written by a DVC that was killed; repaired" in said
    assert lock.read_bytes() == whole
    assert made(project) == before


def test_a_stage_ends_with_the_dvc_that_started_it() -> None:
    waiting = "import sys, time; from reprise import parent_watchdog; parent_watchdog.end_with_parent(); print('on', flush=True); time.sleep(60)"
    starting = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {waiting!r}])"
    with subprocess.Popen([sys.executable, "-c", starting], stdout=subprocess.PIPE, env=user_environment()) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"on\n"
        parent.kill()
        asked = time.monotonic()
        assert parent.stdout.read() == b""  # the pipe closes when the last process that holds it is gone
        assert time.monotonic() - asked < 30


def test_a_stage_whose_dvc_died_before_it_could_look_ends_as_well() -> None:
    late = "import os, time; os.getppid = lambda: 1; from reprise import parent_watchdog; parent_watchdog.end_with_parent(); time.sleep(60)"
    assert subprocess.run([sys.executable, "-c", late], env=user_environment(), timeout=30).returncode == -signal.SIGTERM
