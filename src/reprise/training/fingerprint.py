"""Hashes of a network's tensors after each of the first steps. They show where two trainings first differ."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

FIRST_STEPS = 20
"""Number of steps that are recorded."""

Fingerprint = dict[str, str]
"""The sha256 of every parameter and buffer, by name."""


def fingerprint(state: dict[str, Tensor]) -> Fingerprint:
    """Return the sha256 of the bytes of each tensor. Those of a sharded network are gathered."""
    whole = {name: tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor for name, tensor in state.items()}
    return {
        name: hashlib.sha256(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data).hexdigest()
        for name, tensor in whole.items()
    }


def first_difference(one: list[Fingerprint], other: list[Fingerprint]) -> str:
    """Return the first step and tensor that differ, or "" if none does."""
    for step, (first, second) in enumerate(zip(one, other, strict=False)):
        for name in sorted({*first, *second}):
            if first.get(name) != second.get(name):
                return f"{f'step {step}' if step else 'initial weights'}: {name}"
    return "" if len(one) == len(other) else f"step {min(len(one), len(other))}: only one of them continues"


class Fingerprints(pl.Callback):
    """Records the fingerprint of the network before the first step and after each of the first `steps` steps.

    Fingerprints are saved in checkpoints, so a resumed training has all of them.

    Args:
        steps: number of steps to record.
        stop: whether to stop training after these steps.
        state: returns the tensors of the network, by name.

    """

    def __init__(
        self, steps: int, stop: bool, state: Callable[[nn.Module], dict[str, Tensor]] = lambda network: network.state_dict()
    ) -> None:
        self.steps = steps
        self.stop = stop
        self.state = state
        self.taken: list[Fingerprint] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Record the initial weights."""
        if not self.taken:
            self.taken.append(fingerprint(self.state(pl_module.network)))

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Record the step if it is one of the first `steps`."""
        if len(self.taken) <= self.steps:
            self.taken.append(fingerprint(self.state(pl_module.network)))
        if self.stop:
            trainer.should_stop = len(self.taken) > self.steps

    def state_dict(self) -> dict[str, Any]:
        """Return the fingerprints recorded so far."""
        return {"taken": self.taken}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the fingerprints of a checkpoint."""
        self.taken = state_dict["taken"]
