"""A trained run, opened: its config, network and weights, from its home alone. The arrays it learned from are not needed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from reprise.config import Config, FolderData, check
from reprise.data.examples import Windows
from reprise.data.pictures import Decoding
from reprise.learning.checkpoint import WEIGHTS
from reprise.learning.tasks import Task
from reprise.learning.trainer import threads
from reprise.stages import preprocess_folder
from reprise.stages.places import Places
from reprise.stages.train import build_parts
from reprise.stages.trained import Trained, load_trained, read_trained, windows_of
from reprise.tracking import lineage, record
from reprise.tracking import run as tracking


@dataclass(frozen=True)
class TrainedRun:
    """What a run left behind, ready to answer."""

    config: Config
    trained: Trained
    home: Path
    windows: Windows
    network: nn.Module
    task: Task

    @property
    def decoding(self) -> Decoding:
        """How a picture file is decoded: as those it was trained on; published data sets state nothing but the shape."""
        shape, data = self.windows.input_shape, self.config.data
        return preprocess_folder.decoding(data, shape) if isinstance(data, FolderData) else Decoding(tuple(shape), "pad")


def open_run(places: Places, wanted: str) -> TrainedRun:
    """The run whose id begins with `wanted`, or whose name it is.

    Raises:
        UserError: when there is no such run, its training did not end, or its config or weights were changed since.

    """
    run_id = tracking.find(places.store, wanted)
    home = places.home(run_id)
    trained = read_trained(home)
    tracked = {"tracking": {"uri": None, "experiment": "", "log_model": False}}  # nothing is written down
    config = check({**record.of_home(home).config, **tracked}, "the run's config")
    windows = windows_of(config, trained, places)
    lineage.warn_of_edited_plugins(config.plugins, record.of_home(home).tags, trained.name)
    torch.set_num_threads(threads(config.trainer))
    network, task = build_parts(config, windows)
    load_trained(network, home / WEIGHTS, trained.name)
    return TrainedRun(config, trained, home, windows, network.eval(), task)
