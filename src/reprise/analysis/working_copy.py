"""Restore the environment of a run: its code in a clean working copy, its packages, its data."""

import contextlib
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights
from reprise.tracking import recovery, repository
from reprise.tracking.record import RunRecord
from reprise.tracking.repository import NoRepository, git, last_line


@dataclass(frozen=True)
class WorkingCopy:
    """A git worktree at the commit of a run, with its patch applied."""

    top: Path
    project: Path
    """`top`, or the folder below it that holds the project."""
    original: Path
    """The top of the repository that it is a worktree of."""
    import_folders: tuple[str, ...]
    """Folders below `top` from which the run imported its plugins."""

    def python_path(self, inherited: str) -> str:
        """Return a PYTHONPATH with the code of the run first, then the entries of `inherited`.

        An entry inside the original repository is replaced by the same folder of the copy, if that exists.
        """
        entries = [self.project / "src", *(self.top / folder for folder in self.import_folders), self.project]
        for entry in filter(None, inherited.split(os.pathsep)):
            path = Path(entry).resolve()
            copied = self.top / path.relative_to(self.original) if path.is_relative_to(self.original) else path
            entries.append(copied if copied.exists() else path)
        return os.pathsep.join(dict.fromkeys(map(str, entries)))


def refuse_untrusted_run(old: RunRecord, with_packages: bool, console: Console) -> None:
    """Show the code that a run from elsewhere would execute, and reject the run.

    Raises:
        UserError: always.

    """
    packages = "; --env installs the packages that it names" if with_packages else ""
    console.print(
        f"reproduce  run {old.name} was not made in this project: its config, commit {old.tag('git.commit')[:12]} and patch come "
        f"from the tracking store, and would run here{packages}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if plugins := old.config.get("plugins"):
        console.print(f"reproduce  plugins: {', '.join(plugins)}", highlight=False, markup=False, soft_wrap=True)
    if old.patch:
        console.print(visible(old.patch.decode("utf-8", "replace")), highlight=False, markup=False, soft_wrap=True, end="")
    raise UserError(
        f"run {old.name} was not made in this project, so its code may be somebody else's",
        f"read the {'patch above' if old.patch else 'commit'}, then add --trust",
    )


def visible(text: str) -> str:
    """Return a text in which every control and format character (escapes, bidirectional overrides) is escaped."""
    return "".join(
        one if one in "\n\t" or unicodedata.category(one) not in {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"} else f"\\u{ord(one):04x}"
        for one in text
    )


@contextlib.contextmanager
def working_copy(root: Path, old: RunRecord, scratch: Path) -> Iterator[WorkingCopy]:
    """Make a git worktree at the commit of the run with its patch applied. It is removed after the block.

    Raises:
        UserError: when git does not know the commit, or the patch does not apply.

    """
    commit, copy = old.tag("git.commit"), scratch / recovery.COPY
    if commit in {"none", "unknown"}:
        reason = old.tags.get("git.reason", "it was made outside of git")
        raise UserError(f"run {old.name} cannot be run again, because its code was not recorded: {reason}")
    here = repository.find(root)
    if isinstance(here, NoRepository):
        raise UserError(f"commit {commit[:12]} of run {old.name} cannot be read: {here.reason}", here.hint)
    if git(root, "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        raise UserError(f"commit {commit[:12]} of run {old.name} is not in this repository", "fetch it: git fetch --all")
    prefix = old.tags.get("git.prefix", here.prefix)
    made = WorkingCopy(copy, _inside(copy, prefix), here.top, tuple(json.loads(old.tags.get("plugins.import_folders", "[]"))))
    for folder in made.import_folders:
        _inside(copy, folder)
    (scratch / recovery.PREFIX).write_text(prefix, "utf-8")
    added = git(root, "worktree", "add", "--detach", "--force", str(copy), commit)
    if added.returncode:
        raise UserError(f"no working copy of {commit[:12]}: {last_line(added.stderr)}")
    try:
        if old.patch and (applied := git(copy, "apply", "--whitespace=nowarn", "-", given=old.patch)).returncode:
            raise UserError(f"the uncommitted patch of run {old.name} does not apply: {last_line(applied.stderr)}")
        if not (made.project / repository.MARKER).is_file():
            raise UserError(f"commit {commit[:12]} of run {old.name} holds no {prefix}{repository.MARKER}")
        yield made
    finally:
        git(root, "worktree", "remove", "--force", str(copy))
        git(root, "worktree", "prune")


def _inside(copy: Path, folder: str) -> Path:
    """Return the path of a folder that the run recorded, inside the working copy.

    Raises:
        UserError: when it is outside.

    """
    path = Path(os.path.normpath(copy / folder))
    if not path.is_relative_to(copy):
        raise UserError(f"the run names {folder!r}, a folder outside its repository")
    return path


def make_environment(old: RunRecord, copy: Path, console: Console) -> str:
    """Make a virtual environment in the working copy with the packages and the reprise of the run; return its Python.

    Only some package indexes have a local version (2.13.0+cpu). If pip does not find it, the public version is installed instead,
    with its dependencies.
    """
    folder = copy / ".venv"
    python = str(folder / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "--disable-pip-version-check"]
    in_copy = {"reprise", *json.loads(old.tags.get("packages.local", "[]"))}
    packages = [f"{name}=={version}" for name, version in old.packages.items() if name not in in_copy]
    local = [package for package in packages if "+" in package]
    (copy / "packages.txt").write_text("\n".join(package for package in packages if package not in local))
    _run_checked([sys.executable, "-m", "venv", str(folder)])
    _run_checked([*install, "--no-deps", "-r", str(copy / "packages.txt")])
    for package in local:
        if subprocess.run([*install, "--no-deps", package], capture_output=True).returncode:
            public = package.partition("+")[0]
            console.print(f"reproduce  pip finds no {package}: {public} is used instead", highlight=False, soft_wrap=True)
            _run_checked([*install, public])
    _run_checked([*install, "--no-deps", "-e", str(copy)])
    return python


def _run_checked(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True)
    if result.returncode:
        raise UserError(f"no environment: {last_line(result.stderr)}", "leave --env away")


def link_data(paths: ProjectPaths, old: RunRecord, copy: Path, console: Console) -> None:
    """Link the data of a run into its working copy: the arrays if they are unchanged, otherwise the files they are made from."""
    name = old.config["data"]["name"]
    arrays = paths.processed(name)
    if not arrays.is_dir():
        console.print(f"reproduce  no arrays of {name} here: making them", highlight=False)
    else:
        store.verify(arrays, f"run `reprise preprocess data={name}`")
        if store.digest(arrays) == old.tag("sha256.processed"):
            _link(arrays, ProjectPaths(copy).processed(name))
            return
        console.print(f"reproduce  the arrays of {name} here differ from those of the run: making them again", highlight=False)
    _link_sources(paths, old.config["data"], copy)


def link_initial_weights(old: RunRecord, copy: Path) -> None:
    """Link the weights that a run started from, as its lineage holds them, into its working copy.

    Raises:
        UserError: if the lineage of the run lacks them.

    """
    if "init_from" not in old.config:
        return
    files = sorted((old.files / "lineage").glob("initial.*"))
    if len(files) != 2:
        raise UserError(f"run {old.name} has no copy of the weights it started from in its lineage", "it cannot be run again")
    for file in files:
        _link(file, ProjectPaths(copy).store / initial_weights.KEPT / file.name)


def _link_sources(paths: ProjectPaths, data: Mapping[str, Any], copy: Path) -> None:
    """Link raw files whose sha256 matches, and a folder of pictures. The training in the copy fetches missing files."""
    hashes = {file["sha256"] for file in data.get("files", [])}
    for file in paths.raw(data["name"]).glob("*"):
        if file.is_file() and store.sha256(file) in hashes:
            _link(file, ProjectPaths(copy).raw(data["name"]) / file.name)
    if "path" in data and not Path(data["path"]).is_absolute():
        target = Path(os.path.normpath(copy / data["path"]))
        if target.is_relative_to(copy) and (paths.root / data["path"]).exists() and not target.exists():
            _link(paths.root / data["path"], target)


def _link(source: Path, target: Path) -> None:
    store.made(target.parent)
    target.symlink_to(source.resolve(), target_is_directory=source.is_dir())
