"""download: the files of a data set, as published, sha256 checked."""

import os
from concurrent.futures import ThreadPoolExecutor
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

from reprise.config import DataConfig, FolderData
from reprise.config.schema import PublishedData, RawFile
from reprise.data import picture_files, store
from reprise.data.sources import Fetcher
from reprise.errors import UserError
from reprise.stages.project_paths import ProjectPaths


def run(data: DataConfig, paths: ProjectPaths, console: Console) -> Path:
    """Bring data/raw/<data set>/ up to date; files that are there and right are left alone.

    Of an image folder, which `preprocess` reads where it is, data/raw/<data set>/listing.json gets the sha256 of every picture:
    by it, DVC notices pictures that came, went or changed, wherever they are.

    Raises:
        UserError: when no source has a file; nothing is left under a final name.

    """
    folder = paths.raw(data.name)
    if isinstance(data, FolderData):
        return _list_pictures(data, folder, console)
    if _lacking(data, folder):
        with _alone(folder), _bar(console) as bar:
            fetcher = Fetcher([*_mirror(data), *data.sources])
            for file in _lacking(data, folder):  # looked at again: another process may have brought them meanwhile
                source = fetcher.fetch(file.fetch, file.sha256, folder / file.name, _Reporter(bar, file.name))
                line = Text.assemble(f"download  {data.name}/{file.name}  ", (f"from {source}", "dim"))
                console.print(line, highlight=False, soft_wrap=True)
    return folder


def _list_pictures(data: FolderData, folder: Path, console: Console) -> Path:
    listed = picture_files.listing(Path(data.path)).pictures
    with ThreadPoolExecutor(thread_name_prefix="hashes") as pool:
        hashes = pool.map(lambda one: _hash_if_readable(one.file), listed)
        entries = [
            {"part": one.part, "label": one.label, "name": one.name, "sha256": sha256}
            for one, sha256 in zip(listed, hashes, strict=True)
        ]
    with store.publish(folder) as draft:
        store.write_json(draft / "listing.json", entries)
    console.print(f"download  {data.name}: {len(listed):,} pictures listed", highlight=False, soft_wrap=True)
    return folder


def _hash_if_readable(file: Path) -> str | None:
    """The sha256; none for a file that `preprocess` will name as broken."""
    try:
        return store.sha256(file)
    except OSError:
        return None


def _lacking(data: PublishedData, folder: Path) -> list[RawFile]:
    """The files that are not there, or not as published."""
    return [file for file in data.files if not _is_right(folder / file.name, file.sha256)]


def _is_right(file: Path, sha256: str) -> bool:
    return file.is_file() and store.sha256(file) == sha256


def _alone(folder: Path) -> AbstractContextManager[Any]:
    """Holds off other processes that would download into the folder. The lock lies beside it: the folder itself is DVC's."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(folder.with_name(f".{folder.name}.lock")).acquire()
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None


def _mirror(data: PublishedData) -> list[str]:
    mirror = os.environ.get("REPRISE_MIRROR")
    return [f"{mirror.rstrip('/')}/{data.mirror}/"] if mirror else []


def _bar(console: Console) -> Progress:
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    ]
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


class _Reporter:
    """Shows one download as a row of the bar, from its first bytes on."""

    def __init__(self, bar: Progress, name: str) -> None:
        self.bar, self.name, self.row = bar, name, TaskID(-1)

    def __call__(self, done: int, total: int | None) -> None:
        if self.row < 0:
            self.row = self.bar.add_task(self.name, total=total)
        self.bar.update(self.row, completed=done, total=total)
