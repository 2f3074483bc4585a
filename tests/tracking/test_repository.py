"""The repository that a project lies in, told from one that is not its own, one that git refuses, and none; real git throughout."""

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


def project(root: Path) -> Path:
    for name, content in {"conf/config.yaml": "name: ???\n", "src/net.py": "width = 1\n"}.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_text(content)
    return root


def committed(top: Path) -> str:
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "start")
    return git(top, "rev-parse", "HEAD").strip()


def reason(root: Path) -> tuple[bool, str, str]:
    found = repository.find(root)
    assert isinstance(found, NoRepository)
    return found.is_refusal, found.reason, found.hint


@pytest.mark.parametrize("prefix", ["", "sub/", "a b/ä/"])
def test_a_project_is_found_at_any_depth_of_its_repository(tmp_path: Path, prefix: str) -> None:
    top = tmp_path / "top"
    root = project(top / prefix)
    commit = committed(top)
    assert repository.find(root) == Repository(top, prefix, commit)


def test_no_repository_is_told_from_one_that_git_refuses(tmp_path: Path) -> None:
    root = project(tmp_path / "root")
    assert reason(root) == (False, "there is no git repository", "`git init`, then commit the project")
    git(root, "init", "-q")
    assert reason(root)[:2] == (True, "the git repository has no commit yet")
    committed(root)
    (root / ".git" / "HEAD").write_text("nonsense\n")
    refused, said, _ = reason(root)
    assert refused or "no git repository" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_clone_of_another_user_is_refused_with_gits_reason_and_what_to_do(tmp_path: Path) -> None:
    root = project(tmp_path / "root")
    committed(root)
    for path in (root, *root.rglob("*")):
        os.chown(path, 12345, 12345)
    refused, said, hint = reason(root)
    assert refused
    assert said == f"git: detected dubious ownership in repository at '{root}'"
    assert hint == f"git config --global --add safe.directory {root}"


def test_without_a_git_program_it_is_said_and_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = project(tmp_path / "root")
    committed(root)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason(root) == (True, "there is no git program on the PATH", "install git")


@pytest.mark.parametrize("ignored", [False, True])
def test_a_repository_of_somebody_else_is_not_taken_for_the_projects_own(tmp_path: Path, ignored: bool) -> None:
    top = tmp_path / "dotfiles"
    top.mkdir()
    (top / "conf").mkdir()
    (top / "conf" / "config.yaml").write_text("of another project\n")
    (top / ".gitignore").write_text("projects\n" if ignored else "")
    commit = committed(top)
    root = project(top / "projects" / "mine")
    refused, said, _ = reason(root)
    assert not refused
    assert (
        said
        == f"the repository {top} does not hold this project: projects/mine/conf/config.yaml is not in its commit {commit[:12]}"
    )


def test_variables_that_a_git_hook_sets_do_not_lead_to_another_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, root = project(tmp_path / "other"), project(tmp_path / "top" / "root")
    committed(other)
    commit = committed(root.parent)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert repository.find(root) == Repository(root.parent, "root/", commit)


Layout = Callable[[Path, Path], Path]


def beside_conf(root: Path, outside: Path) -> Path:
    return root


def in_the_monorepo(root: Path, outside: Path) -> Path:
    return root.parent / "libs"


def outside_of_it(root: Path, outside: Path) -> Path:
    return outside


def behind_a_link(root: Path, outside: Path) -> Path:
    root.joinpath("mine").symlink_to(outside / "mine")
    return outside


LAYOUTS: tuple[Layout, ...] = (beside_conf, in_the_monorepo, outside_of_it, behind_a_link)


def packages(folder: Path) -> dict[str, bytes]:
    """A package with data of any bytes, a subpackage, and a module that it imports from beside it."""
    return {
        "mine/__init__.py": b"from helper_of_mine import width\r\n",
        "mine/deep/net.py": b"name = '\xc3\xa4'\n",
        "mine/table.bin": bytes(range(256)),
        "helper_of_mine.py": b"width = 3\n",
    }


@pytest.mark.parametrize("state", ["untracked", "ignored", "changed"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_patch_restores_a_plugin_wherever_it_lies(
    tmp_path: Path, layout: Layout, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, outside = project(tmp_path / "top" / "root"), tmp_path / "outside"
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
    committed(root.parent)
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
    found = repository.find(root)
    assert isinstance(found, Repository)
    patch, folders = repository.patch(root, found, sources)
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
    root = project(tmp_path / "root")
    (root / "mine.py").write_text("width = 3\r\n")
    (root / ".gitattributes").write_text("*.py text=auto\n")
    committed(root)
    monkeypatch.syspath_prepend(str(root))
    found = repository.find(root)
    assert isinstance(found, Repository)
    assert repository.patch(root, found, plugin_sources.sources(["mine"])) == (b"", [""])


@pytest.mark.skipif(shutil.which("chmod") is None, reason="no chmod")
def test_a_repository_that_nobody_may_write_to_is_read(tmp_path: Path) -> None:
    """Objects of the patch go to a folder of our own: as many files lie in the repository afterwards as before."""
    root = project(tmp_path / "root")
    committed(root)
    (root / "src" / "net.py").write_text("width = 2\n")
    before = sorted((root / ".git").rglob("*"))
    found = repository.find(root)
    assert isinstance(found, Repository)
    assert b"+width = 2" in repository.patch(root, found)[0]
    assert sorted((root / ".git").rglob("*")) == before
