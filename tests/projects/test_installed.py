"""A project in a folder of its own, with reprise installed from its wheel."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from reprise.projects.dvc_stages import dvc_yaml
from reprise.stages.code import dependencies, shipped_stages
from tests.cli_fork_server import CliForkServer
from tests.projects.test_own_data import hourly, write_rows

ROOT = Path(__file__).resolve().parents[2]
PACKAGED = ("src", "conf", "dvc.yaml", "pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE")
IDENTITY = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The content of the wheel, built from a copy without files that git ignores."""
    copy = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(ROOT / name, copy / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", "."]
    subprocess.run(build, cwd=copy, check=True, capture_output=True)
    (wheel,) = (copy / "dist").glob("*.whl")
    folder = tmp_path_factory.mktemp("installed")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


@functools.cache
def fork_server(installed: Path) -> CliForkServer:
    """Return a server that imports reprise from the content of the wheel."""
    started = CliForkServer(Path.cwd(), nested=True, source=str(installed), **IDENTITY)
    atexit.register(started.end)
    return started


def run(installed: Path, folder: Path, *arguments: str) -> str:
    """Run a command to its end, and return its standard output."""
    child = fork_server(installed).start(*arguments, folder=folder)
    assert child.wait() == 0, child.output
    return child.out.read_text()


def stages_run(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


@pytest.fixture(scope="module")
def made(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project on a table with a gap, after `reprise repro`."""
    folder = tmp_path_factory.mktemp("own")
    file = write_rows(folder / "load.csv", [["when", "load"], *(row for n, row in enumerate(hourly(400)) if n != 70)])
    run(installed, folder, "init", "mine", "--from", str(file))
    output = run(installed, folder / "mine", "repro")
    assert stages_run(output)[-3:] == ["train@load", "evaluate@load", "draw@load"]
    return folder / "mine"


def test_a_file_becomes_results_in_two_commands(installed: Path, made: Path) -> None:
    assert sorted(entry.name for entry in (made / "conf").rglob("*.yaml")) == ["load.yaml", "load.yaml", "pipeline.yaml"]
    metrics = json.loads((made / "data" / "results" / "load" / "metrics.json").read_text())
    assert metrics["test"]["mae"] < 0.1
    assert "load" in run(installed, made, "results")


@pytest.mark.long
def test_an_upgrade_renews_what_it_changed_and_nothing_else(installed: Path, made: Path, tmp_path: Path) -> None:
    assert set(stages_run(run(installed, made, "repro"))) == {"code", "list_folder@load"}
    upgraded = shutil.copytree(installed, tmp_path / "upgraded")
    with (upgraded / "reprise" / "figures" / "drawing.py").open("a") as stream:
        stream.write("# another version\n")
    assert stages_run(run(upgraded, made, "repro"))[-1:] == ["draw@load"]


@pytest.mark.long
def test_a_run_of_a_project_is_reproduced(installed: Path, made: Path) -> None:
    (name,) = (one["name"] for one in json.loads(run(installed, made, "runs", "--json")))
    assert "identical: weights bit for bit" in run(installed, made, "reproduce", name)


def test_the_stages_of_a_project_are_those_of_the_clone_with_hashes_of_code() -> None:
    own, shipped = yaml.safe_load(dvc_yaml())["stages"], shipped_stages()
    assert list(own) == ["code", *shipped]
    for name, entry in shipped.items():
        inner, original = own[name].get("do", own[name]), entry.get("do", entry)
        assert inner["cmd"] == original["cmd"]
        assert not [path for path in inner.get("deps", []) if path.startswith("src/")]
        assert ({"data/code.json": [name]} in inner.get("params", [])) == bool(dependencies(entry)), name


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    command = [sys.executable, "-P", "-m", "reprise", "init", "mine"]
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | IDENTITY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "mine exists already" in done.stderr
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "notes.txt"]
