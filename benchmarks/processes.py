"""Time whole commands in a temporary project: wall clock and CPU seconds. Used by `start.py` and `side_by_side.py`."""

import contextlib
import importlib.metadata
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch

from reprise import cpus
from reprise.tracking import lineage

REPRISE = (sys.executable, "-P", "-m", "reprise")
PACKAGES = ("torch", "pytorch-lightning", "mlflow", "dvc")


@contextlib.contextmanager
def project() -> Iterator[Path]:
    """Yield the folder of a new project, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="reprise-benchmark-") as scratch:
        folder = Path(scratch) / "project"
        run([[*REPRISE, "init", str(folder)]], Path(scratch))
        yield folder


def run(commands: Sequence[Sequence[str]], folder: Path, environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Run commands at the same time. Return the seconds until the last one ended, and the CPU seconds of all of them.

    Raises:
        RuntimeError: with the output of a command that failed.

    """
    before, started = os.times(), time.perf_counter()
    with contextlib.ExitStack() as stack:
        outputs = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in commands]
        running = [
            subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
            for command, output in zip(commands, outputs, strict=True)
        ]
        codes = [process.wait() for process in running]
        seconds, after = time.perf_counter() - started, os.times()
        for command, code, output in zip(commands, codes, outputs, strict=True):
            if code:
                output.seek(0)
                raise RuntimeError(f"{command} exits with {code}:\n{output.read()}")
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum, rounded to three digits."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def machine() -> dict[str, object]:
    """Return the processor, the CPUs that may be used, the load before the measurement, and versions."""
    return {
        "processor": lineage.processor(),
        "cpus": cpus.available(),
        "load": round(os.getloadavg()[0], 2),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }
