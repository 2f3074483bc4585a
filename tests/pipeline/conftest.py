"""Small projects to run for real: the shipped conf/, dvc.yaml and src/, two experiments on data that ship in packages."""

import atexit
import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

from tests.cli_fork_server import CliForkServer, outside

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"digits_cnn": ["trainer.max_epochs=2"], "temperature_lstm": ["trainer.max_epochs=2"]}
Command = Callable[..., subprocess.CompletedProcess[str]]


def make_project(folder: Path) -> Path:
    """A project at `folder` that DVC and reprise take for a clone: code linked, config copied, data empty."""
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
    """A command in the project, with this Python's programs first on PATH and nothing of the outer project's settings."""
    if command[0] != "reprise":
        return subprocess.run(command, cwd=folder, env=outside() | environment, capture_output=True, text=True, timeout=300)
    child = fork_server().start(*command[1:], folder=folder, **environment)
    return subprocess.CompletedProcess(command, child.wait(), child.out.read_text(), child.err.read_text())


@functools.cache
def fork_server() -> CliForkServer:
    """One for all tests of this process."""
    started = CliForkServer(Path.cwd())
    atexit.register(started.end)
    return started


def clone(folder: Path) -> Path:
    """A project under git and DVC in which nothing was run yet."""
    make_project(folder)
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        done = run_in(folder, *command, **identity)
        assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone."""
    return clone(tmp_path_factory.mktemp("project") / "clone")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone after `dvc repro --all-pipelines`: made once, for each process of the tests a copy."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made"
    with FileLock(f"{shared}.lock"):
        if not shared.is_dir():
            folder = clone(tmp_path_factory.mktemp("made") / "clone")
            done = run_in(folder, "dvc", "repro", "--all-pipelines")
            assert done.returncode == 0, done.stdout + done.stderr
            shutil.copytree(folder, shared, symlinks=True)
    return shutil.copytree(shared, tmp_path_factory.mktemp("copy") / "clone", symlinks=True)
