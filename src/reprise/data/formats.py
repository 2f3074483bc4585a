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
    numbers = np.stack([_numbers(table[column], name, f"column {column}") for column in table.columns], axis=1)
    if (numbers < 0).any() or (numbers > 255).any() or (numbers != np.floor(numbers)).any():
        raise UserError(f"{name} holds a pixel or label that is not a whole number from 0 to 255")
    return numbers[:, :-1].astype(np.uint8).reshape(-1, *shape), numbers[:, -1].astype(np.int64)


def read_csv_series(
    content: bytes, name: str, time: str, channels: Sequence[str]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """A CSV with a header, one evenly spaced time step a row.

    Returns:
        time stamps `int64 [time]` (seconds since 1970-01-01) and values `float32 [time, channel]`.

    Raises:
        UserError: naming row and column of a missing column, a text or empty cell, or a gap between time stamps.

    """
    import pandas as pd  # late: 0.4 s, and only series need it

    table = _read_table(content, name, header=0)
    for column in (time, *channels):
        if column not in table.columns:
            raise UserError(f"{name} has no column {column!r}", f"it has {', '.join(map(str, table.columns))}")
    stamps = pd.to_datetime(table[time], errors="coerce", format="mixed")
    if stamps.isna().any():
        row = int(stamps.isna().to_numpy().argmax())
        raise UserError(f"{name}, row {row + 2}, column {time}: {table[time].iloc[row]!r} is no date")
    seconds = stamps.to_numpy().astype("datetime64[s]").astype(np.int64)
    steps = np.diff(seconds)
    if len(steps) and (uneven := np.flatnonzero((steps != steps[0]) | (steps <= 0))).size:
        row = int(uneven[0]) + 1
        raise UserError(f"{name}, row {row + 2}: {steps[row - 1]} s after the row before, where {steps[0]} s is the rule")
    values = np.stack([_numbers(table[channel], name, f"column {channel}") for channel in channels], axis=1)
    return seconds, values.astype(np.float32)


def _read_table(content: bytes, name: str, header: int | None) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(io.BytesIO(content), header=header, dtype=str, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:  # pandas' own errors are ValueErrors
        raise UserError(f"{name} is no CSV table: {error}") from None


def _numbers(column: Any, name: str, where: str) -> npt.NDArray[np.float64]:
    import pandas as pd

    numbers: npt.NDArray[np.float64] = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = ~np.isfinite(numbers)
    if bad.any():
        row = int(bad.argmax())
        offset = 2 if isinstance(column.name, str) else 1  # rows as an editor counts them, a header among them
        raise UserError(f"{name}, row {row + offset}, {where}: {column.iloc[row]!r} is no number")
    return numbers
