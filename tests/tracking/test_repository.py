"""Find the git repository of a project; distinguish none, one that git refuses, and one that does not contain the project."""

import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from reprise.config import plugin_sources
from reprise.tracking import repository
from reprise.tracking.repository import NoRepository, Repository


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{who}_{what}", "a@b.c")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # no safe.directory of the machine


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", root, *arguments], check=True, capture_output=True, text=True).stdout


def create_project(root: Path) -> Path:
    for name, content in {"conf/pipeline.yaml": "name: ???\n", "src/net.py": "width = 1\n"}.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    return root


def commit_all(top: Path) -> str:
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "start")
    return git(top, "rev-parse", "HEAD").strip()


def reason(root: Path) -> tuple[bool, str, str]:
    result = repository.find(root)
    assert isinstance(result, NoRepository)
    return result.is_refusal, result.reason, result.hint


@pytest.mark.parametrize("prefix", ["", "sub/", "a b/ä/"])
def test_a_project_is_found_at_any_depth_of_its_repository(tmp_path: Path, prefix: str) -> None:
    top = tmp_path / "top"
    root = create_project(top / prefix)
    commit = commit_all(top)
    assert repository.find(root) == Repository(top, prefix, commit)


def test_no_repository_is_distinguished_from_one_that_git_refuses(tmp_path: Path) -> None:
    root = create_project(tmp_path / "root")
    assert reason(root) == (False, "there is no git repository", "`git init`, then commit the project")
    git(root, "init", "-q")
    assert reason(root)[:2] == (True, "the git repository has no commit yet")
    commit_all(root)
    (root / ".git" / "HEAD").write_text("nonsense\n")
    refused, message, _ = reason(root)
    assert refused or "no git repository" in message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of a folder")
def test_a_clone_of_another_user_is_refused_with_the_reason_of_git_and_a_remedy(tmp_path: Path) -> None:
    root = create_project(tmp_path / "root")
    commit_all(root)
    for path in (root, *root.rglob("*")):
        os.chown(path, 12345, 12345)
    refused, message, hint = reason(root)
    assert refused
    assert message == f"git: detected dubious ownership in repository at '{root}'"
    assert hint == f"git config --global --add safe.directory {root}"


def test_without_a_git_program_the_reason_is_given_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = create_project(tmp_path / "root")
    commit_all(root)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason(root) == (True, "there is no git program on the PATH", "install git")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_repository_that_does_not_contain_the_project_is_not_used(tmp_path: Path, ignored: bool) -> None:
    top = tmp_path / "dotfiles"
    top.mkdir()
    (top / "conf").mkdir()
    (top / "conf" / "pipeline.yaml").write_text("of another project\n")
    (top / ".gitignore").write_text("projects\n" if ignored else "")
    commit = commit_all(top)
    root = create_project(top / "projects" / "mine")
    refused, message, _ = reason(root)
    assert not refused
    assert (
        message
        == f"the repository {top} does not hold this project: projects/mine/conf/pipeline.yaml is not in its commit {commit[:12]}"
    )


def test_environment_variables_of_a_git_hook_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other, root = create_project(tmp_path / "other"), create_project(tmp_path / "top" / "root")
    commit_all(other)
    commit = commit_all(root.parent)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert repository.find(root) == Repository(root.parent, "root/", commit)


Layout = Callable[[Path, Path], Path]


def next_to_conf(root: Path, outside: Path) -> Path:
    return root


def in_the_monorepo(root: Path, outside: Path) -> Path:
    return root.parent / "libs"


def outside_the_repository(root: Path, outside: Path) -> Path:
    return outside


def behind_a_link(root: Path, outside: Path) -> Path:
    root.joinpath("mine").symlink_to(outside / "mine")
    return outside


LAYOUTS: tuple[Layout, ...] = (next_to_conf, in_the_monorepo, outside_the_repository, behind_a_link)


