"""The shipped conf/, and a copy of it that a test may change."""

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

from reprise.config import Config
from reprise.config.modalities.images import FolderData, ImageData
from reprise.config.modalities.sequences import OwnSequences, PublishedSequences
from reprise.config.modalities.series import SeriesData, SeriesWindow
from reprise.config.own_tables import TableData
from reprise.data.contracts import WindowsMeta
from reprise.data.windows import Windows
from reprise.tasks.build import build_network, build_task
from reprise.tasks.task import Task
from tests.metas import image_meta, sequence_meta, series_meta

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
    "bare_sequences": (
        "# @package _global_\ndefaults:\n  - override /data: gun_point\n  - override /window: sequences\nname: bare_sequences\n"
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
    """Return windows.json of a config without files, as far as networks and tasks read it."""
    if isinstance(config.data, ImageData | FolderData):
        shape = config.data.shape or [28, 28, 1]  # null: an image folder takes the shape of its files
        meta: WindowsMeta = image_meta(getattr(config.data, "classes", ["a", "b", "c"]), shape)
    elif isinstance(config.data, PublishedSequences | OwnSequences):
        classes = [*getattr(config.data, "classes", ["a", "b", "c"])]
        meta = sequence_meta(classes, 29, config.data.channels or ["x"], masked=config.data.name == "japanese_vowels")
    else:
        assert isinstance(config.data, SeriesData | TableData)
        assert isinstance(config.window, SeriesWindow)
        window = config.window
        channels = config.data.channels or ["a", "b"]  # of an own table, known once it is read
        inputs = window.inputs or [channel if isinstance(channel, str) else channel.name for channel in channels]
        lookback, horizon = window.lookback or 24, window.horizon or 12
        season = {"season": window.season} if window.season else {}
        meta = series_meta(window.targets or inputs, inputs, lookback, horizon, calendar=list(window.calendar), **season)
    return Windows(Path("windows"), Path("arrays"), meta)


def build_parts(config: Config) -> tuple[nn.Module, Task]:
    """Return network and task of a config."""
    meta = windows_for(config).meta
    task = build_task(config, meta)
    return build_network(config, meta, task), task
