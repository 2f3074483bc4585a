"""repro: repair incomplete files of a killed `dvc repro`, then run `dvc repro`."""

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from rich.console import Console

from reprise.project_paths import ProjectPaths
from reprise.tracking import dvc_files


def run(paths: ProjectPaths, arguments: Sequence[str], console: Console) -> NoReturn:
    """Repair DVC's own files, then replace this process by `dvc repro ARGUMENTS`."""
    for file in dvc_files.repair(paths.root):
        console.print(f"repro  {file.relative_to(paths.root)}: half written by a DVC that was killed; repaired", highlight=False)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "dvc", "repro", *arguments])  # -P: see `PluginFinder`
