"""repro: `dvc repro`, once what a killed one has left half written is out of its way."""

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

from reprise.stages.project_paths import ProjectPaths
from reprise.tracking.repository import GitMissingError, git


def run(paths: ProjectPaths, arguments: Sequence[str], console: Console) -> NoReturn:
    """Mend DVC's own files, then become `dvc repro ARGUMENTS`."""
    for file in hint(paths.root):
        console.print(f"repro  {file.relative_to(paths.root)}: half written by a DVC that was killed; mended", highlight=False)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "dvc", "repro", *arguments])


def hint(root: Path) -> list[Path]:
    """Put right what a kill left half written of DVC's own files; it is returned.

    A dvc.lock goes back to what is committed of it: the outputs of stages that are missing in it then come from DVC's cache of
    runs, so nothing is computed again. The list of who uses which path holds nothing that outlives the process that wrote it.
    A run that was about to enter the cache leaves a draft, or an empty folder, over which every later DVC would stumble.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # late: DVC takes a second to import

    runs = root / ".dvc" / "cache" / "runs"
    locks = [
        file
        for file in (root / "dvc.lock", *root.glob("*/dvc.lock"))
        if not _sound(file, yaml.safe_load, COMPILED_LOCKFILE_SCHEMA)
    ]
    for file in locks:
        file.unlink()
        with suppress(GitMissingError):
            git(root, "checkout", "--quiet", "--", str(file))  # fails if it was never committed
    users = root / ".dvc" / "tmp" / "rwlock"
    lists = [] if _sound(users, json.loads, dict) else [users]
    drafts = list(runs.glob("*/*/.*.tmp"))
    for file in (*lists, *drafts):
        file.unlink()
    empty = [folder for folder in runs.glob("*/*") if not any(folder.iterdir())]
    for folder in empty:
        folder.rmdir()
    return [*locks, *lists, *drafts, *empty]


def _sound(file: Path, parse: Callable[[str], Any], check: Callable[[Any], Any]) -> bool:
    """Whether a file, if there is one, holds what it should."""
    with suppress(FileNotFoundError):
        try:
            text = file.read_text("utf-8")
            if not text.endswith(("\n", "}")):  # both kinds of files end so; a cut within a value may leave valid YAML
                return False
            check(parse(text))
        except (ValueError, TypeError, yaml.YAMLError, Invalid):
            return False
    return True
