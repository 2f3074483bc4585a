"""Open a trained run: config, network and weights from its run directory. The arrays it was trained on are not needed."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from reprise.config import Config, check
from reprise.config.modalities.images import FolderData
from reprise.data.datasets import Windows
from reprise.data.pictures import Decoding
from reprise.project_paths import ProjectPaths
from reprise.stages import preprocess_folder
from reprise.stages.train import build_parts
from reprise.stages.trained import Trained, load_trained, read_trained, windows_of
from reprise.tracking import lineage, record
from reprise.tracking import run as tracking
from reprise.training.checkpoint import WEIGHTS
from reprise.training.tasks import Task
from reprise.training.trainer import threads


@dataclass(frozen=True)
class TrainedRun:
    """A trained run with its network, ready to predict."""

    config: Config
    trained: Trained
    run_dir: Path
    windows: Windows
    network: nn.Module
    task: Task

    @property
    def decoding(self) -> Decoding:
        """How picture files are decoded: as for the training. Published data sets define only the shape."""
        shape, data = self.windows.input_shape, self.config.data
        return preprocess_folder.decoding(data, shape) if isinstance(data, FolderData) else Decoding(tuple(shape), "pad")


def open_run(paths: ProjectPaths, name: str) -> TrainedRun:
    """Return the run with this name, or whose id starts with it.

    Raises:
        UserError: when there is no such run, its training did not finish, or its config or weights were modified.

    """
    run_id = tracking.find(paths.store, name)
    run_dir = paths.run_dir(run_id)
    trained = read_trained(run_dir)
    tracked = {"tracking": {"uri": None, "experiment": "", "log_model": False}}  # nothing is logged
    config = check({**record.from_run_dir(run_dir).config, **tracked}, "the run's config")
    windows = windows_of(config, trained, paths)
    lineage.warn_of_edited_plugins(config.plugins, record.from_run_dir(run_dir).tags, trained.name)
    torch.set_num_threads(threads(config.trainer))
    network, task = build_parts(config, windows)
    load_trained(network, run_dir / WEIGHTS, trained.name)
    return TrainedRun(config, trained, run_dir, windows, network.eval(), task)
