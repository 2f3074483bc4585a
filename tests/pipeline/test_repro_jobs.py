"""`reprise repro --jobs N` runs the stages of several experiments at the same time, and only what is out of date."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.lock import make_lock
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import repro as stage
from reprise.stages.repro_jobs import plan_of
from reprise.tracking import dvc_files
from reprise.tracking.dvc_stages import StagePaths
from tests.cli_fork_server import user_environment


def make(root: Path, stages: dict[str, dict[str, Any]]) -> Path:
    """Create a DVC project with these stages."""
    (root / "conf").mkdir()
    (root / ".dvc" / "tmp").mkdir(parents=True)
    (root / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (root / "conf" / "config.yaml").touch()
    (root / "raw").write_text("raw")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    return root


def script(root: Path, name: str, program: str) -> str:
    """Write a program into the project and return the command that runs it."""
    (root / name).write_text(program)
    return f"{sys.executable} {name}"


def start(root: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "reprise", "repro", *arguments]
    return subprocess.Popen(
        command,
        cwd=root,
        env=user_environment() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def repro(root: Path, *arguments: str) -> tuple[int, str]:
    """Run `reprise repro`; return its exit code and output."""
    process = start(root, *arguments)
    output, _ = process.communicate(timeout=200)
    return process.returncode, output


@st.composite
def pipelines(draw: st.DrawFn) -> dict[str, StagePaths]:
    """Stages in any order, each of which reads outputs of earlier ones: the path itself, a folder around it, or a file in it."""
    stages: dict[str, StagePaths] = {}
    for number in range(draw(st.integers(0, 9))):
        chosen = draw(st.sets(st.sampled_from(sorted(stages)), max_size=3)) if stages else set()
        near = [draw(st.sampled_from((Path(f"/{name}/out"), Path(f"/{name}"), Path(f"/{name}/out/file")))) for name in chosen]
        stages[f"s{number}"] = StagePaths(reads={Path("/conf"), *near}, writes={Path(f"/s{number}/out")})
    return {name: stages[name] for name in draw(st.permutations(sorted(stages)))}


def needed_by(stages: dict[str, StagePaths], name: str) -> set[str]:
    """Return the stages whose outputs a stage reads."""
    return {path.parts[1] for path in stages[name].reads} & stages.keys()


@given(pipelines())
def test_each_stage_runs_once_and_after_what_it_reads(stages: dict[str, StagePaths]) -> None:
    plan = plan_of(stages)
    assert sorted([*plan.shared, *(name for group in plan.groups for name in group)]) == sorted(stages)
    for number, name in enumerate(plan.shared):
        assert needed_by(stages, name) <= set(plan.shared[:number])
    for group in plan.groups:  # nothing of another group, so groups can run at the same time
        for number, name in enumerate(group):
            assert needed_by(stages, name) <= {*plan.shared, *group[:number]}


@given(pipelines())
def test_only_stages_that_lead_to_several_final_ones_run_before_the_others(stages: dict[str, StagePaths]) -> None:
    plan = plan_of(stages)
    finals = {name for name in stages if not any(name in needed_by(stages, other) for other in stages)}
    assert {group[-1] for group in plan.groups} == finals
    for name in plan.shared:
        later, found = {name}, {name}
        while later:
            later = {other for other in stages if needed_by(stages, other) & later} - found
            found |= later
        assert len(found & finals) > 1


def test_stages_that_need_each_other_are_an_error() -> None:
    circle = {"a": StagePaths({Path("/b")}, {Path("/a")}), "b": StagePaths({Path("/a")}, {Path("/b")})}
    with pytest.raises(UserError, match="needs"):
        plan_of(circle)


def test_groups_run_at_the_same_time_and_only_what_is_out_of_date(tmp_path: Path) -> None:
    meet = script(
        tmp_path,
        "meet.py",
        "import pathlib, sys, time\n"
        "mine, other = map(pathlib.Path, sys.argv[1:])\n"
        "mine.touch()\n"
        "end = time.time() + 60\n"
        "while not other.exists():\n    assert time.time() < end\n    time.sleep(0.02)\n",
    )
    root = make(
        tmp_path,
        {
            "left": {"cmd": f"{meet} left right", "deps": ["both"], "outs": ["left"]},  # before `both`, which it needs
            "right": {"cmd": f"{meet} right left", "deps": ["both"], "outs": ["right"]},
            "after": {"cmd": "echo copied after && cp right after", "deps": ["right"], "outs": ["after"]},
            "both": {"cmd": "echo copied both && cp raw both", "deps": ["raw"], "outs": ["both"]},
        },
    )
    code, output = repro(root, "--jobs", "2")
    assert code == 0, output
    assert [line for line in output.splitlines() if line.startswith("copied")] == ["copied both", "copied after"]
    assert dvc_files.output_hashes(root).keys() == {"left", "right", "after", "both"}
    assert repro(root, "--jobs", "2") == (0, "Data and pipelines are up to date.\n")
    (root / "after").unlink()
    code, output = repro(root / "conf", "--all-pipelines")  # as from any folder of the project
    assert code == 0, output
    assert "left" not in output
    assert (root / "after").exists()


def test_after_a_failure_no_other_group_begins(tmp_path: Path) -> None:
    stages = {name: {"cmd": f"echo {name} > {name}", "outs": [name]} for name in ("first", "third")}
    stages |= {"second": {"cmd": "exit 7", "outs": ["second"]}}
    root = make(tmp_path, {name: stages[name] for name in ("first", "second", "third")})
    code, output = repro(root)
    assert code not in {0, 2}
    assert "failed to reproduce 'second'" in output
    assert dvc_files.output_hashes(root).keys() == {"first"}
    assert not (root / "third").exists()


def test_jobs_with_a_stage_is_an_error(tmp_path: Path) -> None:
    root = make(tmp_path, {"one": {"cmd": "echo > one", "outs": ["one"]}})
    code, output = repro(root, "--jobs", "2", "one")
    assert code == 2
    assert "--jobs" in output
    assert not (root / "one").exists()


@pytest.mark.parametrize(("number", "shell"), [(signal.SIGTERM, "/bin/bash"), (signal.SIGKILL, "/bin/sh")])
def test_stages_end_with_the_command(number: signal.Signals, shell: str, tmp_path: Path) -> None:
    wait = script(
        tmp_path,
        "wait.py",
        "import pathlib, sys, time\n"
        "from reprise import parent_watchdog\n"
        "parent_watchdog.end_with_parent()\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "time.sleep(120)\n",
    )
    root = make(tmp_path, {name: {"cmd": f"{wait} {name}", "outs": [name]} for name in ("a", "b")})
    with start(root, "--jobs", "2", SHELL=shell) as process:
        end = time.monotonic() + 60
        while not ((root / "a").exists() and (root / "b").exists()):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.kill(process.pid, number)
        assert process.stdout
        process.stdout.read()  # ends when the last process that holds the pipe has ended
        assert time.monotonic() < end + 40
    assert process.returncode in {-number, 128 + number}


def test_a_stage_reads_no_lock_file_that_dvc_is_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, {})
    monkeypatch.setenv("DVC_STAGE", "train@mine")
    folder, held = root / ".dvc" / "tmp", threading.Event()

    def write() -> None:  # as DVC does, in place
        with make_lock(str(folder / "lock"), tmp_dir=str(folder)):
            (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
            held.set()
            time.sleep(0.3)
            (root / "dvc.lock").write_text("schema: '2.0'\nstages:\n  a: {cmd: b, outs: [{path: c, md5: d}]}\n")

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(60)
    assert dvc_files.output_hashes(root) == {"c": "d"}
    writer.join()


def test_a_second_start_waits_for_the_processes_of_a_killed_one(tmp_path: Path) -> None:
    wait = script(
        tmp_path, "wait.py", "import pathlib, sys, time\npathlib.Path('begun').touch()\ntime.sleep(float(sys.argv[1]))\n"
    )
    root = make(tmp_path, {"slow": {"cmd": f"{wait} 2 && echo > slow", "outs": ["slow"]}})
    with start(root) as process:
        end = time.monotonic() + 60
        while not (root / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        process.kill()
        code, output = repro(root)  # at once: DVC of the first start has not ended yet
    assert code == 0, output
    assert (root / "slow").exists()


def test_two_whole_pipelines_at_the_same_time_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path, {})
    monkeypatch.setattr(stage, "PATIENCE", 0.3)
    with (store.made(root / "mlruns") / "repro.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another"):
            stage.run(ProjectPaths(root), [], 1, Console(quiet=True))


def test_an_interrupt_reaches_a_stage_once_and_is_waited_for(tmp_path: Path) -> None:
    save = script(
        tmp_path,
        "save.py",
        "import pathlib, signal, sys, time\n"
        "from reprise import parent_watchdog\n"
        "signals = []\n"
        "for number in (signal.SIGINT, signal.SIGTERM):\n"
        "    signal.signal(number, lambda number, _: signals.append(number))\n"
        "parent_watchdog.end_with_parent()\n"
        "pathlib.Path('begun').touch()\n"
        "while not signals:\n    time.sleep(0.02)\n"
        "time.sleep(1.5)\n"  # as long as a checkpoint takes, and longer than the watchdog's interval
        "pathlib.Path('signals').write_text(str(len(signals)))\n"
        "sys.exit(130)\n",
    )
    root = make(tmp_path, {"slow": {"cmd": save, "outs": ["slow"]}})
    with start(root) as process:
        end = time.monotonic() + 60
        while not (root / "begun").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.wait(timeout=60) == 130
    assert (root / "signals").read_text() == "1"
