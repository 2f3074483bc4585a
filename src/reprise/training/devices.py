"""CPU threads and devices of a process of a run, and its process group. Without Lightning, whose import takes seconds."""

import torch

from reprise import cpus
from reprise.config import TrainerConfig
from reprise.errors import UserError


def threads(config: TrainerConfig) -> int:
    """Return the CPU threads per process: as configured, or its share of the available CPUs. Results depend on it bitwise."""
    return config.threads or cpus.per_process(config.devices)


def accelerator(config: TrainerConfig) -> str:
    """Return `cpu` or `gpu`. `auto` is a GPU if there is one."""
    return config.accelerator if config.accelerator != "auto" else ("gpu" if torch.cuda.is_available() else "cpu")


def check_devices(config: TrainerConfig) -> None:
    """Raise a UserError if this machine has fewer GPUs than requested."""
    available = torch.cuda.device_count()
    if accelerator(config) == "gpu" and config.devices > available:
        raise UserError(
            f"trainer.devices={config.devices}: this machine has {available} GPUs", "use trainer=cpu or trainer=ddp_cpu"
        )


def leave_process_group() -> None:
    """Wait for the other ranks, then destroy the process group. A rank that exits earlier makes the others fail."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
