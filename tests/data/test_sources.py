"""Downloads from several sources: a file is complete and correct, or absent. All servers run on this machine."""

import gzip
import hashlib
import os
import random
import socket
import stat
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from rich.console import Console

from reprise.config import DataConfig, compose_dataset
from reprise.config.modalities.images import ImageData
from reprise.data.sources import BLOCK, Fetcher
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import download
from tests.data.conftest import Server, files_in

CONTENT = random.Random(0).randbytes(3 * BLOCK + 17)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PACKED = gzip.compress(CONTENT, 1, mtime=0)


def fetch(sources: list[str], target: Path, published: str = "file.bin", sha256: str = SHA256) -> str:
    return Fetcher(sources).fetch(published, sha256, target, lambda done, total: None)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "file.bin"


@pytest.fixture
def closed() -> Iterator[str]:
    """The address of a port that is taken and refuses connections."""
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{occupied.getsockname()[1]}/"


def assert_complete_and_alone(target: Path) -> None:
    assert target.read_bytes() == CONTENT
    assert files_in(target.parent) == {target.name}
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


# --- over HTTP


def test_a_file_is_downloaded_and_its_source_named(server: Server, target: Path) -> None:
    server.files["set/file.bin"] = CONTENT
    assert fetch([f"{server.url}set/"], target) == f"{server.url}set/file.bin"
    assert_complete_and_alone(target)


