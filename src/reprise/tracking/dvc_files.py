"""Adapter of DVC's own files: the only module that knows dvc.lock, the folder .dvc/ and DVC's schemas.

DVC has no public function that returns the hashes in dvc.lock, and its command line takes a second to start. It writes dvc.lock,
its list of processes and its run cache in place, so a kill can leave incomplete files. tests/tracking/test_dvc_files.py fails if
a new version changes these files.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from reprise.errors import UserError
from reprise.tracking.repository import GitMissingError, git

FOLDER = ".dvc"
"""DVC's folder in a project, with its config, cache and temporary files."""
SCHEMA = "2.0"
"""The version of dvc.lock that this module reads."""
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's loader in C if available: the one in Python takes a second for a dvc.lock of a thousand lines."""


@dataclass(frozen=True)
class LockedStage:
    """A stage as DVC ran it last."""

    command: str
    dependencies: Mapping[str, str]
    """The md5 of every dependency, by path. The md5 of a folder ends with `.dir`."""
    outputs: Mapping[str, str]
    """The md5 of every output, by path."""


def output_hashes(root: Path) -> dict[str, str]:
    """Return the md5 of every output of the pipelines, by path. Valid within a DVC stage, as DVC has just checked them."""
    return {path: md5 for stage in _locked_stages(root).values() for path, md5 in stage.outputs.items()}


def dependency_hashes(root: Path, stage: str) -> Mapping[str, str]:
    """Return the md5 of every dependency at the last run of a stage, by path; empty if it never ran."""
    stages = _locked_stages(root)
    return stages[stage].dependencies if stage in stages else {}


def locked_stage(root: Path, address: str) -> LockedStage:
    """Return a stage at its last run. `address` is its name in DVC, `train@digits_cnn` or `long/dvc.yaml:train@mnist_best`.

    Raises:
        UserError: if it never ran.

    """
    file, _, name = address.rpartition(":")
    stages = _read_lock((root / (file or "dvc.yaml")).with_name("dvc.lock"))
    if name not in stages:
        raise UserError(f"{address}: not in dvc.lock", f"run it first: `dvc repro {address}`")
    return stages[name]


def _locked_stages(root: Path) -> dict[str, LockedStage]:
    """Return the stages of both pipelines."""
    with _no_writer(root):
        return _read_lock(root / "dvc.lock") | _read_lock(root / "long" / "dvc.lock")


@contextmanager
def _no_writer(root: Path) -> Iterator[None]:
    """Within a DVC stage, hold DVC's lock on the project: another DVC process may be writing dvc.lock, which it does in place."""
    if "DVC_STAGE" not in os.environ:
        yield
        return
    from dvc.lock import make_lock

    folder = root / FOLDER / "tmp"
    with make_lock(str(folder / "lock"), tmp_dir=str(folder), friendly=True, wait=True):
        yield


def _read_lock(file: Path) -> dict[str, LockedStage]:
    """Return the stages of a lock file by name; none if there is no file.

    Raises:
        UserError: if the file has another schema.

    """
    if not file.is_file():
        return {}
    lock = _load_yaml(file.read_text("utf-8"))
    schema = lock.get("schema") if isinstance(lock, dict) else None
    if schema != SCHEMA:
        raise UserError(f"{file}: schema {schema}, where {SCHEMA} is expected", "run `reprise repro`, or install the pinned DVC")
    return {
        name: LockedStage(stage["cmd"], _hashes(stage.get("deps", [])), _hashes(stage.get("outs", [])))
        for name, stage in lock.get("stages", {}).items()
    }


def _hashes(entries: list[dict[str, Any]]) -> dict[str, str]:
    return {entry["path"]: entry["md5"] for entry in entries}


def repair(root: Path) -> list[Path]:
    """Restore or delete DVC's own files that a kill left incomplete, and return them.

    An invalid dvc.lock is restored from git. The outputs of stages missing in it come from DVC's run cache, so nothing is
    recomputed. An invalid .dvc/tmp/rwlock is deleted: its entries matter only to the process that wrote them. Temporary files and
    empty folders in the run cache are deleted, since every later DVC command would fail on them.
    """
    locks, invalid = incomplete_locks(root, trust_committed=True)
    for file in locks:
        file.unlink()
        with suppress(GitMissingError):
            git(root, "checkout", "--quiet", "--", str(file))  # fails if it was never committed
    run_cache = root / FOLDER / "cache" / "runs"
    drafts = list(run_cache.glob("*/*/.*.tmp"))
    for file in (*invalid, *drafts):
        file.unlink()
    empty = [folder for folder in run_cache.glob("*/*") if not any(folder.iterdir())]
    for folder in empty:
        folder.rmdir()
    return [*locks, *invalid, *drafts, *empty]


def forget_ended_processes(root: Path) -> None:
    """Remove processes that have ended from .dvc/tmp/rwlock.

    DVC does that as well, but takes a zombie (a process that has ended, and whose parent has not asked for its exit code) for a
    running one, and then refuses to run a stage.
    """
    from dvc.lock import make_lock  # late: DVC takes a second to import

    folder = root / FOLDER / "tmp"
    file = folder / "rwlock"
    if not file.is_file():
        return
    with make_lock(str(folder / "rwlock.lock"), tmp_dir=str(folder), wait=True):
        users = json.loads(file.read_text("utf-8"))
        writers, readers = users.get("write", {}), users.get("read", {})
        running = {path: [one for one in several if _is_running(one["pid"])] for path, several in readers.items()}
        left = {
            "write": {path: one for path, one in writers.items() if _is_running(one["pid"])},
            "read": {path: several for path, several in running.items() if several},
        }
        if left != {"write": writers, "read": readers}:
            file.write_text(json.dumps(left), "utf-8")


def _is_running(process: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(process).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def incomplete_locks(root: Path, trust_committed: bool = False) -> tuple[list[Path], list[Path]]:
    """Return the invalid dvc.lock files, and .dvc/tmp/rwlock if it is invalid.

    With `trust_committed`, dvc.lock files that are all as in the last commit are not parsed: that takes a fifth of a second each.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA  # late: DVC takes a second to import

    locks = [root / "dvc.lock", *root.glob("*/dvc.lock")]
    if trust_committed and _are_as_committed(root, locks):
        locks = []
    locks = [file for file in locks if not _is_complete(file, _load_yaml, COMPILED_LOCKFILE_SCHEMA)]
    process_list = root / FOLDER / "tmp" / "rwlock"
    return locks, [] if _is_complete(process_list, json.loads, dict) else [process_list]


def _are_as_committed(root: Path, files: Sequence[Path]) -> bool:
    try:
        status = git(root, "status", "--porcelain", "--ignored", "--untracked-files=all", "--", *map(str, files))
    except GitMissingError:
        return False
    return not status.returncode and not status.stdout


def _load_yaml(text: str) -> Any:
    return yaml.load(text, SAFE_LOADER)  # noqa: S506 -- both are safe loaders


def _is_complete(file: Path, parse: Callable[[str], Any], check: Callable[[Any], Any]) -> bool:
    """Return whether a file can be parsed and passes `check`. A missing file is valid."""
    from voluptuous import Invalid  # late: only used to check dvc.lock

    with suppress(FileNotFoundError):
        try:
            text = file.read_text("utf-8")
            # dvc.lock ends with a line break, rwlock with "}". A file cut within a value may still be valid YAML.
            if not text.endswith(("\n", "}")):
                return False
            check(parse(text))
        except (ValueError, TypeError, yaml.YAMLError, Invalid):
            return False
    return True
