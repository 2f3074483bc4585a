"""Checks of the project: config, data, code and DVC."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise import config as config_module
from reprise.analysis.doctor.findings import Check
from reprise.config import Config, compose_dataset
from reprise.config.sections import PublishedData
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.tracking import dvc_files, repository
from reprise.tracking.repository import NoRepository

MAX_HASHED = 1 << 30
"""Bytes of data to hash, smallest folders first: about two seconds."""
LOCK_AGE = 60.0
"""Seconds after which git's index.lock counts as left behind."""


def config(check: Check, paths: ProjectPaths, overrides: Sequence[str], composed: list[Config]) -> None:
    """Compose the experiment of the overrides, or those of `dvc repro`, and add them to `composed`."""
    try:
        requested = [list(overrides)] if overrides else _of_pipeline(paths)
    except UserError as error:
        check.refusal("config-invalid", error, "correct conf/pipeline.yaml")
        return
    for words in requested:
        try:
            composed.append(config_module.compose(paths.root, words))
        except UserError as error:
            check.refusal("config-invalid", error, "correct conf/")
    check.facts.append(", ".join(one.name for one in composed) or "no experiment")
    for one in composed:
        path = getattr(one.data, "path", None)
        if path and not (paths.root / Path(path).expanduser()).exists():
            check.error("data-missing", f"{one.name}: data.path={path}: no such file or folder", "set data.path")


def _of_pipeline(paths: ProjectPaths) -> list[list[str]]:
    pipeline = config_module.pipeline(paths.root)
    return [[f"experiment={name}", *pipeline.overrides] for name in pipeline.experiments]


def data(check: Check, paths: ProjectPaths, configs: Sequence[Config]) -> None:
    """Hash raw files, arrays, windows and weights that exist, and compare them with what was published or written."""
    datasets = list(dict.fromkeys(config.data.name for config in configs))
    folders = [_Folder(paths.processed(name), "arrays-damaged", f"reprise preprocess data={name}") for name in datasets]
    for name in (config.name for config in configs):
        folders.append(_Folder(paths.windows(name), "windows-damaged", f"dvc repro window@{name}"))
        folders.append(_Folder(paths.models(name), "weights-damaged", f"dvc repro train@{name}"))
    for name in datasets:
        _check_raw(check, paths, name)
    hashed, left_out = 0, []
    for size, folder in sorted(((_size(one.path), one) for one in folders if one.path.is_dir()), key=lambda pair: pair[0]):
        if hashed + size > MAX_HASHED:
            left_out.append(str(folder.path.relative_to(paths.root)))
            continue
        hashed += size
        try:
            store.verify(folder.path, f"run `{folder.command}`")
        except UserError as error:
            check.refusal(folder.code, error)
    check.facts.append(f"{hashed / 1e6:,.0f} MB of arrays, windows and weights hashed")
    if left_out:
        check.facts.append(f"too large to hash here: {', '.join(left_out)}")


@dataclass(frozen=True)
class _Folder:
    """A published folder, the code of the finding if it is damaged, and the command that makes it again."""

    path: Path
    code: str
    command: str


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _check_raw(check: Check, paths: ProjectPaths, name: str) -> None:
    """Compare raw files with their published sha256. Files that are not downloaded yet are no fault."""
    folder = paths.raw(name)
    try:
        published = compose_dataset(paths.root, name)
    except UserError:  # no file of its own in conf/data/
        return
    if not isinstance(published, PublishedData) or not folder.is_dir() or _size(folder) > MAX_HASHED:
        return
    for file in published.files:
        if not (folder / file.name).is_file():
            check.error("raw-damaged", f"{folder / file.name} is missing", f"reprise download data={name}")
        elif store.sha256(folder / file.name) != file.sha256:
            check.error("raw-damaged", f"{folder / file.name} is not as published", f"reprise download data={name}")


def code(check: Check, paths: ProjectPaths) -> None:
    """Check that the commit of the project can be recorded, and that git is not locked."""
    found = repository.find(paths.root)
    if isinstance(found, NoRepository):
        what = f"the code of runs is not recorded, so `reprise reproduce` cannot run them again: {found.reason}"
        check.warning("code-unrecorded", what, found.hint)
        return
    check.facts.append(f"commit {found.commit[:12]}")
    lock = repository.git_file(paths.root, "index.lock")
    if lock.is_file() and time.time() - lock.stat().st_mtime > LOCK_AGE:
        what = f"{lock} is older than a minute: a git that was killed left it, and git refuses to work"
        check.error("git-locked", what, f"if no git is running: rm {lock}")


def dvc(check: Check, paths: ProjectPaths) -> None:
    """Check DVC's own files."""
    if not (paths.root / "dvc.yaml").is_file():
        return
    if not (paths.root / dvc_files.FOLDER).is_dir():
        check.warning("dvc-missing", f"{paths.root} has no {dvc_files.FOLDER}, which `reprise repro` needs", "dvc init")
    for file in _incomplete(paths.root):
        what = f"{file} is incomplete or has conflict markers, and DVC refuses to work"
        check.error("dvc-lock-damaged", what, "`reprise repro` repairs it")
    check.facts.append("complete")


def _incomplete(root: Path) -> Iterator[Path]:
    for files in dvc_files.incomplete_locks(root):
        yield from files
