"""List the picture files of a folder of class folders or of a CSV table.

Every file below the folder is either listed to be read, or returned as left out with the reason.
"""

import csv
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reprise.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".dib", ".webp", ".gif", ".tif", ".tiff"}
"""Suffixes of picture files, case-insensitive. A file without a suffix is read if it has the signature of a picture."""
PARTS = ("train", "test")
PART_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation", "dev"}
"""Folder names that denote a part of a published split, not a class."""
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*")

HIDDEN = "hidden"
NO_PICTURE = "no picture format that is read"
_LOOP = "a link to a folder that contains it"


@dataclass(frozen=True)
class Listed:
    """A picture file to read."""

    file: Path
    name: str
    """Path relative to the listed folder or table, for messages."""
    label: str
    part: str = "train"


@dataclass(frozen=True)
class LeftOut:
    """A file, or a hidden folder of `files` files, that is not read."""

    name: str
    why: str
    files: int = 1


@dataclass(frozen=True)
class Listing:
    """The pictures of a data set, sorted by part, class and name, and all other files found."""

    pictures: list[Listed]
    left_out: list[LeftOut]

    @property
    def classes(self) -> list[str]:
        """The class names, sorted."""
        return sorted({one.label for one in self.pictures})


def listing(path: Path) -> Listing:
    """Return the pictures of a folder of class folders, or of a CSV table.

    A folder that contains only the folders train and test is a published split, each with its class folders. Links to files and
    folders are followed; a link to a parent folder is left out.

    Raises:
        UserError: if there is no such path, no class, or a class without pictures.

    """
    if path.is_file():
        return Listing(_table(path), [])
    if not path.is_dir():
        raise UserError(f"data.path={path}: no such folder or file")
    top = _scan(path, frozenset())
    names = {folder.name for folder in top.folders}
    if names == set(PARTS):
        listed, left_out = [], _named(path, [*top.left_out, *_beside(top)])
        for part in PARTS:
            pictures, others = _classes(path, path / part, part, top.above)
            listed += pictures
            left_out += others
        if unknown := {one.label for one in listed if one.part == "test"} - {one.label for one in listed if one.part == "train"}:
            raise UserError(f"{path}: test has the class {sorted(unknown)[0]}, which train has not")
        return Listing(listed, left_out)
    if len(names) > 1 and {name.lower() for name in names} <= PART_NAMES:
        raise UserError(
            f"{path} holds the folders {', '.join(sorted(names))}: a published split consists of train and test",
            "name them so, and put the pictures of any other part into train (window.val_size draws the validation split)",
        )
    return Listing(*_classes(path, path, "train", frozenset()))


def digest(listed: Sequence[Listed]) -> str:
    """Return a hash of the listed files: part, label, name and size of each."""
    text = "".join(
        f"{one.part}\t{one.label}\t{one.name}\t{one.file.stat().st_size if one.file.is_file() else -1}\n" for one in listed
    )
    return hashlib.sha256(text.encode()).hexdigest()


def pictures_in(path: Path) -> tuple[list[Path], list[LeftOut]]:
    """Return a picture file, or all pictures below a folder, sorted; and the other files found there."""
    if not path.is_dir():
        return [path], []
    files, left_out = _below(path, frozenset())
    return files, _named(path, left_out)


@dataclass(frozen=True)
class _Scan:
    """One folder: its subfolders, picture files, files left out, and the device and inode numbers of it and its parents."""

    folders: list[Path]
    files: list[Path]
    left_out: list[tuple[Path, str]]
    above: frozenset[tuple[int, int]]


def _scan(folder: Path, above: frozenset[tuple[int, int]]) -> _Scan:
    folders, files, left_out = [], [], []
    try:
        state = folder.stat()
        entries = sorted(folder.iterdir())
    except OSError as error:
        return _Scan([], [], [(folder, error.strerror or str(error))], above)
    above |= {(state.st_dev, state.st_ino)}
    for entry in entries:
        why, is_folder = _kind(entry, above)
        if why:
            left_out.append((entry, why))
        elif is_folder:
            folders.append(entry)
        else:
            files.append(entry)
    return _Scan(folders, files, left_out, above)


