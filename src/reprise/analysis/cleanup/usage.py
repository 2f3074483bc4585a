"""What runs, checkpoints, windows and caches take on disk."""

from dataclasses import dataclass
from pathlib import Path

from reprise.analysis.cleanup.selection import size
from reprise.project_paths import ProjectPaths
from reprise.tracking import dvc_files

CHECKPOINTS = "checkpoints"
"""Folder in the run directory of an unfinished training."""


@dataclass(frozen=True)
class Usage:
    """A part of the project, the number of its entries, its bytes, and the command that deletes from it."""

    name: str
    count: int
    bytes: int
    command: str


def usage(paths: ProjectPaths) -> list[Usage]:
    """Return what each part of the project takes. Files of the DVC cache that data/ links to count in both."""
    folder = paths.store
    checkpoints = list((folder / "runs").glob(f"*/{CHECKPOINTS}"))
    in_runs = sum(map(size, checkpoints))
    runs, windows = list((folder / "runs").glob("*/")), list((folder / "windows").glob("*/"))
    cache = paths.root / dvc_files.FOLDER / "cache"
    return [
        Usage("runs", len(runs), size(folder / "runs") - in_runs, "reprise gc runs"),
        Usage("their copies in MLflow", _count(folder / "artifacts"), size(folder / "artifacts"), "reprise gc runs"),
        Usage("checkpoints", len(checkpoints), in_runs, "reprise gc checkpoints"),
        Usage("windows", len(windows), size(folder / "windows"), "reprise gc windows"),
        Usage("DVC cache", _count(cache / "files"), size(cache), "reprise gc cache"),
        Usage("MLflow database", len(list(folder.glob("mlflow.db"))), sum(map(size, folder.glob("mlflow.db*"))), ""),
        Usage("sweeps", len(list((folder / "sweeps").glob("*/"))), size(folder / "sweeps") + size(folder / "sweeps.db"), ""),
        Usage("data", len(list((paths.root / "data").glob("*/*"))), size(paths.root / "data"), ""),
    ]


def _count(folder: Path) -> int:
    return sum(1 for file in folder.rglob("*") if file.is_file())
