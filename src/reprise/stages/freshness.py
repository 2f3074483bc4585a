"""Whether the arrays of a data set are still those of its sources, and making them again where they are not."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from reprise.config import DataConfig, FolderData, choices
from reprise.config.choices import group_values
from reprise.config.schema import PublishedData
from reprise.data import picture_files, store
from reprise.errors import UserError, warn
from reprise.stages import download, preprocess
from reprise.stages.project_paths import ProjectPaths


@dataclass(frozen=True)
class Stale:
    """Why arrays are not those that a data set describes."""

    why: str
    by_settings: bool
    """Whether the settings differ, rather than the files."""


def arrays(data: DataConfig, paths: ProjectPaths, console: Console, remake: bool = True) -> Path:
    """Return data/processed/<data set>/ as it should be: made if it is not there, made again if its sources have changed.

    Settings of the command line that differ from those that the arrays were made with are refused, since other runs of the same
    data.name need the arrays; what conf/data/NAME.yaml says itself is followed. With `remake=False`, and in a stage of DVC,
    nothing is made again. Arrays that are a link (lent to the working copy of a reproduction) are not compared with their
    sources.

    Raises:
        UserError: naming the command that makes them again.

    """
    folder = paths.processed(data.name)
    if not folder.is_dir():
        make(data, paths, console)
        return folder
    command = remake_command(data, paths.root)
    found = stale(data, folder, command)
    if found:
        remake = remake and "DVC_STAGE" not in os.environ and not (found.by_settings and not _is_of_conf(data, paths))
        if not remake:
            demand(data, paths)
        console.print(f"preprocess  {data.name}: {folder} {found.why}: it is made again", highlight=False, soft_wrap=True)
        make(data, paths, console)
    elif isinstance(data, PublishedData):
        _warn_of_changed_files(data, paths)
    return folder


def stale(data: DataConfig, folder: Path, remake: str) -> Stale | None:
    """Return why arrays differ from what a data set describes, or from its pictures; None: they do not.

    Raises:
        UserError: when the arrays are damaged.

    """
    store.manifest(folder, f"run `{remake}`")
    made = store.read_json(folder / "meta.json")
    if not preprocess.meta(data).items() <= made.items():
        return Stale(f"holds other data than data={data.name} describes", True)
    if isinstance(data, FolderData) and Path(data.path).exists() and not folder.is_symlink():
        listed = picture_files.listing(Path(data.path)).pictures
        if picture_files.digest(listed) != made["listing"] or _edited(listed, folder):
            return Stale(f"holds other pictures than {data.path} does now", False)
    return None


def demand(data: DataConfig, paths: ProjectPaths) -> None:
    """Refuse arrays that are not, or no longer, those of a data set, naming the command that makes them again."""
    command = remake_command(data, paths.root)
    if found := stale(data, paths.processed(data.name), command):
        raise UserError(f"{paths.processed(data.name)} {found.why}", f"take another data.name, or run `{command}`")


def remake_command(data: DataConfig, root: Path) -> str:
    """Return the command that makes the arrays of a data set: what its file in conf/data/ does not say is set by overrides."""
    base = _base(data, root)
    written = group_values(root / "conf" / "data", base)
    stated = {key: value for key, value in written.items() if value != "???"}
    usual = type(data).model_validate(data.model_dump() | stated).model_dump()  # with defaults filled in, as `data` has them
    own = data.model_dump(exclude={"limit"})
    words = [
        f"data.{key}={_value(value)}"
        for key, value in own.items()
        if key in written and (key not in stated or usual[key] != value)
    ]
    return shlex.join(["reprise", "preprocess", f"data={base}", *words])


def make(data: DataConfig, paths: ProjectPaths, console: Console) -> None:
    """Make the arrays of a data set by hand: published files that are not there, or not as described, are fetched first."""
    if isinstance(data, PublishedData):
        download.run(data, paths, console)
    preprocess.run(data, paths, console)


def _base(data: DataConfig, root: Path) -> str:
    return data.name if data.name in choices(root, "data") or not isinstance(data, FolderData) else "image_folder"


def _is_of_conf(data: DataConfig, paths: ProjectPaths) -> bool:
    """Whether a data set is as its file in conf/data/ says, without overrides of the command line."""
    return " data." not in remake_command(data, paths.root) and data.name in choices(paths.root, "data")


def _value(value: Any) -> str:
    """Return a value as an override has it: a text as it is, all else in YAML's flow style on one line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def _edited(listed: list[picture_files.Listed], folder: Path) -> bool:
    """Whether a file was written to since the arrays were made, and now has other bytes: its size may be the same."""
    made, hashes = _made(folder), store.read_json(folder / "files.json")
    known = {(part, name): sha256 for part, files in hashes.items() for name, sha256 in files.items()}
    newer = [one for one in listed if one.file.is_file() and one.file.stat().st_mtime > made]
    return any(known.get((one.part, one.name), store.sha256(one.file)) != store.sha256(one.file) for one in newer)


def _warn_of_changed_files(data: PublishedData, paths: ProjectPaths) -> None:
    """Say which raw files, here or in a source on this machine, were written to since and are not what conf/data/ describes."""
    made = _made(paths.processed(data.name))
    folders = [paths.raw(data.name), *(Path(one).expanduser() for one in data.sources if ":" not in one)]
    for file in data.files:
        for path in (folder / name for folder in folders for name in {file.name, file.fetch}):
            if not path.is_file() or path.suffix == ".gz" or path.stat().st_mtime <= made:
                continue
            if (sha256 := store.sha256(path)) != file.sha256:
                warn(
                    f"{path} has changed and is not used: conf/data/{data.name}.yaml names the bytes of before. "
                    f"To read it as it is now, set its sha256 there to {sha256}; the next training makes the arrays again"
                )


def _made(folder: Path) -> float:
    """Return when arrays were made."""
    return (folder / store.MANIFEST).stat().st_mtime
