"""The git repository of a project: its commit and the patch of uncommitted changes, or the reason why there is none."""

import functools
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise.config.plugin_sources import Source
from reprise.errors import UserError

CODE = ("src", "conf", "dvc.yaml", "long", "pyproject.toml", "constraints.txt")
"""Paths that determine a run. Changes elsewhere do not make its code dirty."""
MARKER = "conf/pipeline.yaml"
"""A repository is the project's own if its commit holds this file."""
PLUGINS = ".reprise-plugins"
"""The project folder in which a patch stores plugins from outside the repository."""


@dataclass(frozen=True)
class Repository:
    """A working tree of git."""

    top: Path
    prefix: str
    """The project's path inside `top`, with a slash at its end; "" if the project is the whole repository."""
    commit: str


@dataclass(frozen=True)
class NoRepository:
    """Why there is no commit to record."""

    reason: str
    hint: str
    is_refusal: bool
    """True if there may be a repository that git cannot or does not read."""


class GitMissingError(UserError):
    """The git program is not installed."""


@functools.cache
def _local_variables() -> frozenset[str]:
    """Return the environment variables that select a repository (hooks set them). Without them, the folder decides."""
    listed = _call(["git", "rev-parse", "--local-env-vars"], dict(os.environ), None).stdout.decode().split()
    return frozenset(listed)


def git(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, given: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder, with messages in English.

    Raises:
        GitMissingError: if the git program is not installed.

    """
    inherited = {key: value for key, value in os.environ.items() if key not in _local_variables()}
    return _call(["git", "-C", str(folder), *arguments], inherited | {"LC_ALL": "C"} | dict(environment or {}), given)


def _call(command: Sequence[str], environment: Mapping[str, str], given: bytes | None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, env=environment, input=given or b"", capture_output=True)
    except FileNotFoundError:
        raise GitMissingError("there is no git program on the PATH", "install git") from None


def last_line(stderr: bytes) -> str:
    """Return the last line of an error output, which holds the reason."""
    return (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def find(root: Path) -> Repository | NoRepository:
    """Return the repository that holds the project at `root`, or why there is none.

    Raises:
        UserError: if there is one, and it is damaged.

    """
    try:
        result = git(root, "rev-parse", "--show-toplevel", "--show-prefix", "--verify", "HEAD^{commit}")
    except GitMissingError as error:
        return NoRepository(str(error).partition(";")[0], "install git", is_refusal=True)
    if result.returncode:
        return _reason(root, result.stderr.decode("utf-8", "replace"))
    top, prefix, commit = os.fsdecode(result.stdout).split("\n")[:3]
    if not _run(root, ["ls-tree", commit, "--", MARKER]):
        return NoRepository(
            f"the repository {top} does not hold this project: {prefix}{MARKER} is not in its commit {commit[:12]}",
            "commit the project, or `git init` in its own folder",
            is_refusal=False,
        )
    return Repository(Path(top), prefix, commit)


def git_file(root: Path, name: str) -> Path:
    """Return the path of a file in git's own folder, such as `index.lock`."""
    return root / os.fsdecode(_run(root, ["rev-parse", "--git-path", name])).rstrip("\n")


def _reason(root: Path, stderr: str) -> NoRepository:
    """Distinguish by git's message a folder without a repository from a repository that git does not read."""
    fatal = next((line.removeprefix("fatal: ") for line in stderr.splitlines() if line.startswith("fatal: ")), stderr.strip())
    if fatal.startswith("not a git repository (or any"):
        return NoRepository("there is no git repository", "`git init`, then commit the project", is_refusal=False)
    if "dubious ownership" in fatal:
        owned = next((line.split()[-1] for line in stderr.splitlines() if "--add safe.directory" in line), str(root))
        return NoRepository(f"git: {fatal}", f"git config --global --add safe.directory {owned}", is_refusal=True)
    if "Needed a single revision" in fatal:
        return NoRepository("the git repository has no commit yet", "commit the project", is_refusal=True)
    return NoRepository(f"git: {fatal}", "repair the repository", is_refusal=True)


def patch(root: Path, repository: Repository, plugins: Sequence[Source] = ()) -> tuple[bytes, list[str]]:
    """Return the patch of uncommitted code of the project and its plugins, and the folders to import the plugins from.

    The patch and the folders are relative to the top of the repository. The patch includes new files, and plugins even if git
    ignores them. Local plugins from outside the repository become new files below `PLUGINS`. The user's index and object store
    stay unchanged.

    It uses `diff-index`, because the output of `diff` depends on the user's settings (prefixes, colours, external programs).

    Raises:
        UserError: if git cannot compute the patch.

    """
    placed = [_locate(root, repository, source) for source in plugins if source.is_local]
    packages = [f":(top,literal){package}" for package in dict.fromkeys(place.package for place in placed)]
    with tempfile.TemporaryDirectory() as folder:
        index = _scratch_index(root, Path(folder))
        _run(root, ["read-tree", "HEAD"], index)
        _run(root, ["add", "-A", "--", *(name for name in CODE if (root / name).exists())], index)
        if packages:
            _add(repository, placed, packages, index)
        compare = ["diff-index", "--cached", "--binary", "--no-ext-diff", "HEAD", "--", *CODE, *packages]
        return _run(root, compare, index), list(dict.fromkeys(place.import_folder for place in placed))


@dataclass(frozen=True)
class Version:
    """The code of a run: a commit, and the patch of what was not committed."""

    commit: str
    patch: bytes


@dataclass(frozen=True)
class CodeDifference:
    """The difference of two versions of the code."""

    files: tuple[tuple[str, str, str], ...]
    """Path from the top of the repository, added lines and removed lines of each changed file; `-` for binary files."""
    patch: bytes
    """The difference as a patch."""


def difference(root: Path, first: Version, second: Version) -> CodeDifference:
    """Return how the code of two runs differs, uncommitted changes and plugins included. The user's index stays unchanged.

    Raises:
        UserError: if a commit is not in this repository, or a patch does not apply.

    """
    with tempfile.TemporaryDirectory() as folder:
        index = _scratch_index(root, Path(folder))
        trees, patched = zip(*(_tree(root, version, index) for version in (first, second)), strict=True)
        paths = [*CODE, *(f":(top,literal){path}" for path in sorted(set().union(*patched)))]
        compare = ["diff-tree", "-r", "--no-ext-diff", "--no-renames"]
        numbers = os.fsdecode(_run(root, [*compare, "--numstat", "-z", *trees, "--", *paths], index)).split("\0")
        rows = [line.split("\t", 2) for line in numbers if line]
        patch = _run(root, [*compare, "-p", "--binary", *trees, "--", *paths], index)
    return CodeDifference(tuple((path, added, removed) for added, removed, path in rows), patch)


def _tree(root: Path, version: Version, index: Mapping[str, str]) -> tuple[str, set[str]]:
    """Return the tree of a version, in the scratch object store, and the paths that its patch changes."""
    if git(root, "cat-file", "-e", f"{version.commit}^{{commit}}").returncode:
        raise UserError(f"commit {version.commit[:12]} is not in this repository", "fetch it: git fetch --all")
    _run(root, ["read-tree", version.commit], index)
    if version.patch:
        top = Path(os.fsdecode(_run(root, ["rev-parse", "--show-toplevel"])).rstrip("\n"))
        applied = git(top, "apply", "--cached", "--whitespace=nowarn", "-", environment=index, given=version.patch)
        if applied.returncode:
            raise UserError(f"the patch on {version.commit[:12]} does not apply: {last_line(applied.stderr)}")
    tree = _run(root, ["write-tree"], index).decode().strip()
    names = _run(root, ["diff-tree", "-r", "--no-renames", "--name-only", "-z", version.commit, tree], index)
    return tree, {name for name in os.fsdecode(names).split("\0") if name}


def _scratch_index(root: Path, folder: Path) -> dict[str, str]:
    """Return an environment in which git writes index and new objects to `folder` and reads objects from the repository."""
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode(git_file(root, "objects").resolve()) + b"\n")
    return {"GIT_INDEX_FILE": str(folder / "index"), "GIT_OBJECT_DIRECTORY": str(folder / "objects")}


