"""Weights on disk: written whole or not at all, plain tensors only, never unpickled."""

import io
import math
from collections.abc import Mapping
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from reprise.data import store
from reprise.errors import UserError


def save_weights(file: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors by name, atomically, with their sha256 beside them."""
    buffer = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, buffer)
    store.write_atomically(file, buffer.getvalue())
    store.write_atomically(file.with_suffix(".sha256"), f"{store.sha256(file)}  {file.name}\n".encode())


def load_weights(file: Path) -> dict[str, Tensor]:
    """Read what `save_weights` wrote.

    Raises:
        UserError: when the file is missing, is not what was written, or holds anything but tensors by name.

    """
    beside = file.with_suffix(".sha256")
    if not file.is_file() or not beside.is_file():
        raise UserError(f"no weights {file}", "train first")
    if beside.read_text().split()[:1] != [store.sha256(file)]:
        raise UserError(f"{file} is not what was written (sha256 differs)", "train again")
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # it fails in as many ways as there are files, and advises to run them all the same
        weights = None
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise UserError(f"{file} holds something else than weights, and was not run", "train again")
    return weights


class BestWeights(pl.Callback):
    """Keeps the network's weights of the best epoch by a validation metric, in `file`."""

    def __init__(self, file: Path, monitor: str, mode: str) -> None:
        self.file = file
        self.monitor = f"val/{monitor}"
        self.sign = 1 if mode == "max" else -1
        self.best = -math.inf
        self.epoch = 0

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the weights if they are better than all before; the first of equals wins."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        value = self.sign * float(trainer.callback_metrics[self.monitor])
        if not value > self.best:  # nor is a NaN
            return
        self.best, self.epoch = value, trainer.current_epoch + 1
        state = trainer.strategy.lightning_module_state_dict()  # every rank: sharded weights are gathered here
        if trainer.is_global_zero:
            network = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
            save_weights(self.file, network)
