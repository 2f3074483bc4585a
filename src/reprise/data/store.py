"""On-disk storage: folders are published atomically, with a sha256 manifest that is checked when files are opened."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

MANIFEST = "manifest.json"
SETTLED = 1.0
"""Seconds after which the times of an unchanged file identify its content: a later write then has a later time."""
_known: dict[Path, tuple[tuple[int, ...], str]] = {}
"""Identity and times of the files that this process has hashed, with their sha256."""


@contextlib.contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder. It replaces `folder` when the block succeeds and is deleted when the block raises."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_sibling(folder) as draft:
        draft.chmod(0o755)
        yield draft
        write_json(draft / MANIFEST, {name: sha256(draft / name) for name in _files(draft)})
        for path in (*draft.rglob("*"), draft):
            _fsync(path)
        _replace_folder(draft, folder)
        _fsync(folder.parent)


def _replace_folder(draft: Path, folder: Path) -> None:
    """Rename the draft to `folder`. The old folder is renamed before it is deleted, so a kill never leaves a part of it."""
    with _temporary_sibling(folder) as discarded:
        for attempt in itertools.count():
            with contextlib.suppress(FileNotFoundError):
                folder.rename(discarded / str(attempt))
            try:
                draft.rename(folder)
            except OSError as error:  # another process published the folder meanwhile: the last one wins
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise
            else:
                return


@contextlib.contextmanager
def _temporary_sibling(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder next to `folder` and delete it after the block. Delete those of killed processes first.

    The process that uses a temporary folder holds a lock on it, which the operating system releases when the process dies. On a
    file system without folder locks (NFS), folders of killed processes stay.
    """
    with contextlib.ExitStack() as own_lock:
        with contextlib.ExitStack() as parent_lock:
            with contextlib.suppress(OSError):
                parent_lock.enter_context(_locked(folder.parent))
            for stale in folder.parent.glob(f".{folder.name}.*"):
                with contextlib.suppress(OSError), _locked(stale, fcntl.LOCK_NB):
                    shutil.rmtree(stale, ignore_errors=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            with contextlib.suppress(OSError):
                own_lock.enter_context(_locked(temporary))
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(handle)


def verify(folder: Path, hint: str) -> dict[str, str]:
    """Check every file of a published folder and return its manifest. `hint` tells how to make the folder again.

    Raises:
        UserError: naming the first file that is missing, changed or unknown.

    """
    listed = manifest(folder, hint)
    for name in listed:
        check(folder, name, hint)
    return listed


def manifest(folder: Path, hint: str) -> dict[str, str]:
    """Return the sha256 of every file of a published folder, after checking that exactly the listed files exist."""
    if not (folder / MANIFEST).is_file():
        raise UserError(f"no {folder / MANIFEST if folder.is_dir() else folder}", hint)
    listed: dict[str, str] = read_json(folder / MANIFEST)
    if not isinstance(listed, dict):
        raise UserError(f"{folder / MANIFEST} is damaged: no object", f"delete {folder}, then {hint}")
    present = set(_files(folder))
    if missing := sorted(set(listed) - present):
        raise UserError(f"{folder / missing[0]} is missing", f"delete {folder}, then {hint}; {MANIFEST} lists it")
    if unknown := sorted(present - set(listed)):
        raise UserError(f"{folder / unknown[0]} is in no manifest", f"delete {folder}, then {hint}")
    return listed


def check(folder: Path, name: str, hint: str) -> Path:
    """Return the path of one file of a published folder, after checking its sha256.

    The JSON files of the folder are checked as well: they are small and describe the others.
    """
    listed = manifest(folder, hint)
    for one in (name, *(other for other in listed if other.endswith(".json"))):
        if one not in listed:
            raise UserError(f"{folder / one} is in no manifest", f"delete {folder}, then {hint}")
        if _sha256_unless_known(folder / one) != listed[one]:
            raise UserError(
                f"{folder / one} is not what was written (sha256 differs from {MANIFEST})", f"delete {folder}, then {hint}"
            )
    return folder / name


def digest(folder: Path) -> str:
    """Return one hash for the content of a published folder: the sha256 of its manifest."""
    return sha256(folder / MANIFEST)


def published_at(folder: Path) -> float:
    """Return the time at which a folder was published, in seconds since 1970."""
    return (folder / MANIFEST).stat().st_mtime


def made(folder: Path) -> Path:
    """Create a folder and its parents if missing, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_array(file: Path, array: npt.NDArray[Any]) -> None:
    """Write an array as .npy; create missing folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def open_array(file: Path) -> npt.NDArray[Any]:
    """Return an array, memory-mapped and read-only.

    Raises:
        UserError: if the file is no array of plain numbers. It is not unpickled.

    """
    try:
        return np.lib.format.open_memmap(file, mode="r")  # never an archive, never a pickle
    except OSError:
        raise
    except Exception:  # a damaged header can raise any exception
        raise UserError(
            f"{file} contains something other than an array of numbers, and was not loaded", _remake(file.parent)
        ) from None


def release_pages(*arrays: npt.NDArray[Any]) -> None:
    """Let the system drop the pages of memory-mapped arrays that were read; they are read again from the file if needed."""
    for array in arrays:
        _advise(array, "MADV_DONTNEED")


def read_at_random(array: npt.NDArray[Any]) -> None:
    """Tell the system that a memory-mapped array is read at random, so that it reads only the pages that are asked for."""
    _advise(array, "MADV_RANDOM")


def _advise(array: npt.NDArray[Any], advice: str) -> None:
    """Give the system advice (madvise(2)) on the file that an array maps; do nothing for other arrays, and on Windows."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap) and hasattr(mmap, advice):
        base.madvise(getattr(mmap, advice))


def as_json(content: Any) -> str:
    """Return plain values as indented JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(file: Path, content: Any) -> None:
    """Write plain values as indented JSON."""
    file.write_text(as_json(content), "utf-8")


def read_json(file: Path) -> Any:
    """Return the content of a JSON file. In a published folder, check its sha256 first.

    Raises:
        UserError: if the file is damaged.

    """
    if file.name != MANIFEST and file.with_name(MANIFEST).is_file():
        check(file.parent, file.name, _remake(file.parent))
    try:
        return json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # encoding or JSON errors
        raise UserError(f"{file} is damaged: {error}", f"delete {file.parent}, then {_remake(file.parent)}") from None


def _remake(folder: Path) -> str:
    """Return the hint how to make a folder under data/ or mlruns/ again."""
    makers = {"processed": "reprise preprocess", "windows": "reprise window"}
    kinds = [part for part in folder.parts if part in makers]
    return f"make it again with `{makers[kinds[-1]] if kinds else 'dvc repro'}`"


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file atomically: write a temporary file next to it, fsync, rename, fsync the folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.chmod(0o644)
        draft.replace(file)
        _fsync(file.parent)
    except OSError as error:
        error.filename = str(file)  # the error of a failed write has no file name
        raise
    finally:
        draft.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """Return the sha256 of a file in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sha256_unless_known(file: Path) -> str:
    """Return the sha256 of a file. A file that has not changed since this process hashed it is not read again."""
    status = file.stat()
    state = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    known, hashed = _known.get(file, ((), ""))
    if known == state:
        return hashed
    settled = time.time() - max(status.st_mtime, status.st_ctime) > SETTLED
    hashed = sha256(file)
    if settled:
        _known[file] = state, hashed
    return hashed


def _files(folder: Path) -> list[str]:
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != MANIFEST)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
