"""The best epoch of a training, and the file with its weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn

from reprise.tracking.weights import save_weights
from reprise.training.learner import Learner


class BestEpoch:
    """The best epoch so far by a validation metric. Ties are broken by the smaller validation loss, then by the later epoch."""

    def __init__(self, monitor: str, mode: str) -> None:
        self.monitor = f"val/{monitor}"
        self.sign = 1 if mode == "max" else -1
        self.best = (-math.inf, -math.inf)
        """Metric and loss of the best epoch, with signs such that larger is better."""
        self.epoch = 0

    def update(self, row: Mapping[str, float], epoch: int) -> bool:
        """Return whether the epoch with these metrics is the best so far."""
        score = self.sign * row[self.monitor], -row["val/loss"]
        if not math.isfinite(score[0]) or score < self.best:
            return False
        self.best, self.epoch = score, epoch
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and its epoch."""
        return {"best": list(self.best), "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and its epoch."""
        metric, loss = state_dict["best"]
        self.best, self.epoch = (metric, loss), state_dict["epoch"]


class BestWeights(pl.Callback):
    """Writes the network's weights to `file` whenever a validation metric is the best so far: see `BestEpoch`."""

    def __init__(self, file: Path, monitor: str, mode: str) -> None:
        self.file = file
        self.score = BestEpoch(monitor, mode)

    @property
    def epoch(self) -> int:
        """The best epoch."""
        return self.score.epoch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the weights if this epoch is the best so far."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        assert isinstance(pl_module, Learner)
        if not self.score.update(pl_module.row, trainer.current_epoch + 1):  # Lightning's `callback_metrics` are float32
            return
        state = trainer.strategy.lightning_module_state_dict()  # on every rank, because it gathers sharded weights
        if trainer.is_global_zero:
            network = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
            save_weights(self.file, network)

    def state_dict(self) -> dict[str, Any]:
        """Return the best score and its epoch."""
        return self.score.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and its epoch."""
        self.score.load_state_dict(state_dict)
