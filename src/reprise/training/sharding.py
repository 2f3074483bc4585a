"""Fully sharded data parallelism (FSDP2): each rank holds a part of every weight, its gradient and its optimizer state.

Sources: Zhao et al. 2023, PyTorch FSDP; `torch.distributed.fsdp.fully_shard`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.types import _PATH
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.strategies.strategy import Strategy
from torch import distributed, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.optim import Optimizer

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LARGEST_SHARE = 0.5
"""Of all parameters, what one block may hold before its own children become blocks."""
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the modules whose weights are gathered together, for as long as they compute.

    They are the children of the network and of its containers that have parameters; those of a child that holds more than half
    of all parameters, unless it comes from torch.nn (whose modules may use their children's weights without calling them). A
    module that shares a parameter with another block is none: its weights stay with the network's own, as FSDP2 demands.
    """
    total = sum(weight.numel() for weight in network.parameters())
    found = list(_blocks(network, LARGEST_SHARE * total))
    owners = Counter(weight for block in found for weight in block.parameters())
    return [block for block in found if all(owners[weight] == 1 for weight in block.parameters())]


def _blocks(module: nn.Module, largest: float) -> Iterator[nn.Module]:
    for child in module.children():
        size = sum(weight.numel() for weight in child.parameters())
        opened = size > largest and not type(child).__module__.startswith("torch.") and any(child.children())
        if isinstance(child, CONTAINERS) or opened:
            yield from _blocks(child, largest)
        elif size:
            yield child


@final
class FullySharded(ModelParallelStrategy):
    """Lightning's strategy for FSDP2 along one dimension, but with checkpoints that are whole and go through our CheckpointIO."""

    def __init__(self, world_size: int, backend: str) -> None:
        super().__init__(world_size, 1, save_distributed_checkpoint=False, process_group_backend=backend)

    def setup_environment(self) -> None:
        """Join the process group. Lightning's own needs the LightningModule, which we make later."""
        if self._device_mesh is None:
            self._setup_distributed()
            names = ("data_parallel", "tensor_parallel")
            self._device_mesh = init_device_mesh(self.root_device.type, (self.world_size, 1), mesh_dim_names=names)

    def shard(self, network: nn.Module) -> None:
        """Split each block's parameters over the ranks, then what is left. Does nothing the second time."""
        if any(isinstance(weight, distributed.tensor.DTensor) for weight in network.parameters()):
            return
        for weight in network.parameters():
            weight.data = weight.data.contiguous()  # channels last is not; FSDP2 splits contiguous parameters only
        mesh = self.device_mesh["data_parallel"]
        for block in blocks(network):
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True: `load_checkpoint` only reads."""
        return True

    def load_checkpoint(self, checkpoint_path: _PATH, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a whole checkpoint, checked and never unpickled."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Give each rank its part of the weights."""
        assert self.lightning_module is not None
        set_model_state_dict(self.lightning_module, checkpoint["state_dict"], options=WHOLE)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state, by names of parameters; empty on ranks but the first, which do not write it."""
        assert self.model is not None
        own = optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return get_optimizer_state_dict(self.model, own, options=WHOLE)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Give each rank its part of the optimizer's state."""
        assert self.model is not None
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state_dict(self.model, optimizer, state, options=WHOLE)


@final
class SameBuffers(pl.Callback):
    """Before a validation, every rank takes the buffers of the first (running statistics of batch norm), as DDP does."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Broadcast them."""
        for buffer in pl_module.network.buffers():  # type: ignore[union-attr]
            if buffer.device.type == trainer.strategy.root_device.type:
                distributed.broadcast(buffer, 0)


def local_parameters(network: nn.Module) -> int:
    """Return how many parameters this rank holds of a network."""
    shards = (weight.to_local() if isinstance(weight, distributed.tensor.DTensor) else weight for weight in network.parameters())
    return sum(shard.numel() for shard in shards)


def backend(device: torch.device) -> str:
    """The library by which ranks talk to each other."""
    return "gloo" if device.type == "cpu" else "nccl"
