"""repro: repair incomplete files of a killed `dvc repro`, then run `dvc repro`."""

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import yaml
from rich.console import Console
from voluptuous import Invalid

from reprise.project_paths import ProjectPaths
from reprise.tracking.repository import GitMissingError, git


def run(paths: ProjectPaths, arguments: Sequence[str], console: Console) -> NoReturn:
    """Repair DVC's own files, then replace this process by `dvc repro ARGUMENTS`."""
    for file in repair(paths.root):
        console.print(f"repro  {file.relative_to(paths.root)}: half written by a DVC that was killed; repaired", highlight=False)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", *arguments])


def repair(root: Path) -> list[Path]:
    """Restore or delete DVC's own files that a kill left incomplete, and return them.

    An invalid dvc.lock is restored from git. The outputs of stages missing in it come from DVC's run cache, so nothing is
    recomputed. An invalid .dvc/tmp/rwlock is deleted: its entries matter only to the process that wrote them. Temporary files and
    empty folders in the run cache are deleted, since every later DVC command would fail on them.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # late: DVC takes a second to import

    runs = root / ".dvc" / "cache" / "runs"
    locks = [
        file
        for file in (root / "dvc.lock", *root.glob("*/dvc.lock"))
        if not _is_valid(file, yaml.safe_load, COMPILED_LOCKFILE_SCHEMA)
    ]
    for file in locks:
        file.unlink()
        with suppress(GitMissingError):
            git(root, "checkout", "--quiet", "--", str(file))  # fails if it was never committed
    rwlock = root / ".dvc" / "tmp" / "rwlock"
    rwlocks = [] if _is_valid(rwlock, json.loads, dict) else [rwlock]
    drafts = list(runs.glob("*/*/.*.tmp"))
    for file in (*rwlocks, *drafts):
        file.unlink()
    empty = [folder for folder in runs.glob("*/*") if not any(folder.iterdir())]
    for folder in empty:
        folder.rmdir()
    return [*locks, *rwlocks, *drafts, *empty]


def _is_valid(file: Path, parse: Callable[[str], Any], check: Callable[[Any], Any]) -> bool:
    """Return whether a file can be parsed and passes `check`. A missing file is valid."""
    with suppress(FileNotFoundError):
        try:
            text = file.read_text("utf-8")
            if not text.endswith(("\n", "}")):  # both kinds of files end so; a cut within a value may leave valid YAML
                return False
            check(parse(text))
        except (ValueError, TypeError, yaml.YAMLError, Invalid):
            return False
    return True
