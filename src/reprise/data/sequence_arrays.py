"""Labelled sequences as arrays. Shapes: `T` time steps of the longest sequence, `C` channels."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

Values = npt.NDArray[np.float32]
MISSING = frozenset({"?", "nan"})
"""Markers of a missing value, in lower case."""
UNKNOWN = ""
"""The class of a sequence without label."""


@dataclass(frozen=True)
class Sequences:
    """Sequences of equal or unequal lengths with one class each."""

    values: Values
    """float32 [sample, T, C]. NaN where a value is missing, and after the end of a sequence: code that ignores `lengths` then
    fails visibly instead of learning from padding."""
    lengths: npt.NDArray[np.int64]
    """int64 [sample]."""
    labels: npt.NDArray[np.int64]
    """int64 [sample], positions in `classes`."""
    classes: list[str]
    notes: list[str] = field(default_factory=list)
    """What was detected and counted, one sentence each."""

    def missing_values(self) -> int:
        """Return how many values within the sequences are missing."""
        inside = np.arange(self.values.shape[1]) < self.lengths[:, None]
        return int(np.isnan(self.values[inside]).sum())


def pack(samples: Sequence[Values], labels: Sequence[str], classes: Sequence[str], notes: Sequence[str]) -> Sequences:
    """Return the samples, each float32 [step, C], as one array padded with NaN."""
    lengths = np.array([len(sample) for sample in samples], np.int64)
    values = np.full((len(samples), int(lengths.max()), samples[0].shape[1]), np.nan, np.float32)
    for target, sample in zip(values, samples, strict=True):
        target[: len(sample)] = sample
    positions = {name: position for position, name in enumerate(classes)}
    sequences = Sequences(values, lengths, np.array([positions[label] for label in labels], np.int64), list(classes))
    return Sequences(values, lengths, sequences.labels, sequences.classes, [*notes, *_describe(sequences)])


def _describe(sequences: Sequences) -> list[str]:
    notes = []
    if (missing := sequences.missing_values()) > 0:
        notes.append(f"{missing} values are missing.")
    counts = Counter(sequences.labels.tolist())
    if absent := [name for position, name in enumerate(sequences.classes) if not counts[position]]:
        notes.append(f"No sequence is of class {', '.join(absent)}.")
    return notes


def concatenate(parts: Mapping[str, Sequences]) -> Sequences:
    """Return the samples of several files, by file name, padded to the longest.

    Raises:
        UserError: if the files have different classes or numbers of channels.

    """
    (first, reference), *_ = parts.items()
    for name, part in parts.items():
        if part.classes != reference.classes:
            raise UserError(
                f"{name} has the classes {', '.join(part.classes)}, and {first} {', '.join(reference.classes)}",
                "files of one data set have the same classes in the same order",
            )
        if part.values.shape[2] != reference.values.shape[2]:
            raise UserError(
                f"{name} has {part.values.shape[2]} channels, and {first} {reference.values.shape[2]}",
                "files of one data set have the same channels",
            )
    longest = max(part.values.shape[1] for part in parts.values())
    padded = [
        np.pad(part.values, ((0, 0), (0, longest - part.values.shape[1]), (0, 0)), constant_values=np.nan)
        for part in parts.values()
    ]
    return Sequences(
        np.concatenate(padded),
        np.concatenate([part.lengths for part in parts.values()]),
        np.concatenate([part.labels for part in parts.values()]),
        reference.classes,
        [f"{name}: {note}" for name, part in parts.items() for note in part.notes],
    )


def parse_values(cells: Sequence[str], where: str, columns: Sequence[int] | None = None) -> Values:
    """Return numbers, float32 [step]; missing ones are NaN.

    Args:
        cells: the numbers as text.
        where: file, row and channel, for messages.
        columns: column of each cell, for messages. None: from 1.

    Raises:
        UserError: naming the column of a cell that is no number or is out of the range of float32.

    """
    try:
        values = np.array(cells, np.float64)
    except ValueError:
        values = np.empty(0)
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    if len(values) == len(cells) and np.isfinite(rounded).all() and not any("_" in cell for cell in cells):
        return rounded
    columns = columns or range(1, len(cells) + 1)
    numbers = [_number(cell, f"{where}, column {column}") for cell, column in zip(cells, columns, strict=True)]
    return np.array(numbers, np.float32)


def _number(cell: str, where: str) -> float:
    text = cell.strip()
    if text.lower() in MISSING:
        return float("nan")
    shown = repr(text if len(text) <= 40 else text[:39] + "…")
    try:
        value = float(text.replace("_", "x"))  # Python reads 1_000 as a number
    except ValueError:
        hint = "write a number with a decimal point, or ? for a missing value"
        raise UserError(f"{where}: {shown} is no number", hint) from None
    with np.errstate(over="ignore"):
        fits = np.isfinite(np.float32(value))
    if not fits:
        raise UserError(f"{where}: {shown} is out of the range of float32", "numbers may be up to 3.4e38 in size")
    return value
