"""download: the files of a data set, as published, sha256 checked."""

import os
from pathlib import Path

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

from reprise.config import DataConfig
from reprise.data import store
from reprise.data.sources import Fetcher
from reprise.stages.places import Places


def run(data: DataConfig, places: Places, console: Console) -> Path:
    """Bring data/raw/<data set>/ up to date; files that are there and right are left alone.

    Raises:
        UserError: when no source has a file; nothing is left under a final name.

    """
    folder = places.raw(data.name)
    fetcher = Fetcher([*_mirror(data), *data.sources])
    with _bar(console) as bar:
        for file in data.files:
            target = folder / file.name
            if target.is_file() and store.sha256(target) == file.sha256:
                continue
            source = fetcher.fetch(file.fetch, file.sha256, target, _reporter(bar, file.name))
            console.print(f"download  {data.name}/{file.name}  [dim]from {source}[/]", highlight=False, soft_wrap=True)
    return folder


def _mirror(data: DataConfig) -> list[str]:
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


class _reporter:  # noqa: N801 -- used as a function
    """Shows one download as a row of the bar, from its first bytes on."""

    def __init__(self, bar: Progress, name: str) -> None:
        self.bar, self.name, self.row = bar, name, TaskID(-1)

    def __call__(self, done: int, total: int | None) -> None:
        if self.row < 0:
            self.row = self.bar.add_task(self.name, total=total)
        self.bar.update(self.row, completed=done, total=total)
