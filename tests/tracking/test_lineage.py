"""The code that a run records, in a real repository with user settings and files of any bytes."""

import shutil
import subprocess
from pathlib import Path

import pytest

from reprise.errors import UserError
from reprise.tracking import lineage


def git(root: Path, *arguments: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(["git", "-C", root, *arguments], input=stdin, check=True, capture_output=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with uncommitted changes: a line with a Windows line ending, one in Latin-1, a new file, a deleted file."""
    for who in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.setenv(f"GIT_{who}_{what}", "a@b.c")
    root = tmp_path / "root"
    for folder in ("src", "conf"):
        (root / folder).mkdir(parents=True)
    (root / "conf" / "pipeline.yaml").write_text("name: ???\n")
    (root / "src" / "windows.py").write_bytes(b"a = 1\r\nb = 2\r\n")
    (root / "src" / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xe4'\n")
    (root / "src" / "old.py").write_bytes(b"gone = True\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "start")
    (root / "src" / "windows.py").write_bytes(b"a = 1\r\nb = 3\r\n")
    (root / "src" / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = '\xf6'\n")
    (root / "src" / "new.py").write_bytes(b"new = True\n")
    (root / "src" / "old.py").unlink()
    return root


SETTINGS = {
    "none": [],
    "noprefix": ["diff.noprefix", "true"],
    "mnemonic": ["diff.mnemonicPrefix", "true"],
    "colour": ["color.ui", "always"],
    "context": ["diff.context", "0"],
    "external": ["diff.external", "true"],
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_patch_restores_the_same_bytes_with_any_git_settings(repository: Path, tmp_path: Path, setting: str) -> None:
    if SETTINGS[setting]:
        git(repository, "config", *SETTINGS[setting])
    tags, patch = lineage.code(repository)
    assert tags["git.dirty"] == "true"
    assert git(repository, "diff", "--cached", "--name-only") == b""  # the index is unchanged
    again = tmp_path / "again"
    git(repository, "clone", "-q", ".", str(again))
    git(again, "apply", "--whitespace=nowarn", "-", stdin=patch)
    read = [{file.name: file.read_bytes() for file in (root / "src").iterdir()} for root in (repository, again)]
    assert read[0] == read[1]


def test_a_repository_that_git_cannot_read_is_an_error(repository: Path) -> None:
    tree = git(repository, "rev-parse", "HEAD:").decode().strip()
    (repository / ".git" / "objects" / tree[:2] / tree[2:]).unlink()
    with pytest.raises(UserError, match="what is not committed cannot be recorded: git ls-tree: "):
        lineage.code(repository)


def test_outside_git_there_is_no_commit(repository: Path) -> None:
    shutil.rmtree(repository / ".git")
    tags, patch = lineage.code(repository)
    assert (tags["git.commit"], tags["git.dirty"], patch) == ("none", "unknown", b"")
    assert tags["git.reason"].startswith("there is no git repository; ")
