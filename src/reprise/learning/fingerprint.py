"""What a network holds after each step, as hashes: to find the first step and tensor at which two trainings part."""

import hashlib
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

Fingerprint = dict[str, str]
"""The sha256 of every parameter and buffer, by name."""


def fingerprint(state: dict[str, Tensor]) -> Fingerprint:
    """Hashes of the bytes of tensors."""
    return {
        name: hashlib.sha256(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()
        for name, tensor in state.items()
    }


def first_difference(one: list[Fingerprint], other: list[Fingerprint]) -> str:
    """The first step and tensor that differ, "" where none does."""
    for step, (here, there) in enumerate(zip(one, other, strict=True), 1):
        for name in here:
            if here[name] != there[name]:
                return f"step {step}: {name}"
    return ""


class Fingerprints(pl.Callback):
    """Takes the fingerprint of a network after each of its first steps, and ends the training then."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.taken: list[Fingerprint] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """One more."""
        if len(self.taken) < self.steps:
            self.taken.append(fingerprint(pl_module.state_dict()))
        trainer.should_stop = len(self.taken) == self.steps
