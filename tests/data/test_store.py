"""A published folder is complete or absent, and changes to it are detected."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reprise.data import store
from reprise.errors import UserError
from tests.data.conftest import files_in


def publish(folder: Path, word: str) -> None:
    with store.publish(folder) as draft:
        store.write_array(draft / "part" / "numbers.npy", np.arange(5))
        (draft / "word.txt").write_text(word)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    publish(tmp_path / "data" / "set", "first")
    return tmp_path / "data" / "set"


# --- publish


def test_a_published_folder_contains_its_files_and_a_manifest(folder: Path) -> None:
    assert files_in(folder.parent) == {"set/manifest.json", "set/part/numbers.npy", "set/word.txt"}
    assert set(store.verify(folder, "make it")) == {"part/numbers.npy", "word.txt"}
    assert store.verify(folder, "")["word.txt"] == store.sha256(folder / "word.txt")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_nothing_has_the_final_name_before_the_block_ends(tmp_path: Path) -> None:
    with store.publish(tmp_path / "set") as draft:
        (draft / "word.txt").write_text("x")
        assert not (tmp_path / "set").exists()
    assert (tmp_path / "set" / "word.txt").read_text() == "x"


def test_publishing_again_replaces_the_old_folder(folder: Path) -> None:
    with store.publish(folder) as draft:
        (draft / "other.txt").write_text("second")
    assert files_in(folder.parent) == {"set/manifest.json", "set/other.txt"}


@pytest.mark.parametrize("error", [ValueError, UserError, KeyboardInterrupt])
def test_an_exception_keeps_the_old_folder(folder: Path, error: type[BaseException]) -> None:
    before = store.digest(folder)

    def fail() -> None:
        with store.publish(folder) as draft:
            (draft / "word.txt").write_text("half")
            raise error("stop")

    with pytest.raises(error):
        fail()
    assert [path.name for path in folder.parent.iterdir()] == ["set"]
    store.verify(folder, "")
    assert store.digest(folder) == before


KILLED = """
import os, signal, sys
from pathlib import Path
from reprise.data import store

folder, turn = Path(sys.argv[1]), int(sys.argv[2])
renames = iter(range(100))
rename = Path.rename

def killing(self, target):
    if next(renames) == turn:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)

Path.rename = killing
with store.publish(folder) as draft:
    (draft / "word.txt").write_text("second")
    if turn < 0:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("turn", [-1, 0, 1])
def test_a_kill_leaves_no_partial_folder_and_the_next_publication_removes_its_draft(folder: Path, turn: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, folder, str(turn)], check=False)
    assert done.returncode == -signal.SIGKILL
    if folder.exists():
        store.verify(folder, "")
        assert (folder / "word.txt").read_text() == "first"
    publish(folder, "third")
    store.verify(folder, "")
    assert (folder / "word.txt").read_text() == "third"
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_a_folder_published_by_another_process_in_between_is_replaced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename
    intercepted: list[Path] = []

    def late(self: Path, target: Path) -> Path:
        if target == folder and not intercepted:  # the old folder is moved aside; now another process is faster
            intercepted.append(self)
            publish(folder, "the other's")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    publish(folder, "ours")
    assert intercepted
    store.verify(folder, "")
    assert (folder / "word.txt").read_text() == "ours"
    assert [path.name for path in folder.parent.iterdir()] == ["set"]


def test_concurrent_publications_leave_one_complete_folder(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda turn: publish(folder, str(turn)), range(40)))
    store.verify(folder, "")
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_the_digest_depends_only_on_the_content(tmp_path: Path) -> None:
    for name, word in (("a", "same"), ("b/deeper", "same"), ("c", "other")):
        publish(tmp_path / name, word)
    assert store.digest(tmp_path / "a") == store.digest(tmp_path / "b" / "deeper")
    assert store.digest(tmp_path / "a") != store.digest(tmp_path / "c")


