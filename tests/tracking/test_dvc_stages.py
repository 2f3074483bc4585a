"""The stages that DVC would run are found without its locks and its repeated parsing."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprise.tracking import dvc_stages

STAGES: dict[str, dict[str, Any]] = {
    "copy": {"cmd": "cp a b", "deps": ["a"], "params": [{"p.yaml": ["x"]}], "outs": ["b"]},
    "next": {"cmd": "cp b c", "deps": ["b"], "params": [{"p.yaml": ["y"]}], "outs": ["c"]},
    "frozen": {"cmd": "cp a d", "deps": ["a"], "outs": ["d"], "frozen": True},
    "always": {"cmd": "true", "deps": ["a"], "always_changed": True},
    "callback": {"cmd": "true"},
}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("dvc") / "project"
    root.mkdir()
    (root / "a").write_text("content")
    (root / "p.yaml").write_text("{x: 1, y: 1}")
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": {**STAGES, "frozen": STAGES["frozen"] | {"frozen": False}}}))
    for command in ("git init -q", f"{sys.executable} -m dvc init -q", f"{sys.executable} -m dvc repro -q"):
        subprocess.run(command.split(), cwd=root, check=True)
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    return root


def change_command(root: Path) -> None:
    stages = STAGES | {"copy": STAGES["copy"] | {"cmd": "cp a b && true"}}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda root: None, set()),
        (lambda root: (root / "a").write_text("other"), {"copy"}),
        (lambda root: (root / "b").write_text("other"), {"copy", "next"}),
        (lambda root: (root / "c").unlink(), {"next"}),
        (lambda root: (root / "d").unlink(), {"frozen"}),
        (lambda root: (root / "p.yaml").write_text("{x: 2, y: 1}"), {"copy"}),
        (lambda root: (root / "p.yaml").unlink(), {"copy", "next"}),
        (change_command, {"copy"}),
    ],
    ids=["nothing", "dependency", "output", "no output", "output of a frozen stage", "parameter", "no parameters", "command"],
)
def test_the_stages_that_dvc_would_run_are_found(
    change: Callable[[Path], object], expected: set[str], reproduced: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(reproduced, tmp_path / "project")
    monkeypatch.chdir(root)
    change(root)
    found = {name for name in STAGES if dvc_stages.read(root, long=False).any_out_of_date([name])}
    stages = dvc_stages.read(root, long=False)
    with stages.repository.lock:
        assert found == {name for name, stage in stages.by_name.items() if stage.changed()}
    assert found == expected | {"always", "callback"}
