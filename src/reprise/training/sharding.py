"""Fully sharded data parallelism (FSDP2): each rank holds a shard of every weight, its gradient and its optimizer state.

Sources: Zhao et al. 2023, PyTorch FSDP; `torch.distributed.fsdp.fully_shard`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, final

import pytorch_lightning as pl
import torch
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

from reprise.training.lightning_internals import join_process_group

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
LARGEST_SHARE = 0.5
"""Largest share of all parameters in one block. The children of a larger module become blocks instead."""
FULL_STATE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the modules to shard as units: FSDP2 gathers the weights of a unit while it computes.

    They are the children of the network and of its containers that have parameters. A child with more than half of all
    parameters is replaced by its own children, unless it comes from torch.nn (whose modules may use their children's weights
    without calling them). A module that shares a parameter with another block is excluded, because FSDP2 requires shared
    parameters in one unit: the network itself.
    """
    total = sum(weight.numel() for weight in network.parameters())
    candidates = list(_blocks(network, LARGEST_SHARE * total))
    owners = Counter(weight for block in candidates for weight in block.parameters())
    return [block for block in candidates if all(owners[weight] == 1 for weight in block.parameters())]


def _blocks(module: nn.Module, largest: float) -> Iterator[nn.Module]:
    for child in module.children():
        size = sum(weight.numel() for weight in child.parameters())
        split = size > largest and not type(child).__module__.startswith("torch.") and any(child.children())
        if isinstance(child, CONTAINERS) or split:
            yield from _blocks(child, largest)
        elif size:
            yield child


@final
class FullySharded(ModelParallelStrategy):
    """Lightning's FSDP2 strategy along one dimension, with unsharded checkpoints written through `AtomicIO`."""

    def __init__(self, world_size: int, backend: str) -> None:
        super().__init__(world_size, 1, save_distributed_checkpoint=False, process_group_backend=backend)

    def setup_environment(self) -> None:
        """Join the process group. Lightning's version needs the LightningModule, which does not exist yet."""
        if self._device_mesh is None:
            join_process_group(self)
            names = ("data_parallel", "tensor_parallel")
            self._device_mesh = init_device_mesh(self.root_device.type, (self.world_size, 1), mesh_dim_names=names)

    def shard(self, network: nn.Module) -> None:
        """Shard the parameters of each block, then the remaining ones. Do nothing if the network is sharded."""
        if any(isinstance(weight, distributed.tensor.DTensor) for weight in network.parameters()):
            return
        for weight in network.parameters():
            weight.data = weight.data.contiguous()  # FSDP2 shards contiguous parameters only; channels-last ones are not
        mesh = self.device_mesh["data_parallel"]
        for block in blocks(network):
            fully_shard(block, mesh=mesh)
        fully_shard(network, mesh=mesh)

    @property
    def lightning_restore_optimizer(self) -> bool:
        """True, because `load_checkpoint` only reads the file."""
        return True

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Return the unsharded checkpoint, read through `AtomicIO`."""
        return Strategy.load_checkpoint(self, checkpoint_path, weights_only)

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        """Load the weights: each rank takes its shard."""
        assert self.lightning_module is not None
        set_model_state_dict(self.lightning_module, checkpoint["state_dict"], options=FULL_STATE)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return the unsharded state by parameter name; empty on all ranks but the first."""
        assert self.model is not None
        inner = optimizer.optimizer if isinstance(optimizer, LightningOptimizer) else optimizer
        return get_optimizer_state_dict(self.model, inner, options=FULL_STATE)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """Load the optimizer state: each rank takes its shard."""
        assert self.model is not None
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            set_optimizer_state_dict(self.model, optimizer, state, options=FULL_STATE)


@final
class SameBuffers(pl.Callback):
    """Broadcasts the buffers of rank 0 (running statistics of batch norm) before each validation, as DDP does."""

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Broadcast the buffers."""
        for buffer in pl_module.network.buffers():  # type: ignore[union-attr]
            if buffer.device.type == trainer.strategy.root_device.type:
                distributed.broadcast(buffer, 0)


def local_parameters(network: nn.Module) -> int:
    """Return the number of parameters that this rank holds."""
    shards = (weight.to_local() if isinstance(weight, distributed.tensor.DTensor) else weight for weight in network.parameters())
    return sum(shard.numel() for shard in shards)


def backend(device: torch.device) -> str:
    """Return the backend of the process group."""
    return "gloo" if device.type == "cpu" else "nccl"
