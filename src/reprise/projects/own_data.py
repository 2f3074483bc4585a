"""Find out what the user's data is, and read it with the settings that it needs."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console

from reprise.config import choices, compose_dataset, conf_files
from reprise.data.modality import Processed, arrays_of
from reprise.errors import UserError

TABLES = {".csv", ".tsv", ".txt", ".parquet"}
LARGEST_SIDE = 64
"""The largest side in pixels to which pictures of different sizes are brought by default."""


@dataclass(frozen=True)
class Kind:
    """A kind of own data."""

    modality: str
    base: str
    """The file of conf/data/ that its data set is based on."""
    experiment: str
    """The experiment that its own is based on."""
    remedies: Mapping[str, Any]
    """The value of a key if the file is refused with its default, which refuses."""


IMAGES = Kind("images", "image_folder", "image_folder", {"broken": "leave_out", "duplicates": "leave_out"})
SERIES = Kind(
    "series",
    "csv",
    "forecast_csv",
    {"order": "sort", "duplicates": "mean", "gaps": "forward_fill", "text_cells": "forward_fill", "constant": "keep"},
)
SEQUENCES = Kind("sequences", "ucr", "ucr", {"missing": "interpolate"})


@dataclass(frozen=True)
class OwnData:
    """The user's data as read."""

    kind: Kind
    path: Path
    content: Processed
    settings: dict[str, Any] = field(default_factory=dict)
    """Keys that differ from the defaults."""

    @property
    def has_test(self) -> bool:
        """Whether a test set of its own is there."""
        return any(name.startswith("test/") for name in self.content.arrays)


def name_of(path: Path) -> str:
    """Return a name for the data in a file or folder: letters, digits and underscores, not one that reprise has."""
    stem = path.resolve().name if path.is_dir() else path.stem
    name = re.sub(r"\W+", "_", stem.removesuffix("_TRAIN"), flags=re.ASCII).strip("_").lower() or "mine"
    taken = {*choices(conf_files.shipped(), "data"), *choices(conf_files.shipped(), "experiment")}
    return f"my_{name}" if name in taken or name[0].isdigit() else name


def read(path: Path, overrides: Sequence[str], console: Console) -> OwnData:
    """Read pictures, a table of series, or labelled sequences.

    What the default settings refuse (broken files, gaps, duplicates, …) is left out or filled, and said.

    Args:
        path: a file or folder.
        overrides: keys of the data set that the user sets, such as `data.time=date`.
        console: where findings are printed.

    Raises:
        UserError: when it is none of these, or has a fault that no setting handles.

    """
    if not path.exists():
        raise UserError(f"--from={path}: no such file or folder")
    if path.is_dir():
        return _read(SEQUENCES if any(_sequence_files(path)) else IMAGES, path, overrides, console)
    if path.suffix.lower() == ".ts":
        return _read(SEQUENCES, path, overrides, console)
    if path.suffix.lower() not in TABLES:
        raise UserError(
            f"--from={path}: not a kind of file that reprise reads",
            "name a folder of pictures, a CSV or Parquet table of series, or a .ts or CSV file of labelled sequences",
        )
    return _read_table(path, overrides, console)


def _sequence_files(folder: Path) -> list[Path]:
    return [*folder.glob("*.ts"), *folder.glob("*_TRAIN.csv")]


def _read_table(path: Path, overrides: Sequence[str], console: Console) -> OwnData:
    """Read a table of series; if no column holds dates, read labelled sequences, one in each row."""
    if path.suffix.lower() == ".parquet" or _has_dates(path, overrides):
        return _read(SERIES, path, overrides, console)
    return _read(SEQUENCES, path, overrides, console)


def _has_dates(path: Path, overrides: Sequence[str]) -> bool:
    from reprise.data.tables.cells import read_cells  # late: pyarrow takes half a second to import
    from reprise.data.tables.dates import date_evidence

    if any(item.startswith("data.time=") for item in overrides):
        return True
    try:
        columns = read_cells(path.read_bytes(), path.name, [], everything=True).columns
    except UserError:  # such as a header of numbers, which is a row of a sequence
        return False
    return any(date_evidence(column) for column in columns.values())


def _read(kind: Kind, path: Path, overrides: Sequence[str], console: Console) -> OwnData:
    """Read data; set a key if an error suggests it, until the data is read or no remedy is left."""
    settings: dict[str, Any] = {}
    printed: set[str] = set()
    root = conf_files.shipped()
    while True:
        chosen = [
            f"data.path={path}",
            f"data.name={name_of(path)}",
            *overrides,
            *(f"data.{key}={_text(value)}" for key, value in settings.items()),
        ]
        data = compose_dataset(root, kind.base, chosen)
        try:
            with _new_lines(console, printed):
                content = arrays_of(kind.modality).read(data, path, console)
        except UserError as error:
            key, value = _remedy(kind, path, str(error), settings)
            if not key:
                raise
            settings[key] = value
            console.print(f"init  {error}", highlight=False, markup=False, soft_wrap=True)
            console.print(f"init  so data.{key}={_text(value)}", highlight=False, markup=False, soft_wrap=True)
            continue
        given = {item.partition("=")[0].removeprefix("data."): yaml.safe_load(item.partition("=")[2]) for item in overrides}
        return OwnData(kind, path, content, given | settings)


@contextmanager
def _new_lines(console: Console, printed: set[str]) -> Iterator[None]:
    """Print each line at the end, unless an earlier reading of the same data printed it; add it to `printed`."""
    try:
        with console.capture() as capture:
            yield
    finally:
        lines = capture.get().splitlines()
        for line in lines:
            if line not in printed:
                console.print(line, highlight=False, markup=False, soft_wrap=True)
        printed.update(lines)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).strip()


def _remedy(kind: Kind, path: Path, error: str, tried: Mapping[str, Any]) -> tuple[str, Any]:
    """Return the first key that the hint of an error names, with a value that handles the fault; "" if there is none."""
    for key in re.findall(r"data\.(\w+)", error.partition("; ")[2]):
        if key in tried:
            continue
        if key == "id" and kind is SERIES:
            if column := _series_column(path):
                return key, column
        elif key == "shape":
            return key, _shape(path)
        elif key in kind.remedies:
            return key, kind.remedies[key]
    return "", None


def _series_column(path: Path) -> str:
    """Return the column that names the series of a row: the only one with repeated text, no numbers or dates; or ""."""
    from reprise.data.tables.arrow import pa, pc
    from reprise.data.tables.cells import read_cells
    from reprise.data.tables.dates import date_evidence
    from reprise.data.tables.numbers import is_number_like

    columns = read_cells(path.read_bytes(), path.name, [], everything=True).columns
    found = []
    for name, column in columns.items():
        if is_number_like(column) or date_evidence(column):
            continue
        names = pc.count_distinct(column.cast(pa.string())).as_py()
        if 1 < names <= len(column) // 2:
            found.append(name)
    return found[0] if len(found) == 1 else ""


def _shape(path: Path) -> list[int]:
    """Return a square shape for pictures of different sizes: the median side, at most `LARGEST_SIDE`."""
    from reprise.data.modalities.images import picture_files, pictures

    shapes = [shape for shape in pictures.shapes(picture_files.listing(path).pictures) if shape is not None]
    side = min(LARGEST_SIDE, int(np.median([max(height, width) for height, width, _ in shapes])))
    return [side, side, max(channels for _, _, channels in shapes)]
