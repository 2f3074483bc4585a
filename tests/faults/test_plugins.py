"""A plugin is part of a run: its untracked sources are recorded, decide whether a training resumes, and are reproduced."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.data import store
from reprise.tracking.event_log import FILE, EventLog
from tests.cli_fork_server import CliForkServer
from tests.faults.conftest import CNN
from tests.pipeline.conftest import make_project, run_in

NETWORK = """
import torch
from width_of_mine import width

class Net(torch.nn.Module):
    def __init__(self, input_shape: list[int], outputs: int) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, outputs))

    def forward(self, images):
        return self.layers(images.flatten(1))
"""
TRAIN = [*CNN, "model=mine", "name=mine", "plugins=[mine]"]


@pytest.fixture
def fork_server(tmp_path: Path) -> Iterator[CliForkServer]:
    """A project in a subfolder of a repository. The plugin is not committed; it imports a module of the repository's libs/."""
    top = tmp_path / "top"
    project = make_project(top / "projects" / "mine")
    (top / "libs").mkdir()
    (top / "libs" / "width_of_mine.py").write_text("width = 8\n")
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        assert run_in(top, *command, **identity).returncode == 0
    (project / "mine").mkdir()
    (project / "mine" / "__init__.py").write_text(NETWORK)
    (project / "conf" / "model" / "mine.yaml").write_text("_target_: mine.Net\n")
    (project / "conf" / "experiment" / "digits_cnn.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: digits\n\nname: digits_cnn\n"
        "window:\n  val_size: 0.2\n  test_size: 0.2\n"
    )
    path = os.pathsep.join([str(project), str(top / "libs")])
    started = CliForkServer(project, PYTHONPATH=path)
    yield started
    started.end()


def run_dirs(project: Path) -> list[Path]:
    return sorted((project / "mlruns" / "runs").glob("*"), key=lambda run_dir: run_dir.stat().st_ctime)


def test_a_run_with_an_untracked_plugin_in_a_monorepo_is_reproduced_from_its_id(fork_server: CliForkServer) -> None:
    project = fork_server.folder
    fork_server.run(*TRAIN)
    (old,) = run_dirs(project)
    tags = EventLog(old).tags
    assert (tags["git.dirty"], tags["git.prefix"]) == ("true", "projects/mine/")
    assert json.loads(tags["plugins.import_folders"]) == ["projects/mine", "libs"]
    assert "+++ b/projects/mine/mine/__init__.py" in (old / "lineage" / "uncommitted.patch").read_text()
    shutil.rmtree(project / "mine")
    (project.parents[1] / "libs" / "width_of_mine.py").write_text("width = 9\n")
    child = fork_server.start("reproduce", old.name)
    assert child.wait() == 0, child.output
    assert "identical: weights bit for bit, every metric exactly" in child.output
    assert EventLog(old).tags["verified"].startswith("bit for bit, ")

    (project / "mine").mkdir()
    (project / "mine" / "__init__.py").write_text(NETWORK.replace("ReLU", "Tanh"))
    child = fork_server.start("evaluate", old.name)
    assert child.wait() == 2, child.output
    assert "do not fit the network that its config builds now: size mismatch for layers.0.weight" in child.output
    (project.parents[1] / "libs" / "width_of_mine.py").write_text("width = 8\n")
    child = fork_server.start("evaluate", old.name)
    assert child.wait() == 0, child.output
    assert f"plugins=mine were edited since {store.read_json(old / 'run.json')['name']} was trained" in child.output


def test_a_training_does_not_resume_with_an_edited_plugin(fork_server: CliForkServer) -> None:
    long = [*TRAIN, "trainer.max_epochs=100000", "checkpoint.steps=1"]
    project = fork_server.folder
    child = fork_server.start(*long)
    while not list(project.glob("mlruns/runs/*/checkpoints/*")):
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(signal.SIGKILL)
    child.wait()
    (first,) = run_dirs(project)
    file = project / "mine" / "__init__.py"
    file.write_text(file.read_text().replace("ReLU", "Tanh"))
    child = fork_server.start(*long)
    while len(run_dirs(project)) < 2 or not (run_dirs(project)[-1] / FILE).is_file():
        assert not child.has_ended(), child.output
        time.sleep(0.05)
    child.kill(signal.SIGTERM)
    child.wait()
    assert "resumes after step" not in child.output
    codes = {EventLog(run_dir).tags["sha256.code"] for run_dir in run_dirs(project)}
    assert len(codes) == 2
    assert EventLog(first).status == "FAILED"
