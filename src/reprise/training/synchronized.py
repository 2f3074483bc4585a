"""Synchronized batch norm (`trainer.sync_batch_norm`): statistics of the whole batch of a step instead of each rank's part.

Source: `torch.nn.SyncBatchNorm`, which computes on GPUs, one for each process, with DDP.
"""

from torch import nn

from reprise.config import TrainerConfig
from reprise.errors import UserError
from reprise.training.devices import accelerator

PLAIN_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronize(network: nn.Module, config: TrainerConfig) -> nn.Module:
    """Return the network with its layers of batch norm replaced. Parameters and buffers stay the same, under the same names.

    Raises:
        UserError: if training has no GPU; if the network has no batch norm.

    """
    if accelerator(config) == "cpu":
        raise UserError("trainer.sync_batch_norm=true: computes on GPUs only, and this training has none", "omit it")
    if not any(isinstance(module, PLAIN_NORMS) for module in network.modules()):
        raise UserError(f"trainer.sync_batch_norm=true: {type(network).__name__} has no batch norm", "omit it")
    synchronized: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    return synchronized
