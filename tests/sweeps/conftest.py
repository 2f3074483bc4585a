"""A small sweep on the digits."""

import functools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from reprise.config.sweep import Sweep, read_sweep
from tests.pipeline.conftest import ROOT

SPACE = {
    "optimizer": {"kind": "choice", "values": ["adam", "sgd"]},
    "optimizer.lr": {"kind": "float", "low": 0.001, "high": 0.1, "log": True},
    "optimizer.momentum": {"kind": "float", "low": 0.1, "high": 0.9, "when": {"optimizer": "sgd"}},
}
TREE: dict[str, Any] = {
    "experiment": "digits_cnn",
    "n_trials": 4,
    "objectives": [{"metric": "val/accuracy", "direction": "maximize"}],
    "space": SPACE,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    return tmp_path


@functools.cache
def read_small(*words: str) -> Sweep:
    """Return the sweep of TREE, read in the repository: it does not depend on the folder, and reading it composes many configs."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "conf", Path(folder) / "conf")
        return read(Path(folder), TREE, *words)


def read(root: Path, tree: dict[str, Any], *words: str) -> Sweep:
    """Return the sweep of a tree, which is written to conf/sweep/mine.yaml."""
    (root / "conf" / "sweep" / "mine.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return read_sweep(root, ["sweep=mine", *words])
