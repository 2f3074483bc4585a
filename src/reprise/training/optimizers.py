"""Build the optimizer and the learning-rate schedule from a config."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from reprise.config import Config, build

NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm),
)


def make_optimizer(config: Config, network: nn.Module) -> Optimizer:
    """Return the optimizer of the network's parameters, without frozen ones."""
    optimizer: Optimizer = build(
        config.optimizer, "optimizer", config.plugins, parameter_groups(network, config.optimizer.no_weight_decay)
    )
    return optimizer


def make_scheduler(config: Config, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Return the schedule over the total number of steps."""
    scheduler: LRScheduler = build(config.scheduler, "scheduler", config.plugins, optimizer, total_steps=steps)
    return scheduler


def parameter_groups(network: nn.Module, no_weight_decay: Iterable[str]) -> Any:
    """Return the parameters that are trained, in one group, or in two: with weight decay and without.

    Args:
        network: the network.
        no_weight_decay: kinds without weight decay: `bias` (parameters whose name ends in `bias` or starts with `bias_`, as in
            recurrent layers), `norm` (all parameters of normalisation layers). Source: He et al. 2019, Bag of tricks for image
            classification, section 3.1.

    """
    kinds = set(no_weight_decay)
    if not kinds:
        return [parameter for parameter in network.parameters() if parameter.requires_grad]
    excluded: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    seen = set[int]()
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) not in seen and parameter.requires_grad:
                seen.add(id(parameter))
                is_bias = "bias" in kinds and (name.endswith("bias") or name.startswith("bias_"))
                is_norm = "norm" in kinds and isinstance(module, NORMS)
                (excluded if is_bias or is_norm else others).append(parameter)
    return [{"params": others}, {"params": excluded, "weight_decay": 0.0}]


def frozen_norms(network: nn.Module) -> list[nn.Module]:
    """Return the normalisation layers that have parameters, all of them frozen."""
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    return [norm for norm in norms if (own := list(norm.parameters())) and not any(one.requires_grad for one in own)]
