"""Processes that reprise starts in a project import standard modules, not files of the project with the same name."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from reprise.project_paths import ProjectPaths
from reprise.stages import repro
from reprise.sweeps.driver import _WorkerStarter
from reprise.tracking import backend
from reprise.training import trainer


class Started(Exception):  # noqa: N818 -- replaces a process
    """The command that would have replaced this process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.command, self.environment = command, environment


def worker(folder: Path) -> None:
    starter = _WorkerStarter(_Launcher(), 1, folder, _study(folder), "parent")  # type: ignore[arg-type]
    starter.start(0)


class _Launcher:
    def start(self, command: Sequence[str], *_: Any) -> None:
        raise Started(command, dict(os.environ))


def _study(folder: Path) -> SimpleNamespace:
    return SimpleNamespace(sweep=SimpleNamespace(name="mine"), folder=folder)


def rank(folder: Path) -> None:
    from reprise.config.schema import CheckpointConfig

    checkpoint = CheckpointConfig.model_construct(grace=1.0)
    trainer.relaunch(SimpleNamespace(num_nodes=1, devices=1, threads=1, accelerator="cpu"), checkpoint)  # type: ignore[arg-type]


def dvc(folder: Path) -> None:
    repro.run(ProjectPaths(folder), ["--dry"], 1, Console(quiet=True))


def dashboard(folder: Path) -> None:
    backend.serve_dashboard(backend.local_address(folder), 5000)


@pytest.mark.parametrize("start", [worker, rank, dvc, dashboard], ids=lambda start: start.__name__)
def test_child_processes_import_standard_modules(start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('not the standard module')")

    def execute(_: str, command: Sequence[str]) -> None:
        raise Started(command, dict(os.environ))

    def launch(*_: Any) -> Any:
        def start_ranks(*arguments: str) -> None:
            raise Started([sys.executable, *arguments], dict(os.environ))

        return start_ranks

    monkeypatch.setattr(os, "execv", execute)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setattr(trainer, "elastic_launch", launch)
    monkeypatch.setattr(trainer, "check_devices", lambda _: None)
    monkeypatch.setattr(trainer.logging, "disable", lambda: None)
    with pytest.raises(Started) as started:
        start(tmp_path)
    interpreter = started.value.command[: list(started.value.command).index("-m")]
    code = "import colorsys; print(colorsys.__file__)"
    done = subprocess.run([*interpreter, "-c", code], cwd=tmp_path, env=started.value.environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.startswith(str(tmp_path))) == (0, False), done.stderr
