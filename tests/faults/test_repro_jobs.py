"""`reprise repro --jobs` that is killed and restarted repeatedly ends with the outputs and the lock file of an undisturbed one."""

import os
import random
import signal
import subprocess
import time
from pathlib import Path

from tests.pipeline.test_repro_jobs import make, repro, start

KILLS = 4


def project(root: Path) -> Path:
    root.mkdir()
    stages = {"conf": {"cmd": "cp raw conf.out", "deps": ["raw"], "outs": ["conf.out"]}}
    for name in "abc":
        stages |= {
            f"train_{name}": {"cmd": f"sleep 0.5; cp conf.out train_{name}", "deps": ["conf.out"], "outs": [f"train_{name}"]},
            f"draw_{name}": {"cmd": f"cp train_{name} draw_{name}", "deps": [f"train_{name}"], "outs": [f"draw_{name}"]},
        }
    return make(root, stages)


def test_a_killed_pipeline_ends_with_the_same_lock_file(tmp_path: Path) -> None:
    undisturbed, killed = project(tmp_path / "undisturbed"), project(tmp_path / "killed")
    started = time.monotonic()
    code, output = repro(undisturbed, "--jobs", "2")
    assert code == 0, output
    longest = 0.8 * (time.monotonic() - started)
    rng, done = random.Random(0), 0
    while done < KILLS:
        process = start(killed, "--jobs", "2")
        try:
            process.communicate(timeout=longest * rng.random())
            break  # it has ended before its kill
        except subprocess.TimeoutExpired:
            (os.kill if rng.random() < 0.5 else os.killpg)(process.pid, signal.SIGKILL)
            process.communicate(timeout=60)  # until its child processes have ended too
            done += 1
    assert done > 0
    code, output = repro(killed, "--jobs", "2")
    assert code == 0, output
    assert sorted((killed / "dvc.lock").read_text().splitlines()) == sorted((undisturbed / "dvc.lock").read_text().splitlines())
    for name in "abc":
        assert (killed / f"draw_{name}").read_text() == "raw"
