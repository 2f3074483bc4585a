"""Memory and time of a device."""

import resource
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch


def forget_peak(device: torch.device) -> None:
    """Count from now on: a process may train more than once. On other systems than Linux, that of the process is kept."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak preload_to_device set size


def peak_bytes(device: torch.device) -> int:
    """Of tensors on a GPU; of the whole process, its libraries included, where it trains on the processor."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def clock(device: torch.device) -> float:
    """Return the seconds of a steady clock, once the device has done all that was queued on it.

    A GPU computes behind the program's back: without waiting, the time of its last steps is not counted.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
