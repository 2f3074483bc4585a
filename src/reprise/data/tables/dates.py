"""Parse timestamps of a table: detect their notation, and return instants and local time in nanoseconds since 1970.

`time` is UTC and `wall` the local time of the same instants, both int64 [row].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from reprise.data.tables.arrow import pa, pc
from reprise.data.tables.cells import Cells
from reprise.data.tables.date_parts import IN_RANGE, MONTHS, WRITE, YEARS, from_parts, offsets
from reprise.data.tables.format import EPOCHS
from reprise.data.timestamps import Nanoseconds
from reprise.errors import UserError

SAMPLE = 1000
"""Cells from which the notation is detected."""

_CLOCK = (
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d+))?)?(?: ?(?P<ap>[AaPp])\.?[Mm]\.?)?)?"
    r" ?(?P<o>Z|UTC|GMT|[+\-−]\d{2}(?::?\d{2})?)?"
)
_MONTH = r"(?P<mon>[A-Za-z]{3,9})\.?"
_NOTATIONS = {
    "year-month-day": r"(?P<y>\d{4})(?:[-/.](?P<m>\d{1,2})[-/.](?P<d>\d{1,2})" + _CLOCK + ")?",
    "year and month": r"(?P<y>\d{4})[-/](?P<m>\d{1,2})",
    "year and week": r"(?P<y>\d{4})-?W(?P<w>\d{2})(?:-?(?P<wd>[1-7]))?",
    "year and quarter": r"(?P<y>\d{4})[- ]?Q(?P<q>[1-4])",
    "quarter and year": r"Q(?P<q>[1-4])[- /]?(?P<y>\d{4})",
    "YYYYMMDD": r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})?(?:[T ]?(?P<H>\d{2}):?(?P<M>\d{2})?:?(?P<S>\d{2})?)?(?P<o>Z)?",
    "epoch": r"(?P<e>[+\-−]?\d+)(?:[.,](?P<ef>\d*))?",
    "month and year": r"(?P<m>\d{1,2})[-/](?P<y>\d{4})",
    "day and month in figures": r"(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4}|\d{2})\.?,?" + _CLOCK,
    "day, name of the month, year": r"(?P<d>\d{1,2})[-. /]*" + _MONTH + r"[-. ,/]*(?P<y>\d{4}|\d{2})" + _CLOCK,
    "name of the month, day, year": _MONTH + r"[- ]+(?P<d>\d{1,2}),? +(?P<y>\d{4})" + _CLOCK,
    "name of the month and year": _MONTH + r"[-. ,/]*(?P<y>\d{4}|\d{2})",
    "year and name of the month": r"(?P<y>\d{4})[-. /]*" + _MONTH,
}
"""Patterns of whole cells by name. Of two that fit equally many cells, the first is taken. Numbers with a point are no dates:
2020.5 may be a decimal year."""


@dataclass(frozen=True)
class Stamps:
    """Timestamps of a table."""

    wall: Nanoseconds
    """Time as written, without its offset."""
    offset: Nanoseconds | None
    """Offset from UTC as written. None: the timestamps are naive."""
    notes: tuple[str, ...] = ()

    @property
    def time(self) -> Nanoseconds:
        """Instants; naive timestamps count as UTC."""
        return self.wall if self.offset is None else self.wall - self.offset


def date_evidence(array: Any) -> int:
    """Return whether a column holds timestamps: 2 (surely), 1 (its numbers may be years or epoch times) or 0."""
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return 2
    if not (pa.types.is_string(array.type) or pa.types.is_integer(array.type)):
        return 0
    array = array.slice(0, SAMPLE).cast(pa.string())
    name, share = _notation(array)
    if share < 0.5:
        return 0
    if name == "epoch":
        return int(_epoch_unit(array) is not None)
    if "(?P<mon>" in _NOTATIONS[name] and not _names_months(array, name):
        return 0
    digits = sum(character.isdigit() or character == "." for character in array[0].as_py())
    return 1 if digits == len(array[0].as_py()) and name in {"year-month-day", "YYYYMMDD"} else 2


def _names_months(array: Any, name: str) -> bool:
    """Return whether at least half of the words in the place of a month are months. `Shop 07` has the form of `Jan 07`."""
    words = pc.unique(pc.struct_field(pc.extract_regex(array, f"^(?:{_NOTATIONS[name]})$"), "mon").drop_null()).to_pylist()
    return 2 * sum(word[:3].lower() in MONTHS for word in words) >= len(words)


def parse_dates(cells: Cells, column: str, date_format: str = "auto") -> Stamps:
    """Parse a column of timestamps.

    Args:
        cells: the table.
        column: the column.
        date_format: auto, a strptime format, or epoch_s, epoch_ms, epoch_us, epoch_ns (may have a fraction).

    Raises:
        UserError: naming the first cell that is no date, out of range or ambiguous in the order of day and month.

    """
    array = cells.columns[column]
    if array.null_count:
        raise cells.first_error(column, array.is_null().to_numpy(zero_copy_only=False), "is no date", "a row needs a timestamp")
    if pa.types.is_timestamp(array.type) or pa.types.is_date(array.type):
        return _from_type(cells, column, array)
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    if date_format not in {"auto", *EPOCHS}:
        return _from_format(cells, column, array, date_format)
    name = "epoch" if date_format in EPOCHS else _notation(array)[0]
    if date_format == "auto" and name == "YYYYMMDD" and _is_epoch_rather(array):
        name = "epoch"
    fields = pc.extract_regex(array, f"^(?:{_NOTATIONS[name]})$")
    wrong = fields.is_null().to_numpy(zero_copy_only=False)
    if wrong.any():
        usual = cells.text(int((~wrong).argmax()), column) if not wrong.all() else None
        hint = f"the other rows are written as {usual}" if usual else WRITE
        raise cells.first_error(column, wrong, "is no date", hint)
    if name == "epoch":
        return _from_epoch(cells, column, array, fields, date_format)
    return Stamps(*from_parts(cells, column, fields, name))


def _notation(array: Any) -> tuple[str, float]:
    """Return the notation that most cells of a sample follow, and their share."""
    sample = array.slice(0, SAMPLE)
    if not len(sample):
        return next(iter(_NOTATIONS)), 0.0
    counts = {name: pc.sum(pc.match_substring_regex(sample, f"^(?:{pattern})$")).as_py() for name, pattern in _NOTATIONS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best, counts[best] / len(sample)


# --- types, explicit formats, epochs


def _from_type(cells: Cells, column: str, array: Any) -> Stamps:
    zone = array.type.tz if pa.types.is_timestamp(array.type) else None
    try:
        instants = array.cast(pa.timestamp("ns", zone))
    except pa.ArrowInvalid:
        years = pc.year(array.cast(pa.timestamp("s"), safe=False)).to_numpy(zero_copy_only=False)
        outside = (years < YEARS[0]) | (years > YEARS[1])
        raise cells.first_error(column, outside, "is out of range", IN_RANGE) from None
    time = instants.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if zone is None:
        return Stamps(time, None)
    try:
        wall = pc.local_timestamp(instants).cast(pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # neither the system nor Arrow knows the zone
        what = f"{cells.name}, row {cells.row(0)}, column {column}: the time zone {zone} is unknown"
        raise UserError(what, "write the column with a zone such as Europe/Berlin or UTC") from None
    return Stamps(wall, wall - time, (f"The time zone of the file is {zone}.",))


def _from_format(cells: Cells, column: str, array: Any, date_format: str) -> Stamps:
    import pandas as pd

    text = array.to_pandas()
    zoned = "%z" in date_format
    try:
        parsed = pd.to_datetime(text, format=date_format, errors="coerce", utc=zoned)
    except ValueError as error:
        raise UserError(f"data.date_format={date_format}: {error}", "use the directives of strptime") from None
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        raise cells.first_error(column, wrong, f"is no date of the form {date_format}", "correct the cell or data.date_format")
    wrong = ((parsed.dt.year < YEARS[0]) | (parsed.dt.year > YEARS[1])).to_numpy()
    if wrong.any():
        raise cells.first_error(column, wrong, "is out of range", IN_RANGE)
    time = (parsed.dt.tz_localize(None) if zoned else parsed).to_numpy().astype("datetime64[ns]").astype(np.int64)
    if not zoned:
        return Stamps(time, None)
    offset = offsets(pc.struct_field(pc.extract_regex(array, r"(?P<o>Z|[+-]\d{2}:?\d{2})\s*$"), "o"))
    return Stamps(time + offset, offset)


def _epoch_unit(array: Any) -> str | None:
    """Return the notation whose epoch times are in 1973 or later, or None if the numbers are too small."""
    digits = sorted(len(cell.lstrip("+-−0").replace(",", ".").split(".")[0]) for cell in array.slice(0, SAMPLE).to_pylist())
    middle = digits[len(digits) // 2]
    return next((name for name, most in zip(EPOCHS, (11, 14, 17, 19), strict=True) if most - 3 < middle <= most), None)


def _is_epoch_rather(array: Any) -> bool:
    """Return whether digits are an epoch time because they are no dates as YYYYMMDD."""
    if not pc.all(pc.match_substring_regex(array, r"^\d+$")).as_py():
        return False
    lengths = pc.unique(pc.utf8_length(array)).to_pylist()
    if len(lengths) > 1 or lengths[0] not in {6, 8, 10, 12, 14}:
        return bool(max(lengths) > 8)
    pattern = r"^[12]\d{3}(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])?(?:[0-5]\d){0,2})?$"
    return not pc.all(pc.match_substring_regex(array, pattern)).as_py()


def _from_epoch(cells: Cells, column: str, array: Any, fields: Any, date_format: str) -> Stamps:
    name = _epoch_unit(array) if date_format == "auto" else date_format
    if name is None:
        what = "is neither a date nor seconds, milliseconds, microseconds or nanoseconds since 1970 in a plausible year"
        raise cells.error(0, column, what, "if it counts seconds from the start, set data.date_format=epoch_s")
    unit = EPOCHS[name]
    whole, fraction = pc.replace_substring(pc.struct_field(fields, "e"), "−", "-"), pc.struct_field(fields, "ef").fill_null("")
    places = len(str(unit)) - 1
    lost = pc.match_substring_regex(fraction, rf"^\d{{{places}}}\d*[1-9]").to_numpy(zero_copy_only=False)
    if lost.any():
        raise cells.first_error(column, lost, "has digits beyond nanoseconds", "round the timestamps to nanoseconds")
    limit = (1 << 63) // unit - 1
    numbers = pc.cast(whole, pa.float64()).to_numpy(zero_copy_only=False)
    if (outside := np.abs(numbers) > limit).any():
        raise cells.first_error(column, outside, "is out of range", IN_RANGE)
    time = pc.cast(pc.utf8_ltrim(whole, "+"), pa.int64()).to_numpy(zero_copy_only=False) * unit
    if places:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, places, "0"), 0, places)
        rest = pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)
        time = time + np.where(pc.starts_with(whole, "-").to_numpy(zero_copy_only=False), -rest, rest)
    words = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds", "epoch_ns": "nanoseconds"}[name]
    return Stamps(time, np.zeros(len(time), np.int64), (f"Timestamps are {words} since 1970 (UTC).",))
