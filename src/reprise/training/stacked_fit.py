"""The training of a stack (`trainer.stacked`): several seeds of one config as one program."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch.optim import Optimizer

from reprise.config import Config
from reprise.data.augment import Augment
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.models.closed_form import is_closed_form
from reprise.models.penalized import Penalized, SeparateLosses
from reprise.tasks import metric_names
from reprise.tasks.build import build_task
from reprise.tracking.run_info import WEIGHTS
from reprise.tracking.weights import save_weights
from reprise.training.checkpoint import Checkpoints
from reprise.training.fingerprint import FIRST_STEPS, Fingerprints
from reprise.training.fit import CHECKPOINTS, Fitted, machine_facts, make_loaders, make_network
from reprise.training.hooks import has_hook
from reprise.training.initial import InitialWeights
from reprise.training.learner import Learner, MetricCallback, Row
from reprise.training.memory import peak_bytes, reset_peak
from reprise.training.optimizers import make_optimizer, make_scheduler
from reprise.training.progress import EpochProgress
from reprise.training.stack import (
    BestWeightsOfEach,
    SharedLoader,
    Stack,
    StackedLoader,
    StackedTask,
    of_all,
    of_member,
    row_of,
)
from reprise.training.stack_check import difference
from reprise.training.trainer import make_trainer

_, RATE = metric_names.SPEED
STACK = "stack.safetensors"
"""File beside the checkpoints of a stack: the best weights of all members."""
ELEMENTWISE = (
    *(torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop, torch.optim.Adagrad, torch.optim.Adadelta),
    *(torch.optim.Adamax, torch.optim.NAdam, torch.optim.RAdam),
)
"""Optimizers that compute the step of a weight from its own gradients alone, so that members do not affect each other."""
COMPARED = 4
"""Samples on which a stack is compared with its members alone before training."""

REFUSED: dict[Callable[[torch.nn.Module], bool], str] = {
    is_closed_form: "is computed in closed form",
    lambda module: isinstance(module, SeparateLosses): "has several losses",
    lambda module: isinstance(module, Penalized): "adds a penalty to the loss",
    has_hook: "has hooks, which its layers in a stack would not have",
}
"""Modules that are not stacked, with the reason."""


def stacks(config: Config) -> list[list[Config]]:
    """Return the configs of the members of each stack. If `trainer.stacked` does not divide the seeds, the last one is smaller.

    The config of a member has its seed, and in `seeds` those of its stack: they determine its weights, as the same stack must be
    trained to reproduce them.
    """
    size, seeds = config.trainer.stacked or 1, config.every_seed
    groups = [seeds[start : start + size] for start in range(0, len(seeds), size)]
    return [[config.model_copy(update={"seed": seed, "seeds": group}) for seed in group] for group in groups]


class StackedTraining:
    """A training of a stack that is ready to start. `configs` differ in their seed only."""

    def __init__(self, configs: Sequence[Config], windows: Windows, initial: InitialWeights | None = None) -> None:
        self.config, self.configs = configs[0], configs
        self.task = build_task(self.config, windows.meta)
        members = [make_network(config, windows, self.task, initial) for config in configs]
        self.network, self.alone = Stack(members), members[0]
        self.stacked_task = StackedTask(self.task, len(configs))
        self.trainer = make_trainer(self.config.trainer, self.task)
        train, val = make_loaders(self.config, windows, self.trainer)
        augment = self.config.augment
        loaders = [
            replace(train, seed=config.seed, augment=None if augment.is_identity else Augment(augment, config.seed))
            for config in configs
        ]
        self.loaders = StackedLoader(loaders), SharedLoader(val, len(configs))
        self.task.fit_to_train(train.dataset)
        self.histories: list[list[Row]] = [[] for _ in configs]

    @property
    def facts(self) -> dict[str, Any]:
        """Device, number of devices and threads, and precision."""
        return machine_facts(self.config, self.trainer)

    def fit(
        self,
        folders: Sequence[Path],
        checkpoint: Path | None = None,
        records: Sequence[MetricCallback] = (),
        before_checkpoint: Callable[[], None] = lambda: None,
        progress: Console | None = None,
    ) -> list[Fitted]:
        """Train, keep the weights of the best epoch of each member in its folder, and the checkpoints in the first one.

        Args:
            folders: where the weights of each member are written.
            checkpoint: the checkpoint to resume from.
            records: receive the metrics of each epoch of each member.
            before_checkpoint: called before each checkpoint.
            progress: where a progress bar is shown.

        """
        checkpoints = folders[0] / CHECKPOINTS
        best = BestWeightsOfEach(checkpoints / STACK, self.task.monitor, self.task.mode, len(self.configs))
        saver = Checkpoints(checkpoints, self.config.checkpoint, before_checkpoint, best.file)
        fingerprints = Fingerprints(FIRST_STEPS, stop=False, state=_state)
        callbacks: list[pl.Callback] = [best, fingerprints, saver]
        if progress:
            seeds = ", ".join(str(config.seed) for config in self.configs)
            title = f"{self.config.name} seed{'s' if len(self.configs) > 1 else ''} {seeds}"
            callbacks.append(EpochProgress(progress, title, self.task.monitor))
        self.trainer.callbacks += callbacks  # type: ignore[attr-defined]
        learner, device = self._learner(records), self.trainer.strategy.root_device
        reset_peak(device)
        with saver.deferring_signals():
            try:
                self.trainer.fit(learner, *self.loaders, ckpt_path=checkpoint, weights_only=True)
            except UserError as error:
                raise self._of_member(error, learner.row) from None
        for member, folder in enumerate(folders):
            save_weights(folder / WEIGHTS, best.weights_of(member))
        return [
            Fitted(
                weights=folder / WEIGHTS,
                history=self.histories[member],
                best_epoch=best.each[member].epoch,
                epochs=self.trainer.current_epoch,
                parameters=self.network.parameters_alone,
                seconds=saver.seconds,
                fingerprints=[of_member(member, taken) for taken in fingerprints.taken],
                nondeterministic=sorted(self.trainer.nondeterministic),
                peak_memory=peak_bytes(device),
            )
            for member, folder in enumerate(folders)
        ]

    def _learner(self, records: Sequence[MetricCallback]) -> Learner:
        def record_epoch(metrics: Row, step: int) -> None:
            metrics = metrics | {RATE: metrics[RATE] * self.network.size}  # each sample of a stack is one of every member
            for member, history in enumerate(self.histories):
                history.append(row_of(member, metrics))
                if records:
                    records[member](history[-1], step)

        optimizer = partial(stacked_optimizer, self.config, self.alone)
        scheduler = partial(make_scheduler, self.config)
        return Learner(self.network, self.stacked_task, optimizer, scheduler, self.config.seed, record_epoch)

    def _of_member(self, error: UserError, row: Row) -> UserError:
        """Return an error with the seeds whose loss is not finite, if it was raised for that."""
        own = {config.seed: row_of(member, row) for member, config in enumerate(self.configs)}
        losses = {seed: one.get("train/loss", 0.0) + one.get("val/loss", 0.0) for seed, one in own.items()}
        seeds = ", ".join(str(seed) for seed, loss in losses.items() if not math.isfinite(loss))
        return UserError(f"seed {seeds}: {error.what}", "try a smaller optimizer.lr") if seeds else error


def _state(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    assert isinstance(network, Stack)
    return of_all(network.states())


def check_stackable(config: Config, windows: Windows, initial: InitialWeights | None = None) -> None:
    """Train two seeds for two steps on a few samples, in a stack and alone, and compare them (`stack_check`).

    Nothing that is trained later is changed.

    Raises:
        UserError: if the network or the optimizer cannot be stacked, or if a stack computes anything else than its members alone.

    """
    task = build_task(config, windows.meta)

    def networks() -> list[torch.nn.Module]:
        seeds = (config.seed, config.seed + 1)
        return [make_network(config.model_copy(update={"seed": seed}), windows, task, initial) for seed in seeds]

    members = networks()
    model = type(members[0]).__name__
    for applies, reason in REFUSED.items():
        if any(applies(module) for module in members[0].modules()):
            raise _refusal(config, f"{model} {reason}")
    optimizer = make_optimizer(config, members[0])
    if type(optimizer) not in ELEMENTWISE:
        raise _refusal(config, f"{type(optimizer).__name__} may combine the gradients of several weights")
    train, _ = windows.learning()
    batch = train.gather(torch.arange(min(COMPARED, len(train)), device=train.device))
    task.fit_to_train(train)

    def compare(members: Sequence[torch.nn.Module], dtype: torch.dtype) -> str | None:
        of_stack = partial(stacked_optimizer, config, members[0])
        return difference(members, task, batch, partial(make_optimizer, config), of_stack, dtype)

    try:
        try:
            other = compare(members, torch.float64)
        except Exception:  # some networks compute in float32 only
            other = compare(networks(), torch.float32)
    except Exception as error:  # vmap raises what the layers of a network raise
        raise _refusal(config, f"{model} cannot be stacked: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
    if other:
        raise _refusal(config, f"{model} computes other {other} in a stack than alone")


def stacked_optimizer(config: Config, alone: torch.nn.Module, stack: torch.nn.Module) -> Optimizer:
    """Return the optimizer of a stack with the groups of parameters that it has for a member alone.

    They may depend on the shapes of parameters, which have one dimension more in a stack.
    """
    assert isinstance(stack, Stack)
    optimizer, groups = make_optimizer(config, stack), make_optimizer(config, alone).param_groups
    names = {id(parameter): name for name, parameter in alone.named_parameters()}
    stacked = dict(stack.member.named_parameters())
    optimizer.param_groups = [group | {"params": [stacked[names[id(one)]] for one in group["params"]]} for group in groups]
    return optimizer


def _refusal(config: Config, reason: str) -> UserError:
    return UserError(f"trainer.stacked={config.trainer.stacked}: {reason}", "leave trainer.stacked out")