def _kind(entry: Path, above: frozenset[tuple[int, int]]) -> tuple[str, bool]:
    """Return why an entry of a folder is not read ("" if it is read), and whether it is a folder."""
    if entry.name.startswith("."):
        return HIDDEN, False
    try:
        state = entry.stat()
        if stat.S_ISDIR(state.st_mode):
            return (_LOOP if (state.st_dev, state.st_ino) in above else ""), True
        if not stat.S_ISREG(state.st_mode):
            return "no regular file", False
        return ("" if _is_picture(entry) else NO_PICTURE), False
    except OSError as error:
        broken_link = isinstance(error, FileNotFoundError) and entry.is_symlink()
        return "a link to nothing" if broken_link else error.strerror or str(error), False


def _is_picture(file: Path) -> bool:
    if file.suffix:
        return file.suffix.lower() in SUFFIXES
    with file.open("rb") as stream:
        first = stream.read(12)
    return first.startswith(_SIGNATURES) or (first[:4] == b"RIFF" and first[8:] == b"WEBP")


def _below(folder: Path, above: frozenset[tuple[int, int]]) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Return all picture files below a folder, sorted, and the files left out."""
    files, left_out, pending = [], [], [(folder, above)]
    while pending:
        scan = _scan(*pending.pop())
        files += scan.files
        left_out += scan.left_out
        pending += [(inner, scan.above) for inner in scan.folders]
    return sorted(files), sorted(left_out)


def _named(root: Path, left_out: Sequence[tuple[Path, str]]) -> list[LeftOut]:
    """Return the files left out, named relative to `root`. A hidden folder counts as the number of its files."""
    named = []
    for path, why in left_out:
        inside = 1
        if why == HIDDEN and path.is_dir() and not path.is_symlink():
            inside = sum(len(files) for _, _, files in os.walk(path))
        named.append(LeftOut(_text(path.relative_to(root)), why, inside))
    return named


def _text(path: Path | str) -> str:
    """Return a file name as text that can be encoded as UTF-8; file systems allow any bytes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _beside(top: _Scan) -> list[tuple[Path, str]]:
    return [(file, "outside the class folders") for file in top.files]


def _classes(root: Path, folder: Path, part: str, above: frozenset[tuple[int, int]]) -> tuple[list[Listed], list[LeftOut]]:
    top = _scan(folder, above)
    left_out = _named(root, sorted([*top.left_out, *_beside(top)]))
    if len(top.folders) < 2:
        hidden = [one.name for one in left_out if one.why == HIDDEN and (root / one.name).is_dir()]
        note = f" (and hidden ones, which are not read: {', '.join(hidden)})" if hidden else ""
        raise UserError(
            f"{folder}: {len(top.folders)} class folders{note}", "put the pictures of each class into a folder of its own"
        )
    listed = []
    for kind in top.folders:
        files, others = _below(kind, top.above)
        if not files:
            raise UserError(f"{kind}: no picture in it", f"a class needs some of {', '.join(sorted(SUFFIXES))}")
        listed += [Listed(file, _text(file.relative_to(root)), _text(kind.name), part) for file in files]
        left_out += _named(root, others)
    return listed, left_out


def _table(file: Path) -> list[Listed]:
    """Return the files of a table with the columns `file,label`; paths are relative to the table."""
    try:
        listed = _unique(_rows(file), file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is no CSV table: {error}") from None
    if (classes := len({one.label for one in listed.values()})) < 2:
        raise UserError(f"{file} names {classes} classes", "there must be at least 2")
    return sorted(listed.values(), key=lambda one: (one.label, one.name))


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line number, file and label of each row."""
    rows = csv.DictReader(io.StringIO(file.read_text("utf-8-sig")), strict=True)
    if missing := {"file", "label"} - set(rows.fieldnames or ()):
        raise UserError(f"{file} has no column {sorted(missing)[0]!r}", "its first line should be file,label")
    for row in rows:
        if not row["file"] or not row["label"]:
            raise UserError(f"{file}, row {rows.line_num}: no {'file' if not row['file'] else 'label'}")
        yield rows.line_num, row["file"], row["label"]


def _unique(rows: Iterator[tuple[int, str, str]], file: Path) -> dict[str, Listed]:
    listed: dict[str, Listed] = {}
    for line, name, label in rows:
        if name in listed:
            raise UserError(f"{file}, row {line}: {name} is listed twice")
        listed[name] = Listed(file.parent / name, name, label)
    return listed