def packages(folder: Path) -> dict[str, bytes]:
    """Return the files of a package with binary data, a subpackage, and an imported module next to it."""
    return {
        "mine/__init__.py": b"from helper_of_mine import width\r\n",
        "mine/deep/net.py": b"name = '\xc3\xa4'\n",
        "mine/table.bin": bytes(range(256)),
        "helper_of_mine.py": b"width = 3\n",
    }


@pytest.mark.parametrize("state", ["untracked", "ignored", "changed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_patch_restores_a_plugin_at_any_location(
    tmp_path: Path, layout: Layout, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = create_project(tmp_path / "top" / "root"), tmp_path / "outside"
    folder = layout(root, outside)
    contents = packages(folder)

    def write() -> None:
        for name, content in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    if state == "changed":
        folder.mkdir(exist_ok=True)
        (folder / "mine").mkdir()
        (folder / "mine" / "old.py").write_text("gone = True\n")
        (folder / "mine" / "__init__.py").write_text("width = 1\n")
    if state == "ignored":
        (root.parent / ".gitignore").write_text("mine\nhelper*\n")
    commit_all(root.parent)
    write()
    (folder / "mine" / "old.py").unlink(missing_ok=True)
    (folder / "mine" / "__pycache__").mkdir()
    (folder / "mine" / "__pycache__" / "net.cpython-312.pyc").write_bytes(b"compiled")
    monkeypatch.syspath_prepend(str(folder))
    if layout is behind_a_link:
        monkeypatch.syspath_prepend(str(root))
    sources = plugin_sources.sources(["mine"])
    assert [source.name for source in sources] == sorted(contents)
    assert all(source.is_local for source in sources)

    status = git(root.parent, "status", "--porcelain", "--ignored")
    result = repository.find(root)
    assert isinstance(result, Repository)
    patch, folders = repository.patch(root, result, sources)
    assert git(root.parent, "status", "--porcelain", "--ignored") == status
    again = tmp_path / "again"
    git(root.parent, "worktree", "add", "-q", "--detach", str(again), "HEAD")
    subprocess.run(["git", "-C", again, "apply", "--whitespace=nowarn", "-"], input=patch, check=True, capture_output=True)
    read = {}
    for import_folder in folders:
        for file in (again / import_folder).rglob("*"):
            name = file.relative_to(again / import_folder).as_posix()
            if file.is_file() and name.startswith(("mine/", "helper_of_mine")):
                read.setdefault(name, file.read_bytes())
    assert read == contents
    shown = subprocess.run(
        [sys.executable, "-c", "import mine, mine.deep.net; print(mine.__file__, mine.width)"],
        env={
            "PYTHONPATH": os.pathsep.join(str(again / one) for one in folders),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
    )
    assert shown.stdout.startswith(str(again)), shown.stderr
    assert shown.stdout.endswith(" 3\n")
    importlib.invalidate_caches()


def test_a_committed_plugin_leaves_the_patch_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = create_project(tmp_path / "root")
    (root / "mine.py").write_text("width = 3\r\n")
    (root / ".gitattributes").write_text("*.py text=auto\n")
    commit_all(root)
    monkeypatch.syspath_prepend(str(root))
    result = repository.find(root)
    assert isinstance(result, Repository)
    assert repository.patch(root, result, plugin_sources.sources(["mine"])) == (b"", [""])


@pytest.mark.skipif(shutil.which("chmod") is None, reason="no chmod")
def test_recording_a_patch_writes_nothing_into_the_repository(tmp_path: Path) -> None:
    """The objects of the patch are stored in a temporary folder."""
    root = create_project(tmp_path / "root")
    commit_all(root)
    (root / "src" / "net.py").write_text("width = 2\n")
    before = sorted((root / ".git").rglob("*"))
    result = repository.find(root)
    assert isinstance(result, Repository)
    assert b"+width = 2" in repository.patch(root, result)[0]
    assert sorted((root / ".git").rglob("*")) == before
