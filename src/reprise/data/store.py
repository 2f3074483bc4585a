"""The on-disk contract: folders that appear whole or not at all, with a sha256 manifest that is checked when they are opened."""

import contextlib
import errno
import fcntl
import hashlib
import itertools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

MANIFEST = "manifest.json"


@contextlib.contextmanager
def publish(folder: Path) -> Iterator[Path]:
    """A temporary folder to fill, which takes the place of `folder` when the block ends well and vanishes when it does not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _beside(folder) as draft:
        draft.chmod(0o755)
        yield draft
        write_json(draft / MANIFEST, {name: sha256(draft / name) for name in _files(draft)})
        for path in (*draft.rglob("*"), draft):
            _fsync(path)
        _take_place(draft, folder)
        _fsync(folder.parent)


def _take_place(draft: Path, folder: Path) -> None:
    """Rename the draft to `folder`. The old one is moved aside whole before it is deleted: a kill leaves no half of it."""
    with _beside(folder) as aside:
        for turn in itertools.count():
            with contextlib.suppress(FileNotFoundError):
                folder.rename(aside / str(turn))
            try:
                draft.rename(folder)
            except OSError as error:  # another process published the folder in between: the last one stays
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise
            else:
                return


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A temporary folder beside another, gone after the block. Those of processes that were killed go first.

    Whoever works in one holds a lock on it, which the operating system lets go of when its process dies. On a file system that
    cannot lock a folder (NFS) nothing that was left is found dead, so it stays.
    """
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as alone:
            with contextlib.suppress(OSError):
                alone.enter_context(_locked(folder.parent))
            for left in folder.parent.glob(f".{folder.name}.*"):
                with contextlib.suppress(OSError), _locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            with contextlib.suppress(OSError):
                held.enter_context(_locked(made))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, flags: int = 0) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | flags)
        yield
    finally:
        os.close(handle)


def verify(folder: Path, hint: str) -> dict[str, str]:
    """The manifest of a published folder, once every file was found to be as it says; `mend` says what makes the folder.

    Raises:
        UserError: naming the first file that is missing, changed or unknown.

    """
    listed = manifest(folder, hint)
    for name in listed:
        check(folder, name, hint)
    return listed


def manifest(folder: Path, hint: str) -> dict[str, str]:
    """The sha256 of every file of a published folder, once the files there were found to be those it lists."""
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
    """The path of one file of a published folder, once its bytes were found to be those that were written.

    The JSON files of the folder are looked at with it: they are small, and say what the others mean.
    """
    listed = manifest(folder, hint)
    for one in (name, *(other for other in listed if other.endswith(".json"))):
        if one not in listed:
            raise UserError(f"{folder / one} is in no manifest", f"delete {folder}, then {hint}")
        if sha256(folder / one) != listed[one]:
            raise UserError(
                f"{folder / one} is not what was written (sha256 differs from {MANIFEST})", f"delete {folder}, then {hint}"
            )
    return folder / name


def digest(folder: Path) -> str:
    """One hash for the content of a published folder: that of its manifest."""
    return sha256(folder / MANIFEST)


def made(folder: Path) -> Path:
    """A folder, with those above it, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_array(file: Path, array: npt.NDArray[Any]) -> None:
    """An array as .npy, its folders made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.ascontiguousarray(array), allow_pickle=False)


def open_array(file: Path) -> npt.NDArray[Any]:
    """An array, memory-mapped and read-only: only what is touched is read.

    Raises:
        UserError: when the file is no array of plain numbers. It is not unpickled.

    """
    try:
        return np.lib.format.open_memmap(file, mode="r")  # never an archive, never a pickle
    except OSError:
        raise
    except Exception:  # a header fails in as many ways as there are files
        raise UserError(f"{file} holds something else than an array of numbers, and was not run", _remake(file.parent)) from None


def as_json(content: Any) -> str:
    """Return plain values as JSON that a person can read."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def write_json(file: Path, content: Any) -> None:
    """Write plain values as JSON that a person can read."""
    file.write_text(as_json(content), "utf-8")


def read_json(file: Path) -> Any:
    """What `write_json` wrote; in a published folder, once it was found to be what the manifest says.

    Raises:
        UserError: when the file is damaged.

    """
    if file.name != MANIFEST and file.with_name(MANIFEST).is_file():
        check(file.parent, file.name, _remake(file.parent))
    try:
        return json.loads(file.read_text("utf-8"))
    except (ValueError, RecursionError) as error:  # of the encoding, or of JSON
        raise UserError(f"{file} is damaged: {error}", f"delete {file.parent}, then {_remake(file.parent)}") from None


def _remake(folder: Path) -> str:
    """What makes a folder under data/ or mlruns/ again, by what it is a folder of."""
    makers = {"processed": "reprise preprocess", "windows": "reprise window"}
    kinds = [part for part in folder.parts if part in makers]
    return f"make it again with `{makers[kinds[-1]] if kinds else 'dvc repro'}`"


def write_atomically(file: Path, content: bytes) -> None:
    """Replace a file whole: a temporary one beside it, fsync, rename, fsync of the folder. Safe against a kill at any instant."""
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
        error.filename = str(file)  # a write that fails does not say where
        raise
    finally:
        draft.unlink(missing_ok=True)


def sha256(file: Path) -> str:
    """The sha256 of a file's bytes, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(folder: Path) -> list[str]:
    names = (str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())
    return sorted(name for name in names if name != MANIFEST)


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
