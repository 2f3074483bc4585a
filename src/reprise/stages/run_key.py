"""The key of a training: the hash of everything that decides the bits of its weights."""

from typing import Any

import torch

from reprise.config import Config
from reprise.data import store
from reprise.data.windows import Windows
from reprise.tracking import lineage, resume
from reprise.tracking import run as tracking
from reprise.training.devices import threads


def run_key(config: Config, windows: Windows, *also: Any) -> str:
    """Return the hash of config, data, seed, code, processor and versions, and of `also`."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    machine = [lineage.processor(), gpu, threads(config.trainer), lineage.versions()]
    inputs = [store.digest(windows.arrays), store.digest(windows.folder)]
    return resume.training_key(
        tracking.recorded_config(config), inputs, lineage.learning_code(tuple(config.plugins)), machine, *also
    )
