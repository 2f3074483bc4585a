"""Peak memory and time of a device."""

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch


def reset_peak(device: torch.device) -> None:
    """Reset the peak memory, because a process may train more than once. On a CPU, this works on Linux only."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak resident set size


def peak_bytes(device: torch.device) -> int:
    """Return the peak memory: of tensors on a GPU, of the whole process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def clock(device: torch.device) -> float:
    """Synchronize the device, and return the seconds of a monotonic clock.

    GPU kernels run asynchronously: without synchronization, the time of the last steps is not counted.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