# --- verify


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lasting") / "set"
    publish(folder, "first")
    return folder


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_single_flipped_bit_is_detected_anywhere(shared_folder: Path, data: st.DataObject) -> None:
    file = shared_folder / data.draw(st.sampled_from(sorted(files_in(shared_folder))))
    content = file.read_bytes()
    flipped = bytearray(content)
    flipped[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(flipped)
    with pytest.raises(UserError):
        store.verify(shared_folder, "make it again")
    file.write_bytes(content)
    store.verify(shared_folder, "make it again")


@pytest.mark.parametrize("name", ["word.txt", "part/numbers.npy"])
def test_a_missing_file_is_named_with_the_remedy(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(UserError, match=f"{folder}/{name} is missing; delete {folder}, then run `it`"):
        store.verify(folder, "run `it`")


@pytest.mark.parametrize("name", ["extra.txt", "part/.hidden", "part/manifest.json"])
def test_an_extra_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    with pytest.raises(UserError, match=f"{folder}/{name} is in no manifest"):
        store.verify(folder, "run `it`")


def test_a_changed_file_is_named(folder: Path) -> None:
    (folder / "word.txt").write_text("forst")
    with pytest.raises(UserError, match=f"{folder}/word.txt is not what was written"):
        store.verify(folder, "run `it`")


def test_a_file_is_read_again_only_if_it_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    hashed = store.sha256
    monkeypatch.setattr(store, "sha256", lambda file: read.append(file.name) or hashed(file))
    store.check(folder, "word.txt", "")
    store.check(folder, "word.txt", "")
    assert read == ["word.txt"] * 2  # written just now: another write might leave the same times
    monkeypatch.setattr(store, "SETTLED", -1.0)
    store.check(folder, "word.txt", "")
    store.check(folder, "word.txt", "")
    assert read == ["word.txt"] * 3
    times = (folder / "word.txt").stat()
    (folder / "word.txt").write_text("fjrst")
    os.utime(folder / "word.txt", ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match=f"{folder}/word.txt is not what was written"):
        store.check(folder, "word.txt", "")


@pytest.mark.parametrize("missing", ["manifest.json", "."])
def test_a_missing_folder_is_reported_with_the_command_that_makes_it(folder: Path, missing: str) -> None:
    shutil.rmtree(folder) if missing == "." else (folder / missing).unlink()
    with pytest.raises(UserError, match=f"no {folder if missing == '.' else folder / missing}; run `it`"):
        store.verify(folder, "run `it`")


def test_a_nested_file_named_manifest_is_published_like_any_other(tmp_path: Path) -> None:
    with store.publish(tmp_path / "set") as draft:
        (draft / "inner").mkdir()
        (draft / "inner" / "manifest.json").write_text("{}")
    assert set(store.verify(tmp_path / "set", "")) == {"inner/manifest.json"}


# --- arrays and JSON


@settings(max_examples=50, deadline=None)
@given(arrays.arrays(st.sampled_from([np.uint8, np.int64, np.float32, np.bool_]), arrays.array_shapes()))
def test_an_array_is_read_back_unchanged_and_read_only(array: npt.NDArray[Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        store.write_array(Path(name) / "some" / "array.npy", array)
        opened = store.open_array(Path(name) / "some" / "array.npy")
        assert opened.dtype == array.dtype
        assert opened.tobytes() == np.ascontiguousarray(array).tobytes()
        with pytest.raises(ValueError, match="read-only"):
            opened[...] = opened


def test_a_pickled_object_is_neither_written_nor_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle"):
        store.write_array(tmp_path / "a.npy", np.array([{}], object))
    np.save(tmp_path / "b.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"b\.npy contains something other than an array of numbers, and was not loaded"):
        store.open_array(tmp_path / "b.npy")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=50, deadline=None)
@given(JSON)
def test_json_is_read_back_unchanged(content: object) -> None:
    with tempfile.TemporaryDirectory() as name:
        store.write_json(Path(name) / "a.json", content)
        assert store.read_json(Path(name) / "a.json") == content


@pytest.mark.parametrize("content", [b"", b'{"a": ', b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=f"{tmp_path}/a.json is damaged"):
        store.read_json(tmp_path / "a.json")


# --- write_atomically


def test_a_file_is_replaced_atomically_and_leaves_no_temporary_file(tmp_path: Path) -> None:
    for content in (b"first", b"", b"second" * 1000):
        store.write_atomically(tmp_path / "deep" / "a.bin", content)
        assert (tmp_path / "deep" / "a.bin").read_bytes() == content
        assert files_in(tmp_path) == {"deep/a.bin"}
    assert stat.S_IMODE((tmp_path / "deep" / "a.bin").stat().st_mode) == 0o644


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_file_that_cannot_be_written_keeps_its_old_content(tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_atomically(tmp_path / "a.bin", b"first")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if step == "fsync" else Path, step, full)
    with pytest.raises(OSError, match="No space left"):
        store.write_atomically(tmp_path / "a.bin", b"second")
    assert (tmp_path / "a.bin").read_bytes() == b"first"
    assert files_in(tmp_path) == {"a.bin"}


def test_the_old_content_is_kept_until_the_new_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_atomically(tmp_path / "a.bin", b"first")
    fsync, contents = os.fsync, []

    def record(handle: int) -> None:
        contents.append((tmp_path / "a.bin").read_bytes())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", record)
    store.write_atomically(tmp_path / "a.bin", b"second")
    assert contents == [b"first", b"second"]  # the file before its rename, its folder after it
