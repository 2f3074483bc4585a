"""Checks of the machine: packages, devices, threads, memory and disk."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from reprise import cpus
from reprise.analysis.doctor.findings import Check
from reprise.config import Config
from reprise.memory import available as available_memory
from reprise.project_paths import ProjectPaths
from reprise.tracking import lineage

GIB = 1 << 30
LEAST_MEMORY = GIB // 2
"""Bytes of memory for a training: PyTorch, Lightning and MLflow alone take 300 to 400 MB."""
LEAST_DISK, LEAST_TEMPORARY = GIB, GIB // 8
"""Bytes of free disk for runs and data, and for temporary files."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
INSTALL = "pip install -c constraints.txt -e ."


def packages(check: Check, root: Path) -> None:
    """Compare Python and the installed packages with what reprise requires, and with the versions of constraints.txt."""
    own = importlib.metadata.metadata("reprise")
    installed = {name: _version(name) for name in lineage.PACKAGES}
    check.facts += [
        f"python {platform.python_version()}",
        *(f"{name} {version}" for name, version in installed.items() if version),
    ]
    required = SpecifierSet(",".join(own.get_all("Requires-Python") or []))
    if not required.contains(platform.python_version(), prereleases=True):
        check.error(
            "python-version", f"Python {platform.python_version()} is installed, {required} is required", "install that Python"
        )
    for requirement in map(Requirement, importlib.metadata.requires("reprise") or []):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None:
            check.error("package-missing", f"{requirement.name} is not installed", f"pip install '{requirement}'")
        elif not requirement.specifier.contains(version, prereleases=True):
            what = f"{requirement.name} {version} is installed, {requirement.specifier} is required"
            check.error("package-version", what, f"pip install '{requirement}'")
    if differing := list(_differing(root / "constraints.txt")):
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        what = f"{', '.join(differing[:3])}{more} in constraints.txt: other versions may give other bits"
        check.warning("package-unpinned", what, INSTALL)
    if not _is_compiled("torch"):
        what = "PYTHONDONTWRITEBYTECODE is set, and torch is not compiled: every command compiles thousands of modules again"
        check.warning("packages-uncompiled", what, f"python -m compileall -q -j 0 {sysconfig.get_path('purelib')}")


def _is_compiled(package: str) -> bool:
    """Return whether a package has its bytecode beside it, or gets it when it is next imported."""
    spec = importlib.util.find_spec(package)
    if not sys.dont_write_bytecode or spec is None or spec.origin is None:
        return True
    return Path(importlib.util.cache_from_source(spec.origin)).is_file()


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _differing(constraints: Path) -> Iterator[str]:
    """Yield the main packages whose version is not the pinned one. Local versions (`2.13.0+cpu`) are not compared."""
    lines = constraints.read_text("utf-8").splitlines() if constraints.is_file() else []
    pinned = dict(line.split("==", 1) for line in lines if "==" in line and not line.startswith("#"))
    for name, version in pinned.items():
        actual = _version(name) if canonicalize_name(name) in lineage.PACKAGES else None
        if actual and Version(actual).public != Version(version.split(";")[0].strip()).public:
            yield f"{name} is {actual}, but {version}"


def devices(check: Check, configs: Sequence[Config], system: Path = cpus.SYSTEM) -> None:
    """Compare the devices that PyTorch finds with those that the experiments ask for."""
    check.facts.append(lineage.processor())
    try:
        import torch  # late: takes seconds, and `packages` reports if it is missing
    except ImportError:
        return
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    check.facts.append(", ".join(names) or "no GPU")
    for config in configs:
        trainer = config.trainer
        if trainer.accelerator == "gpu" and trainer.devices > len(names):
            what = f"{config.name}: trainer.devices={trainer.devices} on GPUs, and PyTorch finds {len(names)}"
            check.error("gpu-missing", what, "set trainer.accelerator=auto, or fewer trainer.devices")
    cards = list((system / "proc/driver/nvidia/gpus").glob("*"))
    if cards and not names and "CUDA_VISIBLE_DEVICES" not in os.environ:
        what = f"this machine has {len(cards)} GPUs, and PyTorch {torch.__version__} uses none"
        fix = "install PyTorch for CUDA: https://pytorch.org/get-started/locally"
        check.warning("gpu-unused", what, fix if torch.version.cuda is None else "update the GPU driver")


def threads(
    check: Check, configs: Sequence[Config], system: Path = cpus.SYSTEM, environment: Mapping[str, str] = os.environ
) -> None:
    """Compare thread counts with the CPUs that affinity mask, cgroups and SLURM allow."""
    allowed = cpus.available(system, environment)
    check.facts.append(f"{allowed} of {os.cpu_count()} CPUs")
    for name in THREAD_VARIABLES:
        value = environment.get(name, "")
        if value.isdecimal() and int(value) > allowed:
            check.warning("threads-exceed-cpus", f"{name}={value}, and {allowed} CPUs may be used", f"unset {name}")
    for config in configs:
        count = (config.trainer.threads or 0) * config.trainer.devices
        if count > allowed:
            what = f"{config.name}: {count} threads (trainer.threads times trainer.devices), and {allowed} CPUs may be used"
            check.warning("threads-exceed-cpus", what, "set trainer.threads=null")


def memory(check: Check, configs: Sequence[Config], paths: ProjectPaths, system: Path = cpus.SYSTEM) -> None:
    """Compare the memory that is left, also within the cgroups, with what a training needs."""
    left = available_memory(system)
    if left is None:
        check.facts.append("not known on this system")
        return
    check.facts.append(f"{left / GIB:.1f} GiB available")
    preloaded = {config.data.name for config in configs if config.trainer.preload_to_device is True}
    for name in preloaded or {""}:
        arrays = sum(file.stat().st_size for file in paths.processed(name).rglob("*.npy")) if name else 0
        if left < LEAST_MEMORY + arrays:
            what = f"{left / GIB:.2f} GiB of memory are available, a training needs {(LEAST_MEMORY + arrays) / GIB:.2f} GiB"
            fix = "set trainer.preload_to_device=false" if arrays else "end other programs, or raise the memory limit"
            check.error("memory-low", what, fix)


def disk(check: Check, paths: ProjectPaths) -> None:
    """Check the free space of the project and of temporary files, and that the project's folders can be written to."""
    free = shutil.disk_usage(paths.root).free
    check.facts.append(f"{free / GIB:.1f} GiB free")
    if free < LEAST_DISK:
        what = f"{free / GIB:.2f} GiB are free on the disk of {paths.root}"
        check.error("disk-full", what, "`reprise gc` shows what runs and caches take, and deletes what you name")
    for folder in (paths.store, paths.root / "data"):
        if problem := _write_problem(folder):
            check.error("not-writable", f"{folder} cannot be written to: {problem}", "correct its owner and permissions")
    try:
        temporary = Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # none of the usual folders can be written to
        check.error("temporary-folder", str(error), "set TMPDIR to a folder that can be written to")
        return
    if (free := shutil.disk_usage(temporary).free) < LEAST_TEMPORARY:
        what = f"{free >> 20} MiB are free in {temporary}, the folder of temporary files"
        check.error("temporary-folder", what, "delete files there, or set TMPDIR to another folder")


def _write_problem(folder: Path) -> str:
    """Return why a folder cannot be written to; "" if it can. A folder that does not exist yet is created when needed."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=existing) as stream:
            stream.write(b"reprise doctor")
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        return error.strerror or str(error)
    return ""
