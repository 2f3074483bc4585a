"""Check whether the arrays of a data set are up to date with its sources, and remake them if not."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from reprise.config import DataConfig, choices
from reprise.config.choices import group_values
from reprise.config.sections import PublishedData
from reprise.data import store
from reprise.data.modality import arrays_of
from reprise.errors import UserError, warn
from reprise.project_paths import ProjectPaths
from reprise.stages import download, preprocess


@dataclass(frozen=True)
class Stale:
    """Why arrays are out of date."""

    why: str
    by_settings: bool
    """Whether the settings changed rather than the files."""


def arrays(data: DataConfig, paths: ProjectPaths, console: Console, remake: bool = True) -> Path:
    """Return data/processed/<data set>/. Make it if it is missing, and remake it if its sources changed.

    Command-line settings other than those the arrays were made with raise an error, since other runs of the same data.name need
    the arrays. Changes in conf/data/NAME.yaml are followed. With `remake=False`, and in a DVC stage, stale arrays raise an error.
    Linked arrays (in the working copy of a reproduction) are not compared with their sources.

    Raises:
        UserError: when the arrays are stale and not remade. It names the command that remakes them.

    """
    folder = paths.processed(data.name)
    if not folder.is_dir():
        make(data, paths, console)
        return folder
    command = remake_command(data, paths.root)
    reason = stale(data, folder, command)
    if reason:
        remake = remake and "DVC_STAGE" not in os.environ and not (reason.by_settings and not _is_from_conf(data, paths))
        if not remake:
            demand(data, paths)
        console.print(f"preprocess  {data.name}: {folder} {reason.why}: it is made again", highlight=False, soft_wrap=True)
        make(data, paths, console)
    elif isinstance(data, PublishedData):
        _warn_of_changed_files(data, paths)
    return folder


def stale(data: DataConfig, folder: Path, remake: str) -> Stale | None:
    """Return why arrays differ from the settings or pictures of a data set; None if they do not.

    Raises:
        UserError: when the arrays are damaged.

    """
    store.manifest(folder, f"run `{remake}`")
    made = store.read_json(folder / "meta.json")
    modality = arrays_of(data.kind)
    if not modality.describe(data).items() <= made.items():
        return Stale(f"was made with other settings than data={data.name} describes", True)
    if isinstance(data, PublishedData) or folder.is_symlink():
        return None
    reason = modality.sources_changed(data, folder)
    return Stale(reason, False) if reason else None


def demand(data: DataConfig, paths: ProjectPaths) -> None:
    """Check that the arrays of a data set are up to date.

    Raises:
        UserError: when they are stale. It names the command that remakes them.

    """
    command = remake_command(data, paths.root)
    if reason := stale(data, paths.processed(data.name), command):
        raise UserError(f"{paths.processed(data.name)} {reason.why}", f"use another data.name, or run `{command}`")


def remake_command(data: DataConfig, root: Path) -> str:
    """Return the command that makes the arrays of a data set. Settings that its file in conf/data/ lacks become overrides."""
    base = _base(data, root)
    written = group_values(root, "data", base)
    stated = {key: value for key, value in written.items() if value != "???"}
    defaults = type(data).model_validate(data.model_dump() | stated).model_dump()  # with defaults filled in, as `data` has them
    settings = data.model_dump(exclude={"limit"})
    overrides = [
        f"data.{key}={_value(value)}"
        for key, value in settings.items()
        if key in written and (key not in stated or defaults[key] != value)
    ]
    return shlex.join(["reprise", "preprocess", f"data={base}", *overrides])


def make(data: DataConfig, paths: ProjectPaths, console: Console) -> None:
    """Make the arrays of a data set outside of DVC. Fetch published files first that are missing or not as described."""
    if isinstance(data, PublishedData):
        download.run(data, paths, console)
    preprocess.run(data, paths, console)


def _base(data: DataConfig, root: Path) -> str:
    """Return the file in conf/data/ that describes a data set: its own, or the one to which `data.path` is added."""
    named = choices(root, "data")
    if data.name in named or isinstance(data, PublishedData):
        return data.name
    reader = data.model_dump()["reader"]
    files = {name: group_values(root, "data", name) for name in named}
    return next((name for name, keys in files.items() if (keys.get("reader"), keys.get("path")) == (reader, "???")), str(reader))


def _is_from_conf(data: DataConfig, paths: ProjectPaths) -> bool:
    """Return whether a data set is configured by its file in conf/data/ alone, without command-line overrides."""
    return " data." not in remake_command(data, paths.root) and data.name in choices(paths.root, "data")


def _value(value: Any) -> str:
    """Return a value in override syntax: strings as they are, everything else in YAML flow style on one line."""
    if isinstance(value, str):
        return value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")


def _warn_of_changed_files(data: PublishedData, paths: ProjectPaths) -> None:
    """Warn of raw files, here or in a local source, that changed since and differ from their sha256 in conf/data/."""
    made = store.published_at(paths.processed(data.name))
    folders = [paths.raw(data.name), *(Path(one).expanduser() for one in data.sources if ":" not in one)]
    for file in data.files:
        for path in (folder / name for folder in folders for name in {file.name, file.fetch}):
            if not path.is_file() or path.suffix == ".gz" or path.stat().st_mtime <= made:
                continue
            if (sha256 := store.sha256(path)) != file.sha256:
                warn(
                    f"{path} has changed and is not used: conf/data/{data.name}.yaml has the old sha256. "
                    f"To read it as it is now, set its sha256 there to {sha256}; the next training makes the arrays again"
                )
