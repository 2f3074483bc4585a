"""A plugin package next to conf/ is found by every process. Other files there do not shadow installed modules."""

import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reprise.config import check, compose
from reprise.config.plugins import PluginFinder, look_in_root, make_importable

NETWORK = """
import mine_helper
from torch import nn

class Mine(nn.Sequential):
    def __init__(self, input_shape: list[int], outputs: int, width: int = 8) -> None:
        size = input_shape[0] * input_shape[1] * input_shape[2]
        super().__init__(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, outputs))
"""


@pytest.fixture
def project(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project with a package `mine`, a module next to it, and a file with the name of a standard module."""
    (clone / "mine").mkdir()
    (clone / "mine" / "__init__.py").write_text(NETWORK)
    (clone / "mine_helper.py").write_text("")
    (clone / "colorsys.py").write_text("raise RuntimeError('the wrong colorsys')")
    (clone / "conf" / "model" / "mine.yaml").write_text("_target_: mine.Mine\nwidth: 8\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    yield clone
    for name in ("mine", "mine_helper", "colorsys"):
        sys.modules.pop(name, None)


def test_a_package_next_to_conf_takes_precedence_over_an_installed_one(
    project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    installed = tmp_path_factory.mktemp("site-packages")
    (installed / "mine").mkdir()
    (installed / "mine" / "__init__.py").write_text("raise RuntimeError('the wrong mine')")
    sys.path.insert(0, str(installed))
    make_importable(project)
    check(compose(project, ["experiment=digits_cnn", "model=mine", "plugins=[mine]"]).model_dump(by_alias=True))
    spec = importlib.util.find_spec("mine")
    assert spec is not None
    assert spec.origin == str(project / "mine" / "__init__.py")
    assert importlib.import_module("mine").Mine([2, 2, 1], 3, 4)


def test_other_files_next_to_conf_do_not_shadow_modules(project: Path) -> None:
    sys.modules.pop("colorsys", None)
    make_importable(project)
    look_in_root(["mine"])
    assert "sys" in str(importlib.import_module("colorsys").__file__)


def test_a_second_root_replaces_the_first(project: Path, tmp_path: Path) -> None:
    make_importable(tmp_path)
    make_importable(project)
    assert [finder.root for finder in sys.meta_path if isinstance(finder, PluginFinder)] == [project]


SCRIPT = """
import sys
sys.path[0] = '/nowhere'  # as in a console script; python -m would put the working folder there
from reprise.__main__ import main
try:
    main(sys.argv[1:])
finally:
    import mine
"""
CHOSEN = ("experiment=digits_cnn", "model=mine", "plugins=[mine]")


def test_a_console_script_finds_the_plugin_from_any_folder_of_the_project(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "compose", *CHOSEN], cwd=project / "mine", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "_target_: mine.Mine" in done.stdout


@pytest.mark.long
@pytest.mark.parametrize("command", [["certify", "--steps", "1"], ["train", "trainer=ddp_cpu", "trainer.max_epochs=1"]])
def test_child_processes_find_the_plugin(command: list[str], project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT, *command, *CHOSEN], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "digits_cnn" in done.stdout
