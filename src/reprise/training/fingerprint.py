"""Hashes of a network's tensors after each of the first steps: they name the step and tensor at which two trainings part."""

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

FIRST_STEPS = 20
"""How many steps of a training are recorded."""

Fingerprint = dict[str, str]
"""The sha256 of every parameter and buffer, by name."""


def fingerprint(state: dict[str, Tensor]) -> Fingerprint:
    """Return the sha256 of the bytes of each tensor."""
    return {
        name: hashlib.sha256(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()
        for name, tensor in state.items()
    }


def first_difference(one: list[Fingerprint], other: list[Fingerprint]) -> str:
    """Return the first step and tensor that differ, "" where none does."""
    for step, (here, there) in enumerate(zip(one, other, strict=False)):
        for name in sorted({*here, *there}):
            if here.get(name) != there.get(name):
                return f"{f'step {step}' if step else 'initial weights'}: {name}"
    return "" if len(one) == len(other) else f"step {min(len(one), len(other))}: only one of them goes on"


class Fingerprints(pl.Callback):
    """Takes the fingerprint of a network before the first step and after each of the first `steps`.

    They are part of checkpoints, so that a resumed training has them all.

    Args:
        steps: how many steps to take fingerprints of.
        stop: whether the training ends after them.

    """

    def __init__(self, steps: int, stop: bool) -> None:
        self.steps = steps
        self.stop = stop
        self.taken: list[Fingerprint] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Take that of the initial weights."""
        if not self.taken:
            self.taken.append(fingerprint(pl_module.network.state_dict()))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Take one more, while there are not enough."""
        if len(self.taken) <= self.steps:
            self.taken.append(fingerprint(pl_module.network.state_dict()))
        if self.stop:
            trainer.should_stop = len(self.taken) > self.steps

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprints taken so far, for a checkpoint."""
        return {"taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from those of a checkpoint."""
        self.taken = state_dict["taken"]