def test_progress_reaches_the_announced_total(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT
    progress: list[tuple[int, int | None]] = []
    Fetcher([server.url]).fetch("file.bin", SHA256, target, lambda done, total: progress.append((done, total)))
    assert progress[-1] == (len(CONTENT), len(CONTENT))
    assert progress == sorted(progress)


def test_a_compressed_file_is_stored_decompressed(server: Server, target: Path) -> None:
    server.files["file.bin.gz"] = PACKED
    fetch([server.url], target, "file.bin.gz")
    assert_complete_and_alone(target)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip"])
def test_a_content_encoding_header_of_a_gz_file_is_ignored(server: Server, target: Path, encoding: str) -> None:
    server.files["file.bin.gz"] = PACKED
    server.encoding = encoding
    server.cut = 1000
    with pytest.raises(UserError):
        fetch([server.url], target, "file.bin.gz")
    server.cut = None
    fetch([server.url], target, "file.bin.gz")
    assert_complete_and_alone(target)


def test_an_interrupted_download_resumes_at_its_offset(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT
    for cut, had in ((BLOCK + 5, 0), (BLOCK, BLOCK + 5)):
        server.cut = cut
        with pytest.raises(UserError, match=f"broke off after {cut + had} of {len(CONTENT)} bytes"):
            fetch([server.url], target)
        assert not target.exists()
    server.cut = None
    fetch([server.url], target)
    assert [byte_range for _, byte_range in server.requests] == [None, f"bytes={BLOCK + 5}-", f"bytes={2 * BLOCK + 5}-"]
    assert_complete_and_alone(target)


def test_without_range_support_the_whole_file_is_downloaded_again(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT
    server.cut, server.ranges = BLOCK, False
    with pytest.raises(UserError):
        fetch([server.url], target)
    server.cut = None
    fetch([server.url], target)
    assert_complete_and_alone(target)


def test_a_complete_but_unpublished_download_starts_again(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT
    server.too_long = 1
    with pytest.raises(UserError):
        fetch([server.url], target)
    server.too_long = 0
    fetch([server.url], target)
    assert [byte_range for _, byte_range in server.requests] == [None, f"bytes={len(CONTENT)}-", None]
    assert_complete_and_alone(target)


def test_a_partial_download_of_a_changed_file_fails_once_and_then_restarts(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT[::-1]
    server.cut = BLOCK
    with pytest.raises(UserError):
        fetch([server.url], target)
    server.files["file.bin"], server.cut = CONTENT, None
    with pytest.raises(UserError, match="wrong content"):
        fetch([server.url], target)
    fetch([server.url], target)
    assert_complete_and_alone(target)


def test_partial_downloads_of_two_sources_are_not_mixed(server: Server, target: Path) -> None:
    server.files |= {"a/file.bin.gz": gzip.compress(CONTENT, 0, mtime=0), "b/file.bin.gz": PACKED}
    server.cut = BLOCK
    with pytest.raises(UserError, match=r"broke off.*broke off"):
        fetch([f"{server.url}a/", f"{server.url}b/"], target, "file.bin.gz")
    server.cut = None
    server.requests.clear()
    fetch([f"{server.url}b/", f"{server.url}a/"], target, "file.bin.gz")
    assert server.requests == [("b/file.bin.gz", f"bytes={BLOCK}-")]
    assert_complete_and_alone(target)


def test_a_truncated_response_of_unknown_length_is_refused(server: Server, target: Path) -> None:
    server.files["file.bin"] = CONTENT
    server.sends_length, server.cut = False, BLOCK
    with pytest.raises(UserError, match="wrong content"):
        fetch([server.url], target)
    assert files_in(target.parent) == set()


def test_a_missing_file_is_fetched_from_the_next_source(server: Server, target: Path) -> None:
    server.files["here/file.bin"] = CONTENT
    assert fetch([f"{server.url}gone/", f"{server.url}here/"], target) == f"{server.url}here/file.bin"
    assert_complete_and_alone(target)


@pytest.mark.parametrize(
    ("published", "content", "why"),
    [
        ("file.bin", CONTENT[:-1] + b"!", "wrong content: sha256"),
        ("file.bin.gz", gzip.compress(b"another", mtime=0), "wrong content: sha256"),
        ("file.bin.gz", PACKED[:-9], "truncated or damaged"),
        ("file.bin.gz", PACKED[:5000] + b"????" + PACKED[5004:], "truncated or damaged"),  # its checksum
        ("file.bin.gz", PACKED[:10] + b"\xff" + PACKED[11:], "truncated or damaged"),  # the kind of its first block
        ("file.bin.gz", b"<html>sign in first</html>", "truncated or damaged"),
        ("file.bin.gz", b"", "wrong content"),
    ],
)
def test_wrong_content_is_refused_and_leaves_no_file(
    server: Server, target: Path, published: str, content: bytes, why: str
) -> None:
    server.files[published] = content
    with pytest.raises(UserError, match=why):
        fetch([server.url], target, published)
    assert files_in(target.parent) == set()


def test_an_unreachable_host_is_tried_only_once(server: Server, target: Path) -> None:
    server.hangs_up = True
    fetcher = Fetcher([f"{server.url}a/", f"{server.url}b/"])
    for name in ("one", "two"):
        with pytest.raises(UserError, match="cannot be reached"):
            fetcher.fetch(name, SHA256, target, lambda done, total: None)
    assert [path for path, _ in server.requests] == ["a/one"]


def test_a_host_that_lacks_one_file_is_tried_for_the_next(server: Server, target: Path) -> None:
    server.files["two"] = CONTENT
    fetcher = Fetcher([server.url])
    with pytest.raises(UserError, match="HTTP 404"):
        fetcher.fetch("one", SHA256, target, lambda done, total: None)
    fetcher.fetch("two", SHA256, target, lambda done, total: None)
    assert_complete_and_alone(target)


def test_one_message_names_every_source_its_failure_and_the_remedy(
    server: Server, closed: str, tmp_path: Path, target: Path
) -> None:
    server.files["bad/file.bin"] = b"something else"
    sources = [f"{server.url}gone/", f"{server.url}bad/", closed, f"{tmp_path}/nowhere/", "package:no_such_package/data/"]
    with pytest.raises(UserError) as caught:
        fetch(sources, target)
    message = str(caught.value)
    assert "\n" not in message
    for source, why in zip(
        sources, ["HTTP 404", "wrong content", "cannot be reached", "no such file", "not installed"], strict=True
    ):
        assert source in message
        assert why in message
    assert "REPRISE_MIRROR" in message
    assert files_in(target.parent) == set()


SECRETS = ["hunter2", "hunter2@host", "hun/ter2", "hun#ter2", "hun[ter2", "hun?ter2"]


@pytest.mark.parametrize("user", [f"me:{secret}" for secret in SECRETS] + ["hunter2", ":hunter2"])
def test_a_password_in_an_address_is_never_printed(server: Server, closed: str, target: Path, user: str) -> None:
    server.files["file.bin"] = CONTENT
    plain = user == "me:hunter2"
    sources = [closed.replace("//", f"//{user}@"), f"{server.url}gone/".replace("//", f"//{user}@")]
    with pytest.raises(UserError) as caught:
        fetch(sources, target)
    assert not [secret for secret in (*SECRETS, "ter2") if secret in str(caught.value)]
    if plain:
        assert f"{closed}file.bin: " in str(caught.value)
        assert fetch([server.url.replace("//", f"//{user}@")], target) == f"{server.url}file.bin"


# --- from folders and packages


def test_a_folder_is_a_source(tmp_path: Path, target: Path) -> None:
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "file.bin.gz").write_bytes(PACKED)
    assert fetch([f"{tmp_path}/shelf/"], target, "file.bin.gz") == f"{tmp_path}/shelf/file.bin.gz"
    assert_complete_and_alone(target)
    assert files_in(tmp_path / "shelf") == {"file.bin.gz"}


def test_an_installed_package_is_a_source_and_is_not_imported(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site" / "packed_data"
    (package / "files").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "files" / "file.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(tmp_path / "site")
    fetch(["package:packed_data/files/"], target)
    assert_complete_and_alone(target)


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.inside", "json.decoder"])
def test_a_missing_package_is_an_unavailable_source(target: Path, package: str) -> None:
    with pytest.raises(UserError, match=f"the Python package {package} is not installed"):
        fetch([f"package:{package}/data/"], target)


def test_a_target_that_cannot_be_written_is_named(server: Server, tmp_path: Path) -> None:
    server.files["file.bin"] = CONTENT
    (tmp_path / "raw").write_text("a file where a folder should be")
    with pytest.raises(UserError, match=f"cannot write {tmp_path}/raw/file.bin"):
        fetch([server.url], tmp_path / "raw" / "file.bin")


def test_a_full_disk_is_a_user_error_and_leaves_no_file(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files["file.bin"] = CONTENT

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"cannot write .*file.bin: No space left on device"):
        fetch([server.url], target)
    assert files_in(target.parent) == set()


# --- from Debian, with stand-ins for its programs

APT = """#!/bin/sh
echo "$@" >> "$APT_LOG"
for last; do :; done
case "$last" in
  update) exit ${APT_UPDATE:-0} ;;
  shelf) tar -cf shelf_1_all.deb -C "$APT_POOL" . ;;
  hollow) ;;
  *) echo "W: a warning" >&2; echo "E: Unable to locate package $last" >&2; exit 100 ;;
esac
"""
DPKG = """#!/bin/sh
if [ -n "$FIRST" ]; then mkdir -p "$FIRST"; tar -xf "$2" -C "$FIRST"; fi
[ "$1" = -x ] && mkdir -p "$3" && tar -xf "$2" -C "$3"
"""


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt-get and dpkg-deb first on PATH; the file returned logs the calls of apt-get."""
    programs, pool = tmp_path / "bin", tmp_path / "pool" / "usr" / "share"
    programs.mkdir()
    pool.mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    for name in ("one.gz", "two.gz"):
        (pool / name).write_bytes(PACKED)
    for name, script in (("apt-get", APT), ("dpkg-deb", DPKG)):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APT_LOG", str(tmp_path / "apt.log"))
    monkeypatch.setenv("APT_POOL", str(tmp_path / "pool"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path / "apt.log"


def test_files_of_a_debian_package_are_fetched_with_one_download(debian: Path, target: Path) -> None:
    for name in ("one.gz", "two.gz"):
        fetch(["debian:shelf/usr/share/"], target, name)
        assert_complete_and_alone(target)
        target.unlink()
    calls = debian.read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["update", "shelf"]
    for call in calls:  # nothing of the system's own state
        assert f"-oDir::State::lists={tempfile.tempdir}/" in call
        assert f"-oDir::Cache={tempfile.tempdir}/" in call


@pytest.mark.parametrize(
    ("package", "why"),
    [
        ("nothing", "apt-get download nothing failed: E: Unable to locate package nothing"),
        ("hollow", "apt-get has no package hollow"),
    ],
)
def test_a_debian_package_that_cannot_be_downloaded_is_an_unavailable_source(
    debian: Path, target: Path, package: str, why: str
) -> None:
    with pytest.raises(UserError, match=why):
        fetch([f"debian:{package}/usr/share/"], target, "one.gz")
    assert files_in(Path(str(tempfile.tempdir))) == set()


def test_a_debian_archive_that_cannot_be_reached_is_an_unavailable_source(
    debian: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APT_UPDATE", "7")
    with pytest.raises(UserError, match="apt-get -qq update failed: exit code 7"):
        fetch(["debian:shelf/usr/share/"], target, "one.gz")


def test_without_apt_a_debian_package_is_an_unavailable_source(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="needs apt-get and dpkg-deb"):
        fetch(["debian:shelf/usr/share/"], target, "one.gz")


def test_two_processes_may_unpack_one_debian_package(debian: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRST", f"{tempfile.tempdir}/reprise-debian-{os.getuid()}/shelf")  # the other process finishes first
    fetch(["debian:shelf/usr/share/"], target, "one.gz")
    assert_complete_and_alone(target)


# --- the stage


@pytest.fixture
def two_files(project: ProjectPaths) -> ImageData:
    """A data set of two published files, which no source has."""
    data = compose_dataset(project.root, "digits")
    assert isinstance(data, ImageData)
    files = [data.files[0].model_copy(update={"fetch": name, "sha256": SHA256}) for name in ("one.bin", "two.bin.gz")]
    return data.model_copy(update={"files": files, "sources": ["package:no_such_package/"]})


def publish(server: Server, data: DataConfig) -> None:
    server.files |= {f"{data.mirror}/one.bin": CONTENT, f"{data.mirror}/two.bin.gz": PACKED}


def test_the_mirror_is_tried_first(
    server: Server, two_files: ImageData, project: ProjectPaths, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, two_files)
    monkeypatch.setenv("REPRISE_MIRROR", server.url)
    folder = download.run(two_files, project, console)
    assert files_in(folder) == {"one.bin", "two.bin"}
    assert {(folder / name).read_bytes() for name in files_in(folder)} == {CONTENT}


def test_a_mirror_may_be_a_folder(
    two_files: ImageData, project: ProjectPaths, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror" / two_files.mirror).mkdir(parents=True)
    (tmp_path / "mirror" / two_files.mirror / "one.bin").write_bytes(CONTENT)
    (tmp_path / "mirror" / two_files.mirror / "two.bin.gz").write_bytes(PACKED)
    monkeypatch.setenv("REPRISE_MIRROR", f"{tmp_path}/mirror")
    assert files_in(download.run(two_files, project, console)) == {"one.bin", "two.bin"}


def test_only_files_that_are_missing_or_wrong_are_downloaded(
    server: Server, two_files: ImageData, project: ProjectPaths, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, two_files)
    monkeypatch.setenv("REPRISE_MIRROR", server.url)
    folder = download.run(two_files, project, console)
    server.requests.clear()
    download.run(two_files, project, console)
    assert server.requests == []
    (folder / "two.bin").write_bytes(CONTENT[:-1])
    download.run(two_files, project, console)
    assert [path for path, _ in server.requests] == [f"{two_files.mirror}/two.bin.gz"]
    assert (folder / "two.bin").read_bytes() == CONTENT


def test_a_failed_download_leaves_no_file_under_its_final_name(
    server: Server, two_files: ImageData, project: ProjectPaths, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, two_files)
    del server.files[f"{two_files.mirror}/two.bin.gz"]
    monkeypatch.setenv("REPRISE_MIRROR", server.url)
    with pytest.raises(UserError, match=r"no source has two.bin"):
        download.run(two_files, project, console)
    assert files_in(project.raw(two_files.name)) == {"one.bin"}


def test_of_two_processes_only_one_downloads(
    server: Server, two_files: ImageData, project: ProjectPaths, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, two_files)
    monkeypatch.setenv("REPRISE_MIRROR", server.url)
    at_the_lock = threading.Semaphore(0)

    class Lock(FileLock):
        def acquire(self, *args: Any, **kwargs: Any) -> Any:
            at_the_lock.release()
            return super().acquire(*args, **kwargs)

    def wait_for_both() -> None:
        server.before_response = lambda: None
        assert at_the_lock.acquire(timeout=60)
        assert at_the_lock.acquire(timeout=60)

    monkeypatch.setattr(download, "FileLock", Lock)
    server.before_response = wait_for_both  # the first response waits until the second process is at the lock
    with ThreadPoolExecutor(2) as pool:
        folders = [work.result() for work in [pool.submit(download.run, two_files, project, console) for _ in range(2)]]
    assert sorted(path for path, _ in server.requests) == sorted(server.files)
    assert files_in(folders[0]) == {"one.bin", "two.bin"}


@pytest.mark.parametrize("name", ["digits", "seattle_weather"])
def test_packaged_data_needs_no_network(name: str, project: ProjectPaths, console: Console) -> None:
    data = compose_dataset(project.root, name)
    assert files_in(download.run(data, project, console)) == {file.name for file in data.files}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with one wheel, as the only index of pip."""
    folder = tmp_path / "index"
    folder.mkdir()
    about = "Metadata-Version: 2.1\nName: shelf\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / "shelf-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("shelf/books/one.gz", PACKED)
        wheel.writestr("shelf-1.0.dist-info/METADATA", about)
        wheel.writestr("shelf-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("shelf-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))


def test_a_file_of_a_python_package_is_fetched_by_pip_with_its_version(index: None, target: Path) -> None:
    source = "pip:shelf==1.0/shelf/books/"
    assert fetch([source], target, "one.gz") == f"{source}one.gz"
    assert_complete_and_alone(target)
    with pytest.raises(UserError) as caught:
        fetch(["pip:shelf==1.0/shelf/", "pip:shelf==2.0/shelf/books/"], target, "two.gz")
    assert "pip:shelf==1.0/shelf/two.gz: the package shelf==1.0 has no such file | " in str(caught.value)
    assert "shelf==2.0 failed: ERROR: No matching distribution found for shelf==2.0" in str(caught.value)
