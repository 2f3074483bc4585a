"""Small projects for end-to-end tests: the shipped conf/, dvc.yaml and src/, and two experiments on packaged data."""

import atexit
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.cli_fork_server import CliForkServer, user_environment

ROOT = Path(__file__).resolve().parents[2]
QUICK = {name: ["trainer.max_epochs=2", "trainer.threads=1"] for name in ("digits_cnn", "temperature_lstm")}
Command = Callable[..., subprocess.CompletedProcess[str]]


def make_project(folder: Path) -> Path:
    """Create a project at `folder` that works like a clone: linked code, copied config, no data."""
    shutil.copytree(ROOT / "conf", folder / "conf")
    (folder / "long").mkdir()
    for name in ("dvc.yaml", "long/dvc.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data" / "plugins").mkdir(parents=True)
    shutil.copy(ROOT / "data" / "plugins" / ".gitignore", folder / "data" / "plugins")
    (folder / "src").symlink_to(ROOT / "src")
    for name, overrides in QUICK.items():  # the shipped experiments, shortened
        file = folder / "conf" / "experiment" / f"{name}.yaml"
        tree = yaml.safe_load(file.read_text())
        for override in overrides:
            path, value = override.split("=")
            section, key = path.split(".")
            tree[section][key] = int(value)
        file.write_text("# @package _global_\n" + yaml.safe_dump(tree, sort_keys=False))
    lists = {
        "experiments": {"digits_cnn": "digits"},
        "long": {"temperature_lstm": "seattle_weather"},
        "datasets": ["digits"],
        "long_datasets": ["seattle_weather"],
        "folders": [],
        "plugins": {},
        "ablation": {"digits_cnn": "as it is"},
        "overrides": ["seeds=1", "trainer.threads=1"],
    }
    (folder / "conf" / "pipeline.yaml").write_text(yaml.safe_dump(lists, sort_keys=False))
    return folder


def run_in(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the project, in the environment of `user_environment`."""
    match command:
        case "reprise", *words:
            arguments = ["-P", "-m", "reprise", *words]
        case "dvc", *words:
            arguments = ["-P", "-m", "dvc", *words]
        case sys.executable, "-c", *_:
            arguments = list(command[1:])
        case _:
            return subprocess.run(
                command, cwd=folder, env=user_environment() | environment, capture_output=True, text=True, timeout=300
            )
    child = fork_server().start_python(*arguments, folder=folder, **environment)
    return subprocess.CompletedProcess(command, child.wait(), child.out.read_text(), child.err.read_text())


@functools.cache
def fork_server(nested: bool = True) -> CliForkServer:
    """Return a client of the fork server for all tests of this process."""
    started = CliForkServer(Path.cwd(), nested)
    atexit.register(started.end)
    return started


def clone(folder: Path) -> Path:
    """Create a project under git and DVC in which no stage has run."""
    make_project(folder)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        process = run_in(folder, *command, **identity)
        assert process.returncode == 0, process.stderr
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone."""
    return clone(tmp_path_factory.mktemp("project") / "clone")


@pytest.fixture(scope="module")
def pipeline_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after `reprise repro --jobs 2 --all-pipelines`, which runs once. Each module gets a copy: some add runs or edit conf/."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "made"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            folder = clone(tmp_path_factory.mktemp("made") / "clone")
            process = run_in(folder, "reprise", "repro", "--jobs", "2", "--all-pipelines")
            assert process.returncode == 0, process.stdout + process.stderr
            shutil.copytree(folder, shared, symlinks=True)
    return shutil.copytree(shared, tmp_path_factory.mktemp("copy") / "clone", symlinks=True)
