"""The git repository that holds a project: its commit, what is not committed, or the reason why git cannot tell."""

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
"""What decides a run; a change elsewhere does not make its code dirty."""
MARKER = "conf/config.yaml"
"""A repository is the project's own if its commit holds this file."""
PLUGINS = ".reprise-plugins"
"""The folder of the project in which a patch keeps plugins that lie outside the repository."""


@dataclass(frozen=True)
class Repository:
    """A working tree of git."""

    top: Path
    prefix: str
    """The project's folder below `top`, with a slash at its end; "" if the project is the whole repository."""
    commit: str


@dataclass(frozen=True)
class NoRepository:
    """Why there is no commit to record."""

    reason: str
    hint: str
    is_refusal: bool
    """True if a repository may be there, but git does not read it."""


class GitMissingError(UserError):
    """There is no git program."""


@functools.cache
def _local_variables() -> frozenset[str]:
    """Environment variables that point git to one repository (a hook sets them): here the folder alone decides."""
    listed = _call(["git", "rev-parse", "--local-env-vars"], dict(os.environ), None).stdout.decode().split()
    return frozenset(listed)


def git(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, given: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Run git in a folder, with messages in English.

    Raises:
        GitMissingError: when there is no git program.

    """
    kept = {key: value for key, value in os.environ.items() if key not in _local_variables()}
    return _call(["git", "-C", str(folder), *arguments], kept | {"LC_ALL": "C"} | dict(environment or {}), given)


def _call(command: Sequence[str], environment: Mapping[str, str], given: bytes | None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(command, env=environment, input=given or b"", capture_output=True)
    except FileNotFoundError:
        raise GitMissingError("there is no git program on the PATH", "install git") from None


def last_line(stderr: bytes) -> str:
    """Return the last line of an error output, which says why a command failed."""
    return (stderr.decode("utf-8", "replace").strip().splitlines() or [""])[-1]


def find(root: Path) -> Repository | NoRepository:
    """Return the repository that holds the project at `root`, or why there is none.

    Raises:
        UserError: when there is one, and it is damaged.

    """
    try:
        shown = git(root, "rev-parse", "--show-toplevel", "--show-prefix", "--verify", "HEAD^{commit}")
    except GitMissingError as error:
        return NoRepository(str(error).partition(";")[0], "install git", is_refusal=True)
    if shown.returncode:
        return _explained(root, shown.stderr.decode("utf-8", "replace"))
    top, prefix, commit = os.fsdecode(shown.stdout).split("\n")[:3]
    if not _must(root, ["ls-tree", commit, "--", MARKER]):
        return NoRepository(
            f"the repository {top} does not hold this project: {prefix}{MARKER} is not in its commit {commit[:12]}",
            "commit the project, or `git init` in its own folder",
            is_refusal=False,
        )
    return Repository(Path(top), prefix, commit)


def _explained(root: Path, stderr: str) -> NoRepository:
    """Tell a folder without a repository from a repository that git does not read, by git's message."""
    fatal = next((line.removeprefix("fatal: ") for line in stderr.splitlines() if line.startswith("fatal: ")), stderr.strip())
    if fatal.startswith("not a git repository (or any"):
        return NoRepository("there is no git repository", "`git init`, then commit the project", is_refusal=False)
    if "dubious ownership" in fatal:
        owned = next((line.split()[-1] for line in stderr.splitlines() if "--add safe.directory" in line), str(root))
        return NoRepository(f"git: {fatal}", f"git config --global --add safe.directory {owned}", is_refusal=True)
    if "Needed a single revision" in fatal:
        return NoRepository("the git repository has no commit yet", "commit the project", is_refusal=True)
    return NoRepository(f"git: {fatal}", "mend the repository", is_refusal=True)


def patch(root: Path, repository: Repository, plugins: Sequence[Source] = ()) -> tuple[bytes, list[str]]:
    """Return what is not committed of the project's code and of its plugins, and the folders to import the plugins from.

    The patch is relative to the top of the repository, and holds new files too, plugins also where git ignores them. Local
    plugins from outside the repository are new files below `PLUGINS`. Import folders are relative to the top as well. The user's
    index and object store stay as they are.

    `diff-index` is used, because the output of `diff` depends on the user's settings (prefixes, colours, external programs).

    Raises:
        UserError: when git cannot tell what differs.

    """
    placed = [_place(root, repository, source) for source in plugins if source.is_local]
    packages = [f":(top,literal){package}" for package in dict.fromkeys(place.package for place in placed)]
    with tempfile.TemporaryDirectory() as folder:
        index = _scratch_index(root, Path(folder))
        _must(root, ["read-tree", "HEAD"], index)
        _must(root, ["add", "-A", "--", *(name for name in CODE if (root / name).exists())], index)
        if packages:
            _add(repository, placed, packages, index)
        compare = ["diff-index", "--cached", "--binary", "--no-ext-diff", "HEAD", "--", *CODE, *packages]
        return _must(root, compare, index), list(dict.fromkeys(place.import_folder for place in placed))


def _scratch_index(root: Path, folder: Path) -> dict[str, str]:
    """Return an environment in which git writes its index and new objects into `folder`, and reads objects of the repository."""
    objects = os.fsdecode(_must(root, ["rev-parse", "--git-path", "objects"])).rstrip("\n")
    (folder / "objects" / "info").mkdir(parents=True)
    (folder / "objects" / "info" / "alternates").write_bytes(os.fsencode((root / objects).resolve()) + b"\n")
    return {"GIT_INDEX_FILE": str(folder / "index"), "GIT_OBJECT_DIRECTORY": str(folder / "objects")}


@dataclass(frozen=True)
class _Placed:
    """Where a patch keeps a file of a plugin, relative to the top of the repository."""

    source: Source
    path: str
    is_real: bool
    """Whether the working tree has the file at that path; else it lies outside, or behind a symbolic link."""

    @property
    def import_folder(self) -> str:
        return "/".join(self.path.split("/")[: -self.source.name.count("/") - 1])

    @property
    def package(self) -> str:
        return "/".join(filter(None, [self.import_folder, self.source.name.partition("/")[0]]))


def _place(root: Path, repository: Repository, source: Source) -> _Placed:
    real, top = source.file.resolve(), repository.top.resolve()
    if source.file.is_relative_to(root):
        path = f"{repository.prefix}{source.file.relative_to(root).as_posix()}"
        return _Placed(source, path, real == top / path)
    if real.is_relative_to(top):
        return _Placed(source, real.relative_to(top).as_posix(), is_real=True)
    return _Placed(source, f"{repository.prefix}{PLUGINS}/{source.name}", is_real=False)


def _add(repository: Repository, placed: Sequence[_Placed], packages: Sequence[str], index: Mapping[str, str]) -> None:
    """Add the files of plugins to the index, and remove from it those that were deleted."""
    others = [place for place in placed if not place.is_real]
    behind = tuple(f"{place.package}/" for place in others)
    tracked = os.fsdecode(_must(repository.top, ["ls-files", "-z", "--", *packages], index)).split("\0")
    real = {path for path in tracked if path and not f"{path}/".startswith(behind)}
    real |= {place.path for place in placed if place.is_real}
    given = "".join(f"{path}\0" for path in sorted(real))
    _must(repository.top, ["update-index", "--add", "--remove", "--replace", "-z", "--stdin"], index, os.fsencode(given))
    for place in others:
        content = _must(repository.top, ["hash-object", "-w", "--stdin"], index, place.source.file.read_bytes())
        entry = f"100644,{content.decode().strip()},{place.path}"
        _must(repository.top, ["update-index", "--add", "--replace", "--cacheinfo", entry], index)


def _must(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str] | None = None, given: bytes | None = None
) -> bytes:
    """Return what git prints.

    Raises:
        UserError: when it fails, with its last line.

    """
    done = git(folder, *arguments, environment=environment, given=given)
    if done.returncode:
        reason = last_line(done.stderr) or f"code {done.returncode}"
        raise UserError(f"what is not committed cannot be recorded: git {arguments[0]}: {reason}", "mend the repository")
    return done.stdout