@dataclass(frozen=True)
class _Placed:
    """The path of a plugin's file in a patch, relative to the top of the repository."""

    source: Source
    path: str
    is_real: bool
    """Whether the working tree has the file at that path. If not, it is outside the tree or behind a symbolic link."""

    @property
    def import_folder(self) -> str:
        return "/".join(self.path.split("/")[: -self.source.name.count("/") - 1])

    @property
    def package(self) -> str:
        return "/".join(filter(None, [self.import_folder, self.source.name.partition("/")[0]]))


def _locate(root: Path, repository: Repository, source: Source) -> _Placed:
    real, top = source.file.resolve(), repository.top.resolve()
    if source.file.is_relative_to(root):
        path = f"{repository.prefix}{source.file.relative_to(root).as_posix()}"
        return _Placed(source, path, real == top / path)
    if real.is_relative_to(top):
        return _Placed(source, real.relative_to(top).as_posix(), is_real=True)
    return _Placed(source, f"{repository.prefix}{PLUGINS}/{source.name}", is_real=False)


def _add(repository: Repository, placed: Sequence[_Placed], packages: Sequence[str], index: Mapping[str, str]) -> None:
    """Add the files of plugins to the index, and remove deleted ones from it."""
    external = [place for place in placed if not place.is_real]
    external_packages = tuple(f"{place.package}/" for place in external)
    tracked = os.fsdecode(_run(repository.top, ["ls-files", "-z", "--", *packages], index)).split("\0")
    real = {path for path in tracked if path and not f"{path}/".startswith(external_packages)}
    real |= {place.path for place in placed if place.is_real}
    paths = "".join(f"{path}\0" for path in sorted(real))
    _run(repository.top, ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"], index, os.fsencode(paths))
    for place in external:
        content = _run(repository.top, ["hash-object", "-w", "--stdin"], index, place.source.file.read_bytes())
        entry = f"100644,{content.decode().strip()},{place.path}"
        _run(repository.top, ["update-index", "--add", "--replace", "--cacheinfo", entry], index)


def _run(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None, given: bytes | None = None
) -> bytes:
    """Run git and return its output.

    Raises:
        UserError: if it fails, with the last line of its error output.

    """
    result = git(folder, *arguments, environment=environment, given=given)
    if result.returncode:
        reason = last_line(result.stderr) or f"code {result.returncode}"
        raise UserError(f"what is not committed cannot be recorded: git {arguments[0]}: {reason}", "repair the repository")
    return result.stdout
