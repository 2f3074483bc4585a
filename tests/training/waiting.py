"""A callback that finds operations after which the host waits for the GPU."""

from typing import Any

import pytorch_lightning as pl
import torch


class ForbidWaiting(pl.Callback):
    """Makes an operation that waits for the GPU an error, from a step of an epoch to the last step of that epoch.

    Args:
        after: number of steps that may wait: the fingerprints of the first steps do.

    """

    def __init__(self, after: int = 0) -> None:
        self.after = after
        self.steps = 0
        """Number of steps that were checked."""

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Forbid waiting."""
        if trainer.global_step >= self.after:
            self.steps += 1
            _set("error")

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Allow waiting after the last step of the epoch."""
        if trainer.is_last_batch:
            _set("default")

    def on_exception(self, *_: Any) -> None:
        """Allow waiting."""
        _set("default")


def _set(mode: str) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_sync_debug_mode(mode)
