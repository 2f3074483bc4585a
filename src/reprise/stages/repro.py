"""repro: repair incomplete files of a killed `dvc repro`, then run the stages that are out of date."""

import contextlib
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import NoReturn

from rich.console import Console

from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import repro_jobs
from reprise.tracking import dvc_files

ALL = "--all-pipelines"
PATIENCE = 30.0
"""Seconds to wait for DVC processes of a `reprise repro` that was killed: they are about to exit."""


def run(paths: ProjectPaths, arguments: Sequence[str], jobs: int, console: Console) -> NoReturn:
    """Repair DVC's own files, then run what is out of date, with up to `jobs` experiments at the same time. Do not return.

    With other arguments than `--all-pipelines`, DVC replaces this process: `dvc repro ARGUMENTS`.

    Raises:
        UserError: if `jobs` is more than 1 and DVC gets arguments, or another process runs whole pipelines of the project.

    """
    os.environ["SHELL"] = shutil.which("bash") or "/bin/sh"  # of DVC. Other shells may stay as a process between DVC and a stage
    if set(arguments) <= {ALL}:
        with _only_one(paths) as lock, contextlib.chdir(paths.root):  # DVC names stages relative to the working directory
            _repair(paths, console)
            sys.exit(repro_jobs.run(paths.root, jobs, ALL in arguments, lock, console))
    if jobs > 1:
        raise UserError("--jobs is for whole pipelines", f"leave out --jobs, or {' '.join(sorted({*arguments} - {ALL}))}")
    _repair(paths, console)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dvc", "repro", *arguments])  # -P: see `PluginFinder`


@contextlib.contextmanager
def _only_one(paths: ProjectPaths) -> Iterator[int]:
    """Lock a file of the project and yield its descriptor. Processes that inherit it hold the lock until they end as well."""
    paths.store.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(paths.store / "repro.lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        end = time.monotonic() + PATIENCE
        while not _locks(descriptor):
            if time.monotonic() > end:
                raise UserError("another `reprise repro` is running in this project", "wait for it, or stop it")
            time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _repair(paths: ProjectPaths, console: Console) -> None:
    for file in dvc_files.repair(paths.root):
        console.print(f"repro  {file.relative_to(paths.root)}: half written by a DVC that was killed; repaired", highlight=False)
    dvc_files.forget_ended_processes(paths.root)
