"""Time whole commands in a temporary project: wall clock and CPU seconds. Used by `start.py` and `side_by_side.py`."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPRISE = (sys.executable, "-P", "-m", "reprise")


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
