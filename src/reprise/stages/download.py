"""download: fetch the files of a data set as published, and check their sha256."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from reprise.config import DataConfig
from reprise.config.sections import PublishedData, RawFile
from reprise.data import store
from reprise.data.modality import arrays_of
from reprise.data.sources import Fetcher
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths


def run(data: DataConfig, paths: ProjectPaths, console: Console) -> Path:
    """Bring data/raw/<data set>/ up to date and return it. Files that are present and correct are kept.

    Own files are not copied: `preprocess` reads them in place. data/raw/<data set>/listing.json lists the sha256 of each, so that
    DVC notices added, removed and changed files.

    Raises:
        UserError: when no source has a file. No incomplete file is left under its final name.

    """
    folder = paths.raw(data.name)
    if not isinstance(data, PublishedData):
        return _list_sources(data, folder, console)
    if _missing(data, folder):
        with _lock(folder), _progress(console) as progress:
            fetcher = Fetcher([*_mirror(data), *data.sources])
            for file in _missing(data, folder):  # checked again: another process may have fetched them meanwhile
                source = fetcher.fetch(file.fetch, file.sha256, folder / file.name, _ProgressRow(progress, file.name))
                line = Text.assemble(f"download  {data.name}/{file.name}  ", (f"from {source}", "dim"))
                console.print(line, highlight=False, soft_wrap=True)
    return folder


def _list_sources(data: DataConfig, folder: Path, console: Console) -> Path:
    entries = arrays_of(data.kind).list_sources(data)
    with store.publish(folder) as draft:
        store.write_json(draft / "listing.json", entries)
    console.print(f"download  {data.name}: {len(entries):,} files listed", highlight=False, soft_wrap=True)
    return folder


def _missing(data: PublishedData, folder: Path) -> list[RawFile]:
    """Return the files that are missing or not as published."""
    return [file for file in data.files if not _is_right(folder / file.name, file.sha256)]


def _is_right(file: Path, sha256: str) -> bool:
    return file.is_file() and store.sha256(file) == sha256


def _lock(folder: Path) -> AbstractContextManager[Any]:
    """Keep other processes from downloading into the folder. The lock file is beside the folder, which DVC tracks."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(folder.with_name(f".{folder.name}.lock")).acquire()
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None


def _mirror(data: PublishedData) -> list[str]:
    mirror = os.environ.get("REPRISE_MIRROR")
    return [f"{mirror.rstrip('/')}/{data.mirror}/"] if mirror else []


def _progress(console: Console) -> Progress:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _ProgressRow:
    """A row of the progress display for one download. It appears with the first bytes."""

    def __init__(self, progress: Progress, name: str) -> None:
        self.progress, self.name, self.row = progress, name, TaskID(-1)

    def __call__(self, done: int, total: int | None) -> None:
        if self.row < 0:
            self.row = self.progress.add_task(self.name, total=total)
        self.progress.update(self.row, completed=done, total=total)
