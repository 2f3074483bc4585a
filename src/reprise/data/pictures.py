"""Pictures of one's own: which files there are, of which class (a folder each, or a label in a CSV table), and their pixels."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
PARTS = ("train", "test")
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Listed:
    """A picture that is to be read."""

    file: Path
    name: str
    """The file as people know it: relative to what was listed."""
    label: str
    part: str = "train"


@dataclass(frozen=True)
class Picture:
    """A file that was read: its pixels `uint8 [height, width, channel]` or what is wrong with it, and its sha256."""

    listed: Listed
    pixels: Pixels | None
    problem: str
    sha256: str


def listing(path: Path) -> list[Listed]:
    """Every picture of a folder of class folders, or of a CSV table; sorted by part, class and name.

    A folder that holds nothing but the folders train and test is taken for a published split, each with its class folders.

    Raises:
        UserError: when there is no such path, or no class, or a class without a picture.

    """
    if path.is_file():
        return _table(path)
    if not path.is_dir():
        raise UserError(f"data.path={path}: no such folder or file")
    inside = _folders(path)
    if {folder.name for folder in inside} == set(PARTS):
        listed = [one for part in PARTS for one in _classes(path, path / part, part)]
        if unknown := {one.label for one in listed if one.part == "test"} - {one.label for one in listed if one.part == "train"}:
            raise UserError(f"{path}: test has the class {sorted(unknown)[0]}, which train has not")
        return listed
    return _classes(path, path, "train")


def digest(listed: Sequence[Listed]) -> str:
    """A hash of which files are listed, as what, and of which size: pictures that came, went or changed are noticed by it."""
    said = "".join(
        f"{one.part}\t{one.label}\t{one.name}\t{one.file.stat().st_size if one.file.is_file() else -1}\n" for one in listed
    )
    return hashlib.sha256(said.encode()).hexdigest()


def pictures_in(path: Path) -> list[Path]:
    """A picture, or all pictures of a folder and the folders in it, sorted; hidden files and other kinds are passed over."""
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def _folders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _classes(root: Path, folder: Path, part: str) -> list[Listed]:
    classes = _folders(folder)
    if len(classes) < 2:
        raise UserError(f"{folder}: {len(classes)} class folders", "put the pictures of each class into a folder of its own")
    listed = []
    for kind in classes:
        files = pictures_in(kind)
        if not files:
            raise UserError(f"{kind}: no picture in it", f"a class needs some of {', '.join(sorted(SUFFIXES))}")
        listed += [Listed(file, str(file.relative_to(root)), kind.name, part) for file in files]
    return listed


def _table(file: Path) -> list[Listed]:
    """Rows of `file,label`; files are relative to the table."""
    try:
        rows = csv.DictReader(io.StringIO(file.read_text("utf-8-sig")), strict=True)
        if missing := {"file", "label"} - set(rows.fieldnames or ()):
            raise UserError(f"{file} has no column {sorted(missing)[0]!r}", "its first line should be file,label")
        listed: dict[str, Listed] = {}
        for row in rows:
            if not row["file"] or not row["label"]:
                raise UserError(f"{file}, row {rows.line_num}: no {'file' if not row['file'] else 'label'}")
            if row["file"] in listed:
                raise UserError(f"{file}, row {rows.line_num}: {row['file']} stands there twice")
            listed[row["file"]] = Listed(file.parent / row["file"], row["file"], row["label"])
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is no CSV table: {error}") from None
    if (classes := len({one.label for one in listed.values()})) < 2:
        raise UserError(f"{file} names {classes} classes", "there must be at least 2")
    return sorted(listed.values(), key=lambda one: (one.label, one.name))


def read_all(listed: Sequence[Listed], shape: Sequence[int], resize: str) -> Iterator[Picture]:
    """Every picture in the order listed, decoded on all processors."""
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="pictures") as pool:
        yield from pool.map(lambda one: _read(one, shape, resize), listed)


def stacked(read: Iterable[Picture]) -> Pixels:
    """The pixels of pictures that could be read, `uint8 [picture, height, width, channel]`."""
    return np.stack([one.pixels for one in read if one.pixels is not None])


def _read(listed: Listed, shape: Sequence[int], resize: str) -> Picture:
    try:
        content = listed.file.read_bytes()
    except OSError as error:
        return Picture(listed, None, error.strerror or str(error), "")
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        return Picture(listed, decode(content, shape, resize), "", sha256)
    except ValueError as error:
        return Picture(listed, None, str(error), sha256)


def decode(content: bytes, shape: Sequence[int], resize: str) -> Pixels:
    """The pixels of a picture file, `uint8` of the shape [height, width, channel], one channel for grey or three for colour.

    It is turned upright as its camera noted, and brought to size by `resize`: stretch, crop or pad.

    Raises:
        ValueError: when the bytes are no whole picture.

    """
    from PIL import Image, ImageOps, UnidentifiedImageError  # late: only pictures need it

    if not content:
        raise ValueError("empty")
    height, width, channels = shape
    try:
        with Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "BMP", "WEBP"]) as opened:
            picture = ImageOps.exif_transpose(_eight_bits(opened)).convert("L" if channels == 1 else "RGB")
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    except UnidentifiedImageError:
        raise ValueError("no picture") from None
    except Exception as error:  # Pillow and what it stands on fail in as many ways as there are damaged files
        raise ValueError(f"damaged: {error}") from None
    bring: Any = {"stretch": Image.Image.resize, "crop": ImageOps.fit, "pad": ImageOps.pad}[resize]
    how = Image.Resampling.BILINEAR  # Pillow widens it to the size of what is shrunk: nothing is skipped
    return np.array(bring(picture, (width, height), how), np.uint8).reshape(height, width, channels)


def _eight_bits(picture: Any) -> Any:
    """Sixteen bits a pixel become eight; Pillow's own conversion would cut them off at 255."""
    from PIL import Image

    if picture.mode.startswith("I"):
        return Image.fromarray((np.asarray(picture, np.uint32) >> 8).clip(0, 255).astype(np.uint8))
    return picture
