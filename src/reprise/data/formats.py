"""Parsers of published file formats: pure functions from bytes to arrays. `name` is used only in messages."""

import decimal
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data import rounding, timestamps
from reprise.errors import UserError

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(content: bytes, name: str) -> npt.NDArray[Any]:
    """Parse an IDX file: two zero bytes, a type, a rank, the extents (big-endian), the numbers.

    Source: the file format section of LeCun's MNIST page.
    """
    if len(content) < 4 or content[:2] != b"\x00\x00" or content[2] not in _IDX_TYPES:
        raise UserError(f"{name} is no IDX file: it begins with {content[:4]!r}")
    rank = content[3]
    header = 4 + 4 * rank
    if len(content) < header:
        raise UserError(f"{name} ends inside its header")
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(rank))
    dtype = np.dtype(_IDX_TYPES[content[2]])
    expected = math.prod(shape) * dtype.itemsize
    if len(content) - header != expected:
        raise UserError(f"{name} promises {expected} bytes of numbers and holds {len(content) - header}")
    return np.frombuffer(content, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))


def read_csv_images(content: bytes, name: str, shape: Sequence[int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Parse a CSV without header and with one image per row: its pixels row by row, then its label.

    Returns:
        images `uint8 [sample, height, width, channel]` and labels `int64 [sample]`.

    """
    table = _read_table(content, name, header=None)
    pixels = math.prod(shape)
    if table.shape[1] != pixels + 1:
        raise UserError(f"{name} has {table.shape[1]} columns; {pixels} pixels and a label were expected")
    numbers = np.stack([_numbers(table[column], name, f"column {column + 1}") for column in table.columns], axis=1)
    largest = np.array([255.0] * pixels + [2.0**53])
    wrong = np.argwhere((numbers < 0) | (numbers > largest) | (numbers % 1 != 0))
    if len(wrong):
        row, column = wrong[0]
        kind = "label: a whole number" if column == pixels else "pixel: a whole number from 0 to 255"
        raise UserError(f"{name}, row {table.index[row]}, column {column + 1}: {table.iat[row, column]!r} is no {kind}")
    return numbers[:, :-1].astype(np.uint8).reshape(-1, *shape), numbers[:, -1].astype(np.int64)


@dataclass(frozen=True)
class Series:
    """A parsed series: `time` int64 [T], nanoseconds since 1970 (UTC), and `values` float32 or float64 [T, channel]."""

    time: npt.NDArray[np.int64]
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    frequency: timestamps.Frequency
    float64_channels: list[str]
    """Channels that float32 cannot represent. If there is one, all channels are float64."""


def read_csv_series(content: bytes, name: str, time: str, channels: Sequence[str]) -> Series:
    """Parse a CSV with a header and one time step per row, with ISO 8601 timestamps (without an offset: UTC).

    Steps must be equal, or calendar months, quarters, years or working days. Values are float32, or float64 if float32 would lose
    differences within a channel.

    Raises:
        UserError: naming row and column of a missing column, a text or empty cell, or a gap between timestamps.

    """
    first_line = _read_table(content, name, header=None, rows=1)  # as a header, pandas renames the second of two equal names
    for column_name in (time, *channels):
        _demand_column(column_name, [cell for row in first_line.to_numpy().tolist() for cell in row], name)
    table = _read_table(content, name, header=0)
    if len(table) < 2:
        what = "one row" if len(table) else "no row below its header"
        raise UserError(f"{name} has {what}", "a series is at least two time steps, one a row")
    stamps, wall = timestamps.read(table[time], name)
    frequency = timestamps.frequency(stamps, wall)
    if frequency is None:
        raise timestamps.explain(stamps, wall, table[time], name)
    numbers = {channel: _numbers(table[channel], name, f"column {channel}") for channel in channels}
    for channel, column in numbers.items():
        _demand_float64_holds(table[channel], column, f"{name}, column {channel}")
    wide = [channel for channel, column in numbers.items() if rounding.needs_float64(column)]
    values = np.stack([numbers[channel] for channel in channels], axis=1)
    return Series(stamps, values if wide else values.astype(np.float32), frequency, wide)


def _demand_column(column: str, present: list[str], name: str) -> None:
    """Raise UserError, with the most likely reason, unless the table has exactly one such column."""
    if present.count(column) > 1:
        raise UserError(f"{name}: {present.count(column)} columns are called {column!r}", "rename all but one")
    if column in present:
        return
    alike = [one for one in present if one.strip(" \t\"'").lower() == column.strip().lower()]
    if alike and alike[0].strip() == column:
        raise UserError(f"{name}: the column {alike[0]!r} has spaces around its name", "remove them from the header")
    if alike:
        raise UserError(f"{name} has no column {column!r}", f"it has {alike[0]!r}: use the same name in both")
    if len(present) == 1 and (other := next((mark for mark in ";\t|" if mark in present[0]), None)):
        raise UserError(f"{name}: its columns are separated by {other!r}", "separate them by commas")
    raise UserError(f"{name} has no column {column!r}", f"its first line has {', '.join(present) or 'none'}")


def _demand_float64_holds(cells: Any, values: npt.NDArray[np.float64], where: str) -> None:
    """Raise UserError if values have more digits than float64 holds and differ only in those digits."""
    if cells.nunique() == len(np.unique(values)) and not rounding.is_near_resolution(values):
        return
    with decimal.localcontext(prec=100):
        exact, rounded = [decimal.Decimal(cell.strip()) for cell in cells], [decimal.Decimal(value) for value in values.tolist()]
        relative = [np.array([float(one - exact[0]) for one in column]) for column in (exact, rounded)]
    if rounding.rounding_share(*relative) > rounding.LOST:
        raise UserError(
            f"{where}: float64 holds 15 digits, and the values differ in later ones only", "subtract a constant from the column"
        )


def _read_table(content: bytes, name: str, header: int | None, rows: int | None = None) -> Any:
    """Return the cells as text without blank lines, only of the first `rows` lines if given.

    The index counts lines as an editor does, including the header.
    """
    import pandas as pd

    try:
        table = pd.read_csv(
            io.BytesIO(content), header=header, nrows=rows, dtype=str, keep_default_na=False, skip_blank_lines=False
        )
    except pd.errors.EmptyDataError:
        raise UserError(f"{name} is no CSV table: it is empty, or its first line is") from None
    except ValueError as error:  # parser and encoding errors are ValueErrors
        raise UserError(f"{name} is no CSV table: {error}") from None
    first = 1 if header is None else 2
    if not isinstance(table.index, pd.RangeIndex):  # pandas used the extra cells as an index
        raise UserError(f"{name}, row {first}: more cells than the header has columns")
    table.index += first
    return table[(table != "").any(axis=1)]


def _numbers(column: Any, name: str, where: str) -> npt.NDArray[np.float64]:
    import pandas as pd

    numbers: npt.NDArray[np.float64] = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)  # also true for NaN
    if bad.any():
        row = int(bad.argmax())
        where = f"{name}, row {column.index[row]}, {where}: {column.iloc[row]!r}"
        if np.isnan(numbers[row]):
            raise UserError(f"{where} is no number", "fill in what is missing, and write decimals with a point")
        raise UserError(f"{where} is no number in the range of float32", "numbers may be up to 3.4e38 in size")
    return numbers
