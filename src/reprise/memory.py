"""Memory that this process may still use, from the system and the limits of its cgroups."""

from pathlib import Path

from reprise import cpus

SHARE = 0.5
"""Largest share of the available memory for arrays that are read again in each epoch."""


def available(system: Path = cpus.SYSTEM) -> int | None:
    """Return the bytes of memory that this process may still use; None if the system does not say (not Linux).

    That is the smallest of MemAvailable (proc(5)) and, in each cgroup, the limit less what is in use. File cache that the kernel
    can drop (`inactive_file`) counts as unused.
    """
    meminfo = cpus.lines(system / "proc/meminfo")
    free = [int(line.split()[1]) * 1024 for line in meminfo if line.startswith("MemAvailable:")]
    names = {2: ("memory.max", "memory.current", ""), 1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")}
    for folder, version in cpus.cgroups(system, "memory"):
        limit_file, usage_file, prefix = names[version]
        limit, usage = cpus.lines(folder / limit_file), cpus.lines(folder / usage_file)
        cache = [line.split()[1] for line in cpus.lines(folder / "memory.stat") if line.startswith(f"{prefix}inactive_file ")]
        if limit and usage and limit[0].isdecimal():  # else `max`: no limit
            free.append(int(limit[0]) - int(usage[0]) + int(cache[0] if cache else 0))
    return max(0, min(free)) if free else None


def holds(size: int) -> bool:
    """Return whether arrays of this many bytes stay in memory once they are read, beside the training."""
    left = available()
    return left is None or size < SHARE * left
