"""Files of labelled sequences: which belong to a data set, and what they hold."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reprise.config.modalities.sequences import Missing, OwnSequences, PublishedSequences
from reprise.data.modalities.sequences.image_rows import read_image_rows
from reprise.data.published import read_files
from reprise.data.sequence_arrays import Sequences, Values, concatenate
from reprise.data.sequence_csv import read_sequence_csv
from reprise.data.tsfile import read_ts
from reprise.errors import UserError

SUFFIXES = (".ts", ".csv", ".tsv", ".txt")
"""Suffixes of files with sequences; all but `.ts` are tables with one sequence a row."""
TRAIN, TEST = "_train", "_test"
"""Ends of the names of a published split, in any case."""


@dataclass(frozen=True)
class DataSet:
    """The sequences of a data set: those of train, then those of test, padded to the longest with 0."""

    sequences: Sequences
    channels: list[str]
    train: int
    """The number of sequences of the training part."""
    test: int
    interpolated: int
    """The number of missing values that were interpolated."""


def own_files(path: Path) -> dict[str, Path]:
    """Return the files of an own data set by part, train and, if there is one, test.

    Raises:
        UserError: if there is no such file, or a folder does not hold one pair.

    """
    if not path.exists():
        raise UserError(f"data.path={path}: no such file or folder", "check the path")
    if path.is_dir():
        path = _training_file(path)
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"data.path={path}: the name of the file ends in none of {', '.join(SUFFIXES)}", "name a file that does")
    others = {one.name.lower(): one for one in path.parent.iterdir() if one.is_file()}
    stem = path.stem.lower()
    test = others.get(f"{stem.removesuffix(TRAIN)}{TEST}{path.suffix.lower()}") if stem.endswith(TRAIN) else None
    return {"train": path} | ({"test": test} if test else {})


def _training_file(folder: Path) -> Path:
    files = [one for one in sorted(folder.iterdir()) if one.suffix.lower() in SUFFIXES and one.stem.lower().endswith(TRAIN)]
    if len(files) != 1:
        found = ", ".join(one.name for one in files[:5]) or "none"
        raise UserError(f"data.path={folder}: {len(files)} files NAME_TRAIN.ts or NAME_TRAIN.csv ({found})", "name the file")
    return files[0]


def read_published(data: PublishedSequences, raw: Path) -> DataSet:
    """Return the sequences of published files.

    Raises:
        UserError: if a file is missing or is not what conf/data/ describes.

    """
    contents = read_files(data, raw)
    read = read_image_rows(data, contents) if data.reader == "idx_rows" else _read_ts_files(data, contents)
    return _joined(read, data.channels, data.missing)


def _read_ts_files(data: PublishedSequences, contents: Mapping[str, bytes]) -> dict[str, Sequences]:
    """Return the sequences of each file, train first."""
    parts = {str(file.array): (file.name, contents[file.name]) for file in data.files}
    if set(parts) not in ({"train"}, {"train", "test"}) or len(parts) < len(data.files):
        raise UserError(f"conf/data/{data.name}.yaml: files: each needs an array", "train, and test where there is a test set")
    files = [parts[part] for part in ("train", "test") if part in parts]
    return {name: replace_labels(read_ts(content, name), data.classes, name) for name, content in files}


def replace_labels(sequences: Sequences, names: Mapping[str, str], file: str) -> Sequences:
    """Return the sequences with the names of the classes in place of the labels of a file."""
    if set(sequences.classes) != set(names):
        found, known = (", ".join(one) for one in (sequences.classes, names))
        raise UserError(f"{file} has the classes {found}, and data.classes names {known}", "name every class once")
    return replace(sequences, classes=[names[label] for label in sequences.classes])


def read_own(data: OwnSequences) -> DataSet:
    """Return the sequences of the user's own files.

    Raises:
        UserError: naming file, row and column of what is not a sequence.

    """
    if data.label == "none":
        raise UserError("data.label=none: a sequence to train on needs a class", "set data.label to first, last or a column")
    found, read = own_files(Path(data.path)), dict[str, Sequences]()
    for file in found.values():
        classes = next(iter(read.values())).classes if read else None
        read[str(file)] = read_file(file, file.read_bytes(), data, classes)
    return _joined(read, data.channels, data.missing)


def read_file(file: Path, content: bytes, data: OwnSequences, classes: list[str] | None) -> Sequences:
    """Return the sequences of one file. `classes` are the names that the classes of a CSV must have."""
    if file.suffix.lower() == ".ts":
        return read_ts(content, str(file))
    channels = len(data.channels or ["value"])
    return read_sequence_csv(content, str(file), data.label, channels, classes, data.separator, data.decimal)


def _joined(files: Mapping[str, Sequences], channels: list[str] | None, missing: Missing) -> DataSet:
    """Return the sequences of all files, train first, without missing values."""
    sizes = [len(sequences.labels) for sequences in files.values()]
    together = concatenate(files)
    found = together.values.shape[2]
    names = channels or ([f"channel {number}" for number in range(1, found + 1)] if found > 1 else ["value"])
    if len(names) != found:
        raise UserError(
            f"{next(iter(files))} has {found} channels, and data.channels names {len(names)}", "name every channel once"
        )
    gaps = together.missing_values()
    if gaps and missing == "refuse":
        raise UserError(
            f"{_first_gap(files)}: a value is missing, and {gaps:,} in all", "write them, or set data.missing=interpolate"
        )
    filled = replace(together, values=complete(together.values, together.lengths, next(iter(files))))
    return DataSet(filled, list(names), sizes[0], sum(sizes[1:]), gaps)


def _first_gap(files: Mapping[str, Sequences]) -> str:
    for name, sequences in files.items():
        inside = np.arange(sequences.values.shape[1]) < sequences.lengths[:, None]
        places = np.argwhere(np.isnan(sequences.values) & inside[..., None])
        if len(places):
            sample, step, channel = (int(one) + 1 for one in places[0])
            return f"{name}, sequence {sample}, step {step}, channel {channel}"
    raise AssertionError("there is a gap")


def complete(values: Values, lengths: npt.NDArray[np.int64], name: str) -> Values:
    """Return `[sample, T, C]` with missing values interpolated linearly over time, and 0 after the end of each sequence.

    Before the first and after the last known value, that value is repeated.
    """
    filled = values.copy()
    for sample, length in enumerate(lengths.tolist()):
        filled[sample, length:] = 0
        for channel in np.flatnonzero(np.isnan(filled[sample, :length]).any(axis=0)):
            column = filled[sample, :length, channel]
            known = np.flatnonzero(~np.isnan(column))
            if not len(known):
                raise UserError(f"{name}: sequence {sample + 1} has no value in channel {channel + 1}", "remove it")
            filled[sample, :length, channel] = np.interp(np.arange(length), known, column[known])
    return filled
