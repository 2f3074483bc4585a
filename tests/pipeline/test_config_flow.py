"""The config goes down through the layers of the package, from `stages.train.run` to the last function that reads it."""

import sys
import tomllib
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from rich.console import Console

from reprise.config import Config, compose
from reprise.data import windows
from reprise.project_paths import ProjectPaths
from reprise.stages import train
from tests.pipeline.conftest import ROOT

LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
DEPTH = {package: depth for depth, layer in enumerate(LAYERS) for package in layer.split(" | ")}


def depth_of(frame: FrameType) -> int | None:
    """Return the layer of the code of a frame, 0 at the top; None for other code than that of the package."""
    parts = frame.f_globals.get("__name__", "").split(".")
    return DEPTH.get(".".join(parts[:2])) if parts[0] == "reprise" else None


def holds_config(frame: FrameType) -> bool:
    code = frame.f_code
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return any(isinstance(frame.f_locals.get(name), Config) for name in names)


def test_the_config_is_handed_down_and_not_back_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call with a config as an argument goes up if its function lies in a higher layer than the function that calls it."""
    monkeypatch.setattr(windows, "_test_split_locked", False)  # the training locks it, for this test alone
    (tmp_path / "conf").symlink_to(ROOT / "conf")
    config = compose(tmp_path, ["experiment=digits_cnn", "trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"])
    upwards: Counter[str] = Counter()
    calls = 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        depth = depth_of(frame)
        if event != "call" or depth is None or not holds_config(frame):
            return
        caller = frame.f_back
        while caller and depth_of(caller) is None:  # through Lightning and other libraries
            caller = caller.f_back
        if caller and caller.f_code.co_filename != __file__:
            calls += 1
            if depth < (depth_of(caller) or 0):
                upwards[f"{caller.f_code.co_qualname} -> {frame.f_code.co_qualname}"] += 1

    sys.setprofile(profile)
    try:
        train.run(config, ProjectPaths(tmp_path), Console(quiet=True), "a test")
    finally:
        sys.setprofile(None)
    print(f"{calls} calls with a config, {sum(upwards.values())} of them upwards")
    assert calls > 10
    assert sum(upwards.values()) <= 3, upwards
