"""Published formats to arrays: pure functions of bytes. `name` is only for messages."""

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

_IDX_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(content: bytes, name: str) -> npt.NDArray[Any]:
    """An IDX file: two zero bytes, a type, a rank, the extents (big-endian), the numbers.

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
    """A headless CSV of one image a row: its pixels row by row, then its label.

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


def read_csv_series(
    content: bytes, name: str, time: str, channels: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """A CSV with a header, one evenly spaced time step a row, its time stamp as in ISO 8601 (without a zone: UTC).

    Returns:
        time stamps `int64 [time]` (nanoseconds since 1970-01-01, UTC) and values `float32 [time, channel]`.

    Raises:
        UserError: naming row and column of a missing column, a text or empty cell, or a gap between time stamps.

    """
    import pandas as pd  # late: 0.4 s, and only series need it

    table = _read_table(content, name, header=0)
    for column in (time, *channels):
        if column not in table.columns:
            raise UserError(f"{name} has no column {column!r}", f"it has {', '.join(map(str, table.columns))}")
    stamps = pd.to_datetime(table[time], errors="coerce", format="ISO8601", utc=True)
    if stamps.isna().any():
        row = stamps.isna().idxmax()
        raise UserError(
            f"{name}, row {row}, column {time}: {table[time][row]!r} is no date", "write dates as 2012-12-31 23:59:59"
        )
    nanoseconds = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    steps = np.diff(nanoseconds)
    rule = max(int(np.median(steps)), 1) if len(steps) else 1
    if (uneven := np.flatnonzero(steps != rule)).size:
        row = int(uneven[0]) + 1
        where = f"{name}, row {table.index[row]}, column {time}"
        raise UserError(f"{where}: {steps[row - 1] / 1e9:.9g} s after the row before, where {rule / 1e9:.9g} s is the rule")
    values = np.stack([_numbers(table[channel], name, f"column {channel}") for channel in channels], axis=1)
    return nanoseconds, values.astype(np.float32)


def _read_table(content: bytes, name: str, header: int | None) -> Any:
    """The cells as text; the index counts rows as an editor does, a header among them. Blank lines are left out."""
    import pandas as pd

    try:
        table = pd.read_csv(io.BytesIO(content), header=header, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except ValueError as error:  # pandas' own errors, and those of the encoding, are ValueErrors
        raise UserError(f"{name} is no CSV table: {error}") from None
    first = 1 if header is None else 2
    if not isinstance(table.index, pd.RangeIndex):  # pandas took the cells too many for an index
        raise UserError(f"{name}, row {first}: more cells than the header has columns")
    table.index += first
    return table[(table != "").any(axis=1)]


def _numbers(column: Any, name: str, where: str) -> npt.NDArray[np.float64]:
    import pandas as pd

    numbers: npt.NDArray[np.float64] = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~(np.abs(numbers) <= np.finfo(np.float32).max)  # nor is NaN
    if bad.any():
        row = int(bad.argmax())
        raise UserError(f"{name}, row {column.index[row]}, {where}: {column.iloc[row]!r} is no float32 number")
    return numbers
