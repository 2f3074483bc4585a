"""Where and what to measure: the experiments, their config for the device, and their data."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from reprise import config as configs
from reprise.config import Config
from reprise.data.windows import Windows
from reprise.project_paths import ProjectPaths
from reprise.stages.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
Results = Iterator[tuple[str, Any]]
KINDS = {
    "CNN": ["experiment=fashion_mnist_cnn"],
    "ResNet": ["experiment=fashion_mnist_cnn", "model=resnet", "optimizer.lr=0.003", "trainer.batch_size=128"],
    "LSTM": ["experiment=mnist_rows_lstm"],
    "PatchTST": ["experiment=etth1_96_patch_tst"],
}
"""An experiment for each kind of network."""
FEW = "window.val_size=256"
SMALL = {
    "CNN": [FEW],
    "ResNet": ["model.depth=8", FEW],
    "LSTM": ["model.hidden=8", FEW],
    "PatchTST": ["window.lookback=48", "model.features=8", "model.layers=1"],
}
"""Overrides of a smoke test."""
TARGETS = {
    "fashion_mnist": (0.94, ["experiment=fashion_mnist_best"]),
    "mnist": (0.99, ["experiment=mnist_fast", "trainer.max_epochs=2"]),
}
"""Test accuracy to reach, and the experiment that reaches it."""


@dataclass(frozen=True)
class Bench:
    """Where and how much to measure."""

    folder: Path
    """The project of the benchmark: its data are prepared once, by the part `data`."""
    smoke_test: bool
    """Whether to run on the CPU, with few samples."""
    budget: float
    """Seconds after which a part begins nothing new."""

    @property
    def device(self) -> torch.device:
        """The device that is measured."""
        return torch.device("cpu") if self.smoke_test else torch.device("cuda", 0)

    def config(self, *overrides: str) -> Config:
        """Return a config for the device; in a smoke test for few samples."""
        small = ["data.limit=192", "trainer.max_epochs=1", "trainer.threads=1"] if self.smoke_test else []
        general = [f"trainer={'cpu' if self.smoke_test else 'gpu'}", "trainer.progress=false"]
        return configs.compose(self.folder, [*general, *overrides, *small])

    def kind(self, name: str, *overrides: str) -> Config:
        """Return the config of a kind of network."""
        return self.config(*KINDS[name], *overrides, *(SMALL[name] if self.smoke_test else []))

    def windows(self, config: Config) -> Windows:
        """Return the windows of a config."""
        return prepare(config, ProjectPaths(self.folder), Console(quiet=True))
