"""Number of CPUs this process may use, from its affinity, the CPU quota of its cgroups, and SLURM_CPUS_PER_TASK."""

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SYSTEM = Path("/")


class _Mount(NamedTuple):
    """A mounted cgroup hierarchy: `root` is the cgroup that is visible at the mount point."""

    root: PurePosixPath
    point: Path
    version: int


def available(system: Path = SYSTEM, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many CPUs this process may use, at least 1.

    That is the smallest of: the CPUs in the affinity mask (cpusets are part of it), the CPU quota of the process's cgroup and of
    every cgroup above it (v1 and v2), and SLURM_CPUS_PER_TASK. A quota of 2.5 CPUs counts as 2: the kernel would stop a third
    thread for part of each period, and the other two would wait for it.

    Args:
        system: the folder that holds proc/ and sys/; another one than / in tests.
        environment: variables of the environment.

    """
    return max(1, min(_limits(system, environment).values()))


def limit(system: Path = SYSTEM, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return what allows this process fewer CPUs than the machine has, for a message; None if it may use all of them."""
    limits = _limits(system, environment)
    what = min(limits, key=limits.__getitem__)
    return what if limits[what] < (os.cpu_count() or 1) else None


def _limits(system: Path, environment: Mapping[str, str]) -> dict[str, int]:
    """Return the CPUs that each limit allows."""
    limits = {"the affinity mask": _affinity()}
    if quotas := [math.floor(quota) for quota in _quotas(system)]:
        limits["the CPU quota of the cgroup"] = min(quotas)
    if (per_task := _slurm_cpus_per_task(environment)) is not None:
        limits["SLURM_CPUS_PER_TASK"] = per_task
    return limits


def per_process(processes: int, system: Path = SYSTEM, environment: Mapping[str, str] = os.environ) -> int:
    """Return the CPUs of each of several processes of one run on this machine, at least 1.

    They share what is available, except where srun started each as a task of its own with SLURM_CPUS_PER_TASK.
    """
    own = _slurm_cpus_per_task(environment) is not None and int(environment.get("SLURM_NTASKS", "1")) > 1
    return max(1, available(system, environment) // (1 if own else processes))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _slurm_cpus_per_task(environment: Mapping[str, str]) -> int | None:
    value = environment.get("SLURM_CPUS_PER_TASK", "")
    return int(value) if value.isdecimal() else None


def _quotas(system: Path) -> Iterator[float]:
    """Yield the CPU quota of each cgroup that limits this process, in CPUs. Unlimited cgroups yield nothing."""
    for folder, version in cgroups(system, "cpu"):
        quota = _quota_v2(folder) if version == 2 else _quota_v1(folder)
        if quota is not None:
            yield quota


def cgroups(system: Path, controller: str) -> Iterator[tuple[Path, int]]:
    """Yield the folder of each cgroup in which a controller (`cpu`, `memory`) can limit this process, and the version, 1 or 2."""
    for mount, group in _cgroups(system, controller):
        for folder in _with_ancestors(mount, group):
            yield folder, mount.version


def _cgroups(system: Path, controller: str) -> Iterator[tuple[_Mount, PurePosixPath]]:
    """Yield the cgroups of this process that have a controller, each with its mount.

    Lines of /proc/self/cgroup are `hierarchy:controllers:path`; v2 is hierarchy 0 and names no controllers (cgroups(7)).
    """
    mounts = {mount.version: mount for mount in _mounts(system, controller)}
    for line in lines(system / "proc/self/cgroup"):
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        version = 2 if hierarchy == "0" and not controllers else 1
        if version in mounts and (version == 2 or controller in controllers.split(",")):
            yield mounts[version], PurePosixPath(path)


def _mounts(system: Path, controller: str) -> Iterator[_Mount]:
    """Yield the mounted cgroup hierarchies that hold the files of a controller.

    Fields of /proc/self/mountinfo: 4 root, 5 mount point; after a single hyphen type, source and options (proc(5)).
    """
    for line in lines(system / "proc/self/mountinfo"):
        fields, _, rest = line.partition(" - ")
        location, filesystem = fields.split(" "), rest.split(" ")
        if len(location) < 5 or len(filesystem) < 3:
            continue
        mount = PurePosixPath(location[3]), system / location[4].lstrip("/")
        if filesystem[0] == "cgroup2":
            yield _Mount(*mount, version=2)
        elif filesystem[0] == "cgroup" and controller in filesystem[2].split(","):
            yield _Mount(*mount, version=1)


def _with_ancestors(mount: _Mount, group: PurePosixPath) -> Iterator[Path]:
    """Yield the folders of a cgroup and its mounted ancestors.

    In a container without a cgroup namespace, the path is that of the host, but only the container's part is mounted.
    """
    below = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    if ".." not in below.parts:  # outside of the namespace's root
        yield from (mount.point / part for part in below.parents if part != PurePosixPath())
        yield mount.point / below
    yield mount.point


def _quota_v2(folder: Path) -> float | None:
    """Return the CPUs that cpu.max allows: `max 100000` (unlimited), or quota and period in microseconds, `150000 100000`."""
    match " ".join(lines(folder / "cpu.max")).split():
        case [quota, period] if quota.isdecimal() and period.isdecimal() and int(period):
            return int(quota) / int(period)
    return None


def _quota_v1(folder: Path) -> float | None:
    """Return the CPUs that cpu.cfs_quota_us (-1: unlimited) and cpu.cfs_period_us allow."""
    match (lines(folder / "cpu.cfs_quota_us"), lines(folder / "cpu.cfs_period_us")):
        case [[quota], [period]] if quota.isdecimal() and period.isdecimal() and int(quota) and int(period):
            return int(quota) / int(period)
    return None


def lines(file: Path) -> list[str]:
    """Return the lines of a file, or no lines if it is missing or not readable."""
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
