"""The shipped conf/, and a copy of it that a test may change."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings

from reprise.config import Config
from reprise.config.modalities.images import FolderData, ImageData
from reprise.config.modalities.series import SeriesData, SeriesWindow
from reprise.data.datasets import Windows

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
torch.set_num_threads(1)  # the networks are too small for more

ROOT = Path(__file__).resolve().parents[2]
BARE = {  # experiments that choose data and task, and leave the rest to the defaults
    "bare_images": "# @package _global_\ndefaults:\n  - override /data: fashion_mnist\nname: bare_images\n",
    "bare_series": (
        "# @package _global_\ndefaults:\n  - override /data: seattle_weather\n  - override /window: series\n"
        "  - override /task: forecasting\nname: bare_series\nwindow:\n  targets: [temp_max]\n"
    ),
}


@pytest.fixture
def root() -> Path:
    return ROOT


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A project with the shipped conf/ and the experiments of `BARE`."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for name, content in BARE.items():
        (tmp_path / "conf" / "experiment" / f"{name}.yaml").write_text(content)
    return tmp_path


def windows_for(config: Config) -> Windows:
    """Return the metadata that `window` writes to windows.json for a config, as far as networks and tasks read it."""
    meta: dict[str, Any]
    if isinstance(config.data, ImageData | FolderData):
        shape = config.data.shape or [28, 28, 1]  # null: an image folder takes the shape of its files
        channels = shape[-1]
        meta = {"input_shape": shape, "classes": getattr(config.data, "classes", ["a", "b", "c"])}
    else:
        assert isinstance(config.data, SeriesData)
        assert isinstance(config.window, SeriesWindow)
        inputs = config.window.inputs or [channel.name for channel in config.data.channels]
        channels = len(inputs) + 2 * len(config.window.calendar)
        meta = {
            "input_shape": [config.window.lookback, channels],
            "horizon": config.window.horizon,
            "targets": config.window.targets,
            "units": ["" for _ in config.window.targets],
            "target_positions": [inputs.index(target) for target in config.window.targets],
        }
    meta["kind"] = config.data.kind
    meta["statistics"] = {"mean": [0.0] * channels, "std": [1.0] * channels, "naive_mae": [1.0] * len(meta.get("targets", []))}
    return Windows(Path("windows"), Path("arrays"), meta)
