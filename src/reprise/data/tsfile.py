"""Read `.ts` files of the UEA and UCR archives of labelled sequences.

The format: lines of comments (#), a header of `@name value` lines, `@data`, then one sequence a line. Its channels are separated
by colons, the values of a channel by commas, and the class is the last part. Source: the format specification of sktime and aeon.
"""

from dataclasses import dataclass, field

import numpy as np

from reprise.data.sequence_arrays import UNKNOWN, Sequences, Values, pack, parse_values
from reprise.data.tables.text import decode
from reprise.errors import UserError

FLAGS = ("timestamps", "missing", "univariate", "equallength", "targetlabel")
NUMBERS = ("dimensions", "dimension", "serieslength")


@dataclass
class _Header:
    name: str
    """Name of the file, for messages."""
    flags: dict[str, bool] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    last_row: int = 0

    @property
    def channels(self) -> int | None:
        """Number of channels, if the header has it."""
        if self.flags.get("univariate"):
            return 1
        return self.numbers.get("dimensions", self.numbers.get("dimension"))


def read_ts(content: bytes, name: str, labelled: bool = True) -> Sequences:
    """Return the sequences of a `.ts` file. Classes have the order of the header.

    Args:
        content: the file.
        name: its name in messages.
        labelled: whether the sequences must have classes. If not and the header has `@classLabel false`, all are of class "".

    Raises:
        UserError: naming the row (and channel and column) that breaks the format or contradicts the header.

    """
    text, _ = decode(content, name)
    lines = text.decode().splitlines()
    header = _read_header(lines, name, labelled)
    samples: list[Values] = []
    labels: list[str] = []
    for row, line in enumerate(lines[header.last_row :], start=header.last_row + 1):
        if not line.strip() or line.startswith(("#", "%")):
            continue
        sample, label = _read_sample(line, f"{name}, row {row}", header, samples)
        samples.append(sample)
        labels.append(label)
    if not samples:
        raise UserError(f"{name}, row {header.last_row}: no sequence after @data", "write one sequence a line")
    return pack(samples, labels, header.classes, [])


def _read_header(lines: list[str], name: str, labelled: bool) -> _Header:
    header = _Header(name)
    for row, line in enumerate(lines, start=1):
        content = line.strip()
        if not content or content.startswith(("#", "%")):
            continue
        where = f"{name}, row {row}"
        if not content.startswith("@"):
            raise UserError(f"{where}, column 1: {content[:40]!r} before @data", "header lines begin with @, comments with #")
        key, *values = content[1:].split() or [""]
        if key.lower() == "data":
            header.last_row = row
            _demand_header(header, where, labelled)
            return header
        _read_tag(header, key, values, where)
    raise UserError(f"{name}, row {len(lines)}: no line @data", "a .ts file has a header, @data and one sequence a line")


def _read_tag(header: _Header, key: str, values: list[str], where: str) -> None:
    tag = key.lower()
    if tag in FLAGS:
        header.flags[tag] = _flag(key, values, where)
    elif tag in NUMBERS:
        if len(values) != 1 or not values[0].isdecimal() or not int(values[0]):
            raise UserError(f"{where}: @{key} {' '.join(values)} is no whole number from 1", "correct the header")
        header.numbers[tag] = int(values[0])
    elif tag == "classlabel":
        header.flags[tag] = _flag(key, values[:1], where)
        header.classes = values[1:]
        if twice := sorted({one for one in header.classes if header.classes.count(one) > 1}):
            raise UserError(f"{where}: @{key} names {twice[0]!r} twice", "name each class once")
    elif tag != "problemname":
        hint = f"known are problemName, {', '.join(FLAGS)}, {', '.join(NUMBERS)}, classLabel and data"
        raise UserError(f"{where}: @{key} is no tag of the header", hint)


def _flag(key: str, values: list[str], where: str) -> bool:
    if len(values) != 1 or values[0].lower() not in {"true", "false"}:
        raise UserError(f"{where}: @{key} {' '.join(values)} is neither true nor false", "correct the header")
    return values[0].lower() == "true"


def _demand_header(header: _Header, where: str, labelled: bool) -> None:
    if header.flags.get("timestamps"):
        raise UserError(f"{where}: @timeStamps is true", "only sequences of equal time steps, without timestamps, are read")
    if header.flags.get("targetlabel"):
        raise UserError(f"{where}: @targetLabel is true: a regression data set", "only sequences with classes are read")
    if not labelled and not header.flags.get("classlabel"):
        header.classes = [UNKNOWN]
        return
    if not header.flags.get("classlabel"):
        raise UserError(
            f"{where}: the header has no @classLabel true", "add the line @classLabel true and the names of the classes"
        )
    if len(header.classes) < 2:
        raise UserError(f"{where}: @classLabel names {len(header.classes)} classes", "a classification has at least two")


def _read_sample(line: str, where: str, header: _Header, samples: list[Values]) -> tuple[Values, str]:
    *channels, label = line.split(":") if header.classes != [UNKNOWN] else [*line.split(":"), UNKNOWN]
    label = label.strip()
    expected = header.channels or (samples[0].shape[1] if samples else len(channels))
    if len(channels) != expected or not channels:
        what = f"{len(channels)} channels and a class, where {expected or 'at least one'} and a class are expected"
        hint = "channels are separated by colons; the class is the last part"
        raise UserError(f"{where}, column {len(channels) + 1}: {what}", hint)
    if label not in header.classes:
        hint = f"the header names {', '.join(header.classes[:12])}"
        raise UserError(f"{where}, column {len(channels) + 1}: {label[:40]!r} is no class", hint)
    columns = [parse_values(channel.split(","), f"{where}, channel {number}") for number, channel in enumerate(channels, start=1)]
    length = _expected_length(header, samples) or len(columns[0])
    for number, column in enumerate(columns, start=1):
        if len(column) != length:
            what = f"{len(column)} values where {length} are expected"
            hint = "sequences have the length of the header; with @equalLength false, all channels of a sequence are equally long"
            raise UserError(f"{where}, channel {number}, column {min(len(column), length) + 1}: {what}", hint)
    return np.stack(columns, axis=1), label


def _expected_length(header: _Header, samples: list[Values]) -> int | None:
    """Return the length that the header promises for all sequences, or None."""
    if header.flags.get("equallength", "serieslength" in header.numbers):
        return header.numbers.get("serieslength", len(samples[0]) if samples else None)
    return None
