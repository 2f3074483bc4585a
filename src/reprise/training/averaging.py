"""Running means of a network's weights, which are validated and saved instead of the weights of the last step.

Sources: Ruppert 1988, Efficient estimations from a slowly convergent Robbins-Monro process; Polyak and Juditsky 1992,
Acceleration of stochastic approximation by averaging; Izmailov et al. 2018, Averaging weights leads to wider optima and better
generalization (SWA), algorithm 1; Tarvainen and Valpola 2017, Mean teachers are better role models (exponential moving average).
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import islice
from typing import Any, final

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from reprise.config import TrainerConfig
from reprise.data.loader import TrainLoader
from reprise.training.optimizers import frozen_norms

NORM_SAMPLES = 8192
"""Samples of train from which the statistics of batch norm are computed. A few thousand suffice: Wu and Johnson 2021, Rethinking
"Batch" in BatchNorm (arXiv 2105.07576), section 3.2."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


@final
class AveragedWeights(pl.Callback):
    """Keeps a mean of the weights over the steps, and puts it into the network during validation.

    `ema`: after every step, mean = d * mean + (1 - d) * weights, with d = min(decay, (1 + n) / (10 + n)) after n steps, so that
    the weights of the first steps are forgotten soon. `swa`: the mean of the weights at the ends of epochs, of equal weight each.

    The mean is part of each checkpoint, as the state of this callback. It must stand after `BestWeights`, which saves the
    network at the end of a validation, and before `Checkpoints`, which saves this state after a step. Only parameters are kept,
    not a copy of the network as in `torch.optim.swa_utils.AveragedModel`: saved weights then have the names of the network's.

    Args:
        config: the kind of the mean, its decay and its start.

    """

    def __init__(self, config: TrainerConfig) -> None:
        self.config = config
        self.weights: dict[str, nn.Parameter] = {}
        """The trained parameters of the network, from the start of training on."""
        self.first_step = 0.0
        """The steps without a mean."""
        self.mean: dict[str, Tensor] = {}
        """The mean of each of these parameters; empty before the first update."""
        self.count = 0
        """The number of updates."""
        self.trained: dict[str, Tensor] = {}
        """Parameters and buffers of the last step, while the network has the mean."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Collect the parameters, and move the mean of a checkpoint to their device."""
        self.collect(pl_module.network)  # type: ignore[arg-type]
        self.first_step = (self.config.average_start or 0.0) * trainer.estimated_stepping_batches
        self.mean = {name: mean.to(trainer.strategy.root_device) for name, mean in self.mean.items()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Update the mean."""
        if trainer.global_step > self.first_step and (self.config.average == "ema" or trainer.is_last_batch):
            self.update()

    def collect(self, network: nn.Module) -> None:
        """Average the trained parameters of this network."""
        self.weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}

    def update(self) -> None:
        """Include the weights of the network in the mean."""
        if not self.count:
            self.mean = {name: weight.detach().clone() for name, weight in self.weights.items()}
        elif self.config.average == "ema":
            assert self.config.average_decay is not None
            decay = min(self.config.average_decay, (1 + self.count) / (10 + self.count))
            get_ema_multi_avg_fn(decay)([*self.mean.values()], [*self.weights.values()], self.count)
        else:
            get_swa_multi_avg_fn()([*self.mean.values()], [*self.weights.values()], self.count)
        self.count += 1

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the mean into the network and recompute the statistics of batch norm. Before the first update, do nothing."""
        if not self.count:
            return
        network: nn.Module = pl_module.network
        self.trained = {name: tensor.clone() for name, tensor in _tensors(network)}
        for name, weight in self.weights.items():
            weight.detach().copy_(self.mean[name])
        assert isinstance(trainer.train_dataloader, TrainLoader)
        inputs = norm_inputs(trainer.train_dataloader, self.config.accumulate)
        recompute_norms(network, inputs, trainer.precision_plugin.val_step_context())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Put the weights of the last step, and their buffers, back into the network."""
        for name, tensor in _tensors(pl_module.network):
            if name in self.trained:
                tensor.copy_(self.trained[name])
        self.trained = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and the number of updates."""
        return {"mean": self.mean, "count": self.count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the mean."""
        self.mean, self.count = state_dict["mean"], state_dict["count"]


def norm_inputs(loader: TrainLoader, parts: int = 1) -> Iterator[Tensor]:
    """Yield the inputs of the first `NORM_SAMPLES` samples of this epoch, augmented as in training, the same on every rank.

    Batches have the size of one of the `parts` in which a rank computes its part of a training batch. An incomplete last one is
    left out unless it is the only one.
    """
    size = max(1, loader.batch_size // (loader.world * parts))
    batches = min(max(1, NORM_SAMPLES // size), max(1, len(loader.dataset) // size))
    alike = replace(loader, batch_size=size, rank=0, world=1, start=0)
    return (batch.inputs for batch in islice(alike, batches))


def recompute_norms(network: nn.Module, batches: Iterable[Tensor], context: AbstractContextManager[Any]) -> None:
    """Set the running statistics of batch norm to the mean over batches. Frozen layers keep theirs; dropout stays off.

    `torch.optim.swa_utils.update_bn` would reset frozen layers too, and draw random numbers for dropout.
    """
    frozen = frozen_norms(network)
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORMS) and module.track_running_stats]
    momenta = {norm: norm.momentum for norm in norms if norm not in frozen}
    if not momenta:
        return
    for norm in momenta:
        norm.reset_running_stats()
        norm.train()
        norm.momentum = None  # an equal mean of all batches
    with context, torch.no_grad():
        for inputs in batches:
            network(inputs)
    for norm, momentum in momenta.items():
        norm.momentum = momentum
        norm.eval()


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield parameters and buffers, also those that are not saved, with their names."""
    for name, weight in network.named_parameters():
        yield name, weight.detach()
    yield from network.named_buffers()
