"""repro: repair incomplete files of a killed `dvc repro`, then run the stages that are out of date."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import repro_jobs
from reprise.tracking import dvc_files

ALL = "--all-pipelines"


def run(paths: ProjectPaths, arguments: Sequence[str], jobs: int, console: Console) -> NoReturn:
    """Repair DVC's own files, then run what is out of date, with up to `jobs` experiments at the same time. Do not return.

    With other arguments than `--all-pipelines`, DVC replaces this process: `dvc repro ARGUMENTS`.

    Raises:
        UserError: if `jobs` is more than 1 and DVC gets arguments.

    """
    for file in dvc_files.repair(paths.root):
        console.print(f"repro  {file.relative_to(paths.root)}: half written by a DVC that was killed; repaired", highlight=False)
    if set(arguments) <= {ALL}:
        sys.exit(repro_jobs.run(paths.root, jobs, ALL in arguments, console))
    if jobs > 1:
        raise UserError("--jobs is for whole pipelines", f"leave out --jobs, or {' '.join(arguments)}")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dvc", "repro", *arguments])  # -P: see `PluginFinder`
