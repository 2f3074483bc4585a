"""Train a model in closed form: compute its weights once, then measure them on train and val."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from reprise.data.loader import EvalLoader
from reprise.errors import UserError
from reprise.models.closed_form import ClosedForm, is_closed_form
from reprise.tasks import metric_names
from reprise.tasks.task import Task
from reprise.training.fingerprint import Fingerprint, fingerprint
from reprise.training.learner import Learner, Row
from reprise.training.memory import clock
from reprise.training.trainer import Trainer


def solve(network: nn.Module, task: Task, trainer: Trainer, train: EvalLoader, val: EvalLoader) -> tuple[Row, list[Fingerprint]]:
    """Compute the weights. Return the metrics of train and val, and the fingerprints before and after.

    Raises:
        UserError: with several devices.

    """
    device = trainer.strategy.root_device
    network.to(device)
    before, started = fingerprint(network.state_dict()), clock(device)
    compute(network, trainer, train, val)
    seconds = clock(device) - started
    row = _metrics(network, task, trainer, "train", train) | _metrics(network, task, trainer, "val", val)
    row |= dict(zip(metric_names.SPEED, (seconds, len(train.dataset) / max(seconds, 1e-9)), strict=True))
    return row, [before, fingerprint(network.state_dict())]


def compute(network: nn.Module, trainer: Trainer, train: EvalLoader, val: EvalLoader) -> None:
    """Compute the weights of a network, or of its parts, that have a closed-form solution.

    Raises:
        UserError: with several devices.

    """
    if not any(is_closed_form(module) for module in network.modules()):
        return
    assert isinstance(network, ClosedForm), f"{type(network).__name__} does not compute its parts in closed form"
    if trainer.world_size > 1:
        raise UserError(f"{type(network).__name__} is computed in closed form on one device", "use trainer=auto")
    network.to(trainer.strategy.root_device)
    with torch.no_grad():
        network.fit(train, val)


def stored_numbers(network: nn.Module) -> int:
    """Return the number of floating-point numbers in the weights: parameters and buffers."""
    return sum(tensor.numel() for tensor in network.state_dict().values() if tensor.is_floating_point())


def choices_of(network: nn.Module) -> Mapping[str, float | str]:
    """Return what a model in closed form chose while it was computed; nothing for other networks."""
    return network.chosen if isinstance(network, ClosedForm) else {}


def _metrics(network: nn.Module, task: Task, trainer: Trainer, split: str, loader: EvalLoader) -> Row:
    unused: Callable[..., Any] = _forbidden
    learner = Learner(network, task, unused, unused, 0, unused)
    trainer.validate(learner, loader, verbose=False)
    return {f"{split}/{name}": value for name, value in learner.validated.items()}


def _forbidden(*_: Any) -> Any:
    raise AssertionError("a model in closed form has no optimizer, scheduler or metric callback")
