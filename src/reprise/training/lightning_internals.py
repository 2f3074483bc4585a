"""What is used of Lightning beyond its public interface. tests/training/test_lightning_internals.py checks it."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import ModelParallelStrategy

HOOK_NAME = "_current_fx_name"
"""The attribute of a LightningModule that holds the name of the running hook."""


class FastHookName(pl.LightningModule):
    """A LightningModule that sets the name of the running hook directly.

    Lightning sets it about forty times a step, which takes 100 µs with `nn.Module.__setattr__`.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if name == HOOK_NAME:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def join_process_group(strategy: ModelParallelStrategy) -> None:
    """Join the process group without a LightningModule, which `setup_environment` of the strategy needs."""
    strategy._setup_distributed()
