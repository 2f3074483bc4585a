"""Parse timestamps of a table: detect their notation, and return instants and local time in nanoseconds since 1970.

`time` is UTC and `wall` the local time of the same instants, both int64 [row].
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.arrow import pa, pc
from reprise.data.table_cells import Cells
from reprise.data.table_format import EPOCHS
from reprise.errors import UserError

Nanoseconds = npt.NDArray[np.int64]
Parts = dict[str, npt.NDArray[np.int64]]
SECOND = 10**9
DAY = 86_400 * SECOND
YEARS = (1678, 2261)
"""Years whose nanoseconds int64 holds."""
IN_RANGE = f"nanoseconds hold the years {YEARS[0]} to {YEARS[1]}"
WRITE = "write dates as 2012-12-31 23:59:59, or set data.date_format"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
PIVOT = 69
"""Two-digit years from here on are in the 20th century, as in POSIX strptime."""
SAMPLE = 1000
"""Cells from which the notation is detected."""

_CLOCK = (
    r"(?:[T ]+(?P<H>\d{1,2}):(?P<M>\d{2})(?::(?P<S>\d{2})(?:[.,](?P<f>\d+))?)?(?: ?(?P<ap>[AaPp])\.?[Mm]\.?)?)?"
    r" ?(?P<o>Z|UTC|GMT|[+\-−]\d{2}(?::?\d{2})?)?"
)
_MONTH = r"(?P<mon>[A-Za-z]{3,9})\.?"
_NOTATIONS = {
    "year-month-day": r"(?P<y>\d{4})(?:[-/.](?P<m>\d{1,2})(?:[-/.](?P<d>\d{1,2})" + _CLOCK + ")?)?",
    "year and quarter": r"(?P<y>\d{4})[- ]?Q(?P<q>[1-4])",
    "quarter and year": r"Q(?P<q>[1-4])[- /]?(?P<y>\d{4})",
    "YYYYMMDD": r"(?P<y>\d{4})(?P<m>\d{2})(?P<d>\d{2})?(?:[T ]?(?P<H>\d{2}):?(?P<M>\d{2})?:?(?P<S>\d{2})?)?(?P<o>Z)?",
    "epoch": r"(?P<e>[+\-−]?\d+)(?:[.,](?P<ef>\d*))?",
    "month/year": r"(?P<m>\d{1,2})[-/.](?P<y>\d{4})",
    "day and month in figures": r"(?P<a>\d{1,2})(?P<s>[-/.])(?P<b>\d{1,2})[-/.](?P<y>\d{4}|\d{2})\.?,?" + _CLOCK,
    "day, name of the month, year": r"(?P<d>\d{1,2})[-. /]*" + _MONTH + r"[-. ,/]*(?P<y>\d{4}|\d{2})" + _CLOCK,
    "name of the month, day, year": _MONTH + r"[- ]+(?P<d>\d{1,2}),? +(?P<y>\d{4})" + _CLOCK,
    "name of the month and year": _MONTH + r"[-. ,/]*(?P<y>\d{4}|\d{2})",
    "year and name of the month": r"(?P<y>\d{4})[-. /]*" + _MONTH,
}
"""Patterns of whole cells by name. Of two that fit equally many cells, the first is taken."""


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
    digits = sum(character.isdigit() or character == "." for character in array[0].as_py())
    return 1 if digits == len(array[0].as_py()) and name in {"year-month-day", "YYYYMMDD", "month/year"} else 2


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
        raise _first_error(cells, column, array.is_null().to_numpy(zero_copy_only=False), "is no date", "a row needs a timestamp")
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
        hint = (
            f"the other rows are written as {usual}" if usual else "write dates as 2012-12-31 23:59:59, or set data.date_format"
        )
        raise _first_error(cells, column, wrong, "is no date", hint)
    if name == "epoch":
        return _from_epoch(cells, column, array, fields, date_format)
    return _from_parts(cells, column, fields, name)


def _first_error(cells: Cells, column: str, wrong: npt.NDArray[np.bool_], what: str, hint: str) -> UserError:
    others = np.count_nonzero(wrong) - 1
    return cells.error(int(wrong.argmax()), column, what + (f" (and {others} more)" if others else ""), hint)


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
        raise _first_error(
            cells, column, outside, "is out of range", f"nanoseconds hold the years {YEARS[0]} to {YEARS[1]}"
        ) from None
    time = instants.cast(pa.int64()).to_numpy(zero_copy_only=False)
    if zone is None:
        return Stamps(time, None)
    wall = pc.local_timestamp(instants).cast(pa.int64()).to_numpy(zero_copy_only=False)
    return Stamps(wall, wall - time, (f"The time zone of the file is {zone}.",))


def _from_format(cells: Cells, column: str, array: Any, date_format: str) -> Stamps:
    import pandas as pd

    if "%" not in date_format:
        raise UserError(
            f"data.date_format={date_format}: no format of dates", f"use auto, {', '.join(EPOCHS)}, or a format such as %d/%m/%Y"
        )
    text = array.to_pandas()
    zoned = "%z" in date_format
    try:
        parsed = pd.to_datetime(text, format=date_format, errors="coerce", utc=zoned)
    except ValueError as error:
        raise UserError(f"data.date_format={date_format}: {error}", "use the directives of strptime") from None
    wrong = parsed.isna().to_numpy()
    if wrong.any():
        raise _first_error(cells, column, wrong, f"is no date of the form {date_format}", "correct the cell or data.date_format")
    wrong = ((parsed.dt.year < YEARS[0]) | (parsed.dt.year > YEARS[1])).to_numpy()
    if wrong.any():
        raise _first_error(cells, column, wrong, "is out of range", IN_RANGE)
    time = (parsed.dt.tz_localize(None) if zoned else parsed).to_numpy().astype("datetime64[ns]").astype(np.int64)
    if not zoned:
        return Stamps(time, None)
    naive = pd.to_datetime(
        text.str.replace(r" ?(?:Z|[+-]\d{2}:?\d{2})", "", regex=True), format=date_format.replace("%z", "").strip()
    )
    wall = naive.to_numpy().astype("datetime64[ns]").astype(np.int64)
    return Stamps(wall, wall - time)


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
        raise _first_error(cells, column, lost, "has digits beyond nanoseconds", "round the timestamps to nanoseconds")
    limit = (1 << 63) // unit - 1
    numbers = pc.cast(whole, pa.float64()).to_numpy(zero_copy_only=False)
    if (outside := np.abs(numbers) > limit).any():
        raise _first_error(cells, column, outside, "is out of range", IN_RANGE)
    time = pc.cast(pc.utf8_ltrim(whole, "+"), pa.int64()).to_numpy(zero_copy_only=False) * unit
    if places:
        padded = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, places, "0"), 0, places)
        rest = pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)
        time = time + np.where(pc.starts_with(whole, "-").to_numpy(zero_copy_only=False), -rest, rest)
    words = {"epoch_s": "seconds", "epoch_ms": "milliseconds", "epoch_us": "microseconds", "epoch_ns": "nanoseconds"}[name]
    return Stamps(time, np.zeros(len(time), np.int64), (f"Timestamps are {words} since 1970 (UTC).",))


# --- dates in parts


def _from_parts(cells: Cells, column: str, fields: Any, name: str) -> Stamps:
    present = {field.name for field in fields.type}
    notes = []
    parts = {key: _integers(fields, key) for key in ("y", "m", "d", "H", "M", "S", "q") if key in present}
    count = len(fields)
    if "q" in present:
        parts["m"] = 3 * parts["q"] - 2
    if "mon" in present:
        parts["m"] = _month_numbers(cells, column, fields)
    if "a" in present:
        parts["d"], parts["m"], words = _day_and_month(cells, column, fields)
        notes.append(words)
    elif name != "year-month-day":
        notes.append(f"Dates are written as {name}.")
    if short := _short_years(fields):
        notes.append(f"Two-digit years are read as 19{PIVOT} to 20{PIVOT - 1}.")
        parts["y"] = np.where(short[0], parts["y"] + np.where(parts["y"] >= PIVOT, 1900, 2000), parts["y"])
    if "ap" in present:
        parts["H"] = _hours(cells, column, fields, parts["H"])
    nanoseconds = _fraction(cells, column, fields) if "f" in present else np.zeros(count, np.int64)
    wall = _assemble(cells, column, parts, nanoseconds)
    return Stamps(wall, _offsets(cells, column, fields) if "o" in present else None, tuple(notes))


def _integers(fields: Any, key: str) -> Nanoseconds:
    """Return a group as integers; a missing group is 1 for month and day, else 0."""
    default = "1" if key in {"m", "d"} else "0"
    text = pc.struct_field(fields, key)
    text = pc.if_else(pc.equal(text.fill_null(""), ""), default, text)
    result: Nanoseconds = pc.cast(text, pa.int64()).to_numpy(zero_copy_only=False)
    return result


def _month_numbers(cells: Cells, column: str, fields: Any) -> Nanoseconds:
    names = pc.dictionary_encode(pc.utf8_lower(pc.struct_field(fields, "mon")))
    numbers = np.array(
        [MONTHS.index(name[:3]) + 1 if name[:3] in MONTHS else 0 for name in names.dictionary.to_pylist()], np.int64
    )
    months: Nanoseconds = numbers[names.indices.to_numpy(zero_copy_only=False)]
    if (wrong := months == 0).any():
        raise _first_error(cells, column, wrong, "is no date", "write months in English or as numbers")
    return months


def _day_and_month(cells: Cells, column: str, fields: Any) -> tuple[Nanoseconds, Nanoseconds, str]:
    """Return days and months of dates such as 31.12.2012 or 12/31/2012, and the order as a sentence.

    With points, the day comes first (no country writes month.day.year). Otherwise a number above 12 must show the order.
    """
    first, second = _integers(fields, "a"), _integers(fields, "b")
    points = pc.all(pc.equal(pc.struct_field(fields, "s"), ".")).as_py()
    short = _short_years(fields)
    day_first, month_first = first > 12, second > 12
    if (both := day_first & month_first).any():
        raise _first_error(cells, column, both, "is no date", WRITE)
    if not points and day_first.any() and month_first.any():
        rare, usual = sorted((day_first, month_first), key=np.count_nonzero)
        example = int(usual.argmax())
        what = f"has day and month in another order than row {cells.row(example)} ({cells.text(example, column)})"
        raise cells.error(int(rare.argmax()), column, what, "write all dates alike, best as 2012-12-31")
    if not points and short and day_first.any():
        what = "may begin with the day or the year"
        raise cells.error(
            int(day_first.argmax()), column, what, "set data.date_format to %d/%m/%y or %y/%m/%d with the separator of the file"
        )
    if points or day_first.any():
        return first, second, "Dates are written as day, month, year."
    if month_first.any():
        return second, first, "Dates are written as month, day, year."
    mark = pc.struct_field(fields, "s")[0].as_py()
    year = "%y" if short else "%Y"
    raise cells.error(
        0,
        column,
        "may begin with the day or the month, and no row shows which",
        f"set data.date_format to %d{mark}%m{mark}{year} or %m{mark}%d{mark}{year} (and %H:%M where there is a time of day)",
    )


def _short_years(fields: Any) -> tuple[npt.NDArray[np.bool_]] | None:
    short = pc.equal(pc.utf8_length(pc.struct_field(fields, "y")), 2).to_numpy(zero_copy_only=False)
    return (short,) if short.any() else None


def _hours(cells: Cells, column: str, fields: Any, hours: Nanoseconds) -> Nanoseconds:
    """Return hours of the 24-hour clock from those with AM and PM."""
    half = pc.utf8_lower(pc.struct_field(fields, "ap").fill_null("")).to_numpy(zero_copy_only=False)
    marked = half != ""
    if not marked.any():
        return hours
    if (wrong := marked & ((hours < 1) | (hours > 12))).any():
        raise _first_error(
            cells, column, wrong, "is no time of the 12-hour clock", "write hours from 1 to 12, or without AM and PM"
        )
    return np.where(marked, hours % 12 + np.where(half == "p", 12, 0), hours)


def _fraction(cells: Cells, column: str, fields: Any) -> Nanoseconds:
    text = pc.struct_field(fields, "f").fill_null("")
    lost = pc.match_substring_regex(text, r"^\d{9}\d*[1-9]").to_numpy(zero_copy_only=False)
    if lost.any():
        raise _first_error(cells, column, lost, "has digits beyond nanoseconds", "round the timestamps to nanoseconds")
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(text, 9, "0"), 0, 9)
    result: Nanoseconds = pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)
    return result


def _assemble(cells: Cells, column: str, parts: Parts, nanoseconds: Nanoseconds) -> Nanoseconds:
    """Return nanoseconds since 1970 of calendar parts, after checking each."""
    zeros = np.zeros(len(nanoseconds), np.int64)
    year, month, day = parts["y"], parts.get("m", zeros + 1), parts.get("d", zeros + 1)
    hour, minute, second = (parts.get(key, zeros) for key in "HMS")
    if (wrong := (month < 1) | (month > 12)).any():
        raise _first_error(cells, column, wrong, "is no date: there is no such month", "correct it, or set data.date_format")
    months = (year - 1970) * 12 + month - 1
    first, following = ((months + ahead).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for ahead in (0, 1))
    if (wrong := (day < 1) | (day > following - first)).any():
        raise _first_error(cells, column, wrong, "is no date: the month has no such day", "correct it, or set data.date_format")
    if (wrong := (hour > 23) | (minute > 59) | (second > 59)).any():
        raise _first_error(cells, column, wrong, "is no time of day", "write times from 00:00:00 to 23:59:59")
    if (wrong := (year < YEARS[0]) | (year > YEARS[1])).any():
        raise _first_error(cells, column, wrong, "is out of range", IN_RANGE)
    days = first + day - 1
    return np.asarray(days * DAY + ((hour * 60 + minute) * 60 + second) * SECOND + nanoseconds, np.int64)


def _offsets(cells: Cells, column: str, fields: Any) -> Nanoseconds | None:
    """Return offsets from UTC in nanoseconds, or None if no timestamp has one."""
    encoded = pc.dictionary_encode(pc.struct_field(fields, "o").fill_null(""))
    texts, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    if texts == [""]:
        return None
    if "" in texts:
        what = "has no offset from UTC, where other rows have one"
        raise _first_error(cells, column, codes == texts.index(""), what, "write all timestamps alike")
    offsets: Nanoseconds = np.array([_offset(text) for text in texts], np.int64)[codes]
    return offsets


def _offset(text: str) -> int:
    if text in {"Z", "UTC", "GMT"}:
        return 0
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return (-1 if text[0] in "-−" else 1) * minutes * 60 * SECOND
