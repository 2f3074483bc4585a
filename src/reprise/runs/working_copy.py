"""A run's surroundings as they were: its code in a clean working copy, its packages, its data."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from reprise.data import store
from reprise.errors import UserError
from reprise.stages.places import Places
from reprise.tracking.record import Record


@contextlib.contextmanager
def working_copy(root: Path, old: Record, copy: Path) -> Iterator[Path]:
    """The project as it was: a git worktree at the run's commit, its patch applied; gone after the block."""
    commit = old.tag("git.commit")
    if commit == "none":
        raise UserError(f"run {old.name} was made outside of git", "its code is not known, so it cannot be run again")
    if _git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"commit {commit[:12]} of run {old.name} is not in this repository", "fetch it: git fetch --all")
    added = _git(root, "worktree", "add", "--detach", "--force", str(copy), commit)
    if added.returncode:
        raise UserError(f"no working copy of {commit[:12]}: {last_words(added.stderr)}")
    try:
        if old.patch and (applied := _git(copy, "apply", "--whitespace=nowarn", "-", given=old.patch)).returncode:
            raise UserError(f"the uncommitted patch of run {old.name} does not apply: {last_words(applied.stderr)}")
        yield copy
    finally:
        _git(root, "worktree", "remove", "--force", str(copy))
        _git(root, "worktree", "prune")


def _git(folder: Path, *arguments: str, given: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", folder, *arguments], input=given, capture_output=True)


def last_words(stderr: bytes) -> str:
    """Why a command failed: the last line it said."""
    return (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def make_environment(old: Record, copy: Path, console: Console) -> str:
    """The Python of a virtual environment with the packages of the run, and the run's reprise, made under the working copy.

    A local version (2.13.0+cpu) is known to some indexes only. Where it is not, the build that is there takes its place, with
    what that build needs.
    """
    folder = copy / ".venv"
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    packages = [f"{name}=={version}" for name, version in old.packages.items() if name != "reprise"]
    local = [package for package in packages if "+" in package]
    (copy / "packages.txt").write_text("\n".join(package for package in packages if package not in local))
    _must([sys.executable, "-m", "venv", str(folder)])
    _must([*install, "--no-deps", "-r", str(copy / "packages.txt")])
    for package in local:
        if subprocess.run([*install, "--no-deps", package], capture_output=True).returncode:
            public = package.partition("+")[0]
            console.print(f"reproduce  pip finds no {package}: {public} takes its place", highlight=False, soft_wrap=True)
            _must([*install, public])
    _must([*install, "--no-deps", "-e", str(copy)])
    return python


def _must(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True)
    if done.returncode:
        raise UserError(f"no environment: {last_words(done.stderr)}", "leave --env away")


def lend_data(places: Places, old: Record, copy: Path, console: Console) -> None:
    """The arrays, if those that lie here are those that the run read; else what the run's own code makes them of."""
    name = old.config["data"]["name"]
    arrays = places.processed(name)
    if not arrays.is_dir():
        console.print(f"reproduce  no arrays of {name} here: they are made afresh", highlight=False)
    else:
        store.verify(arrays, f"run `reprise preprocess data={name}`")
        if store.digest(arrays) == old.tag("sha256.processed"):
            _lend(arrays, Places(copy).processed(name))
            return
        console.print(f"reproduce  the arrays of {name} here are others than the run read: they are made afresh", highlight=False)
    _lend_sources(places, old.config["data"], copy)


def _lend_sources(places: Places, data: Mapping[str, Any], copy: Path) -> None:
    """Raw files that are as published, one by one: what is lacking is fetched into the copy. Pictures of one's own."""
    wanted = {file["sha256"] for file in data.get("files", [])}
    for file in places.raw(data["name"]).glob("*"):
        if file.is_file() and store.sha256(file) in wanted:
            _lend(file, Places(copy).raw(data["name"]) / file.name)
    if "path" in data and not Path(data["path"]).is_absolute():
        there = Path(os.path.normpath(copy / data["path"]))
        if there.is_relative_to(copy) and (places.root / data["path"]).exists() and not there.exists():
            _lend(places.root / data["path"], there)


def _lend(lies: Path, there: Path) -> None:
    store.made(there.parent)
    there.symlink_to(lies.resolve(), target_is_directory=lies.is_dir())
