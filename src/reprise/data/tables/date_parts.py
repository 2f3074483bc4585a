"""Timestamps from the parts of written dates: year, month, day, time of day, offset.

`fields` is an Arrow struct array of text with the parts of each date: `y` year, `m` month, `mon` its name, `d` day, `q` quarter,
`w` week, `wd` weekday, `a` and `b` day and month in an order to be found, `s` the mark between them, `H` `M` `S` `f` time of day
with the fraction of a second, `ap` AM or PM, `o` offset from UTC.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from reprise.data.tables.arrow import pa, pc
from reprise.data.tables.cells import Cells
from reprise.data.timestamps import DAY, SECOND, Nanoseconds

YEARS = (1678, 2261)
"""Years whose nanoseconds int64 holds."""
IN_RANGE = f"nanoseconds hold the years {YEARS[0]} to {YEARS[1]}"
WRITE = "write dates as 2012-12-31 23:59:59, or set data.date_format"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
PIVOT = 69
"""Two-digit years from here on are in the 20th century, as in POSIX strptime."""


def from_parts(cells: Cells, column: str, fields: Any, name: str) -> tuple[Nanoseconds, Nanoseconds | None, tuple[str, ...]]:
    """Return local time and offset from UTC of dates in the notation of this name, and notes. No offset: None.

    Raises:
        UserError: naming the first cell that is no date, out of range, or ambiguous in the order of day and month.

    """
    present = {field.name for field in fields.type}
    notes = []
    parts = {key: _integers(fields, key) for key in ("y", "m", "d", "H", "M", "S", "q", "w", "wd") if key in present}
    count = len(fields)
    if "q" in present:
        parts["m"] = 3 * parts["q"] - 2
    if "w" in present:
        return _week_starts(cells, column, parts), None, ("Dates are ISO weeks, which start on Monday.",)
    if "mon" in present:
        parts["m"] = _month_numbers(cells, column, fields)
    if "a" in present:
        parts["d"], parts["m"], words = _day_and_month(cells, column, fields)
        notes.append(words)
    elif name not in {"year-month-day", "year and month"}:
        notes.append(f"Dates are written as {name}.")
    if short := _short_years(fields):
        notes.append(f"Two-digit years are read as 19{PIVOT} to 20{PIVOT - 1}.")
        parts["y"] = np.where(short[0], parts["y"] + np.where(parts["y"] >= PIVOT, 1900, 2000), parts["y"])
    if "ap" in present:
        parts["H"] = _hours(cells, column, fields, parts["H"])
    nanoseconds = _fraction(cells, column, fields) if "f" in present else np.zeros(count, np.int64)
    wall = _assemble(cells, column, parts, nanoseconds)
    return wall, _demanded_offsets(cells, column, fields) if "o" in present else None, tuple(notes)


def _integers(fields: Any, key: str) -> Nanoseconds:
    """Return a group as integers; a missing group is 1 for month, day and weekday, else 0."""
    default = "1" if key in {"m", "d", "wd"} else "0"
    text = pc.struct_field(fields, key)
    text = pc.if_else(pc.equal(text.fill_null(""), ""), default, text)
    result: Nanoseconds = pc.cast(text, pa.int64()).to_numpy(zero_copy_only=False)
    return result


def _week_starts(cells: Cells, column: str, parts: dict[str, Nanoseconds]) -> Nanoseconds:
    """Return days of ISO 8601 weeks. Week 1 is the week with 4 January."""
    years = np.stack([parts["y"], parts["y"] + 1]) - 1970
    fourth = years.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64) + 3
    monday, next_monday = fourth - (fourth + 3) % 7  # 1970-01-01 was a Thursday
    day = monday + 7 * (parts["w"] - 1)
    if (wrong := (day < monday) | (day >= next_monday)).any():
        raise cells.first_error(column, wrong, "is no date: the year has no such week", WRITE)
    if (wrong := (parts["y"] < YEARS[0]) | (parts["y"] > YEARS[1])).any():
        raise cells.first_error(column, wrong, "is out of range", IN_RANGE)
    return np.asarray((day + parts["wd"] - 1) * DAY, np.int64)


def _month_numbers(cells: Cells, column: str, fields: Any) -> Nanoseconds:
    names = pc.dictionary_encode(pc.utf8_lower(pc.struct_field(fields, "mon")))
    numbers = np.array(
        [MONTHS.index(name[:3]) + 1 if name[:3] in MONTHS else 0 for name in names.dictionary.to_pylist()], np.int64
    )
    months: Nanoseconds = numbers[names.indices.to_numpy(zero_copy_only=False)]
    if (wrong := months == 0).any():
        raise cells.first_error(column, wrong, "is no date", "write months in English or as numbers")
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
        raise cells.first_error(column, both, "is no date", WRITE)
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
        raise cells.first_error(
            column, wrong, "is no time of the 12-hour clock", "write hours from 1 to 12, or without AM and PM"
        )
    return np.where(marked, hours % 12 + np.where(half == "p", 12, 0), hours)


def _fraction(cells: Cells, column: str, fields: Any) -> Nanoseconds:
    text = pc.struct_field(fields, "f").fill_null("")
    lost = pc.match_substring_regex(text, r"^\d{9}\d*[1-9]").to_numpy(zero_copy_only=False)
    if lost.any():
        raise cells.first_error(column, lost, "has digits beyond nanoseconds", "round the timestamps to nanoseconds")
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(text, 9, "0"), 0, 9)
    result: Nanoseconds = pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)
    return result


def _assemble(cells: Cells, column: str, parts: dict[str, Nanoseconds], nanoseconds: Nanoseconds) -> Nanoseconds:
    """Return nanoseconds since 1970 of calendar parts, after checking each."""
    zeros = np.zeros(len(nanoseconds), np.int64)
    year, month, day = parts["y"], parts.get("m", zeros + 1), parts.get("d", zeros + 1)
    hour, minute, second = (parts.get(key, zeros) for key in "HMS")
    if (wrong := (month < 1) | (month > 12)).any():
        raise cells.first_error(column, wrong, "is no date: there is no such month", "correct it, or set data.date_format")
    months = (year - 1970) * 12 + month - 1
    first, following = ((months + ahead).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for ahead in (0, 1))
    if (wrong := (day < 1) | (day > following - first)).any():
        raise cells.first_error(column, wrong, "is no date: the month has no such day", "correct it, or set data.date_format")
    if (wrong := (hour > 23) | (minute > 59) | (second > 59)).any():
        raise cells.first_error(column, wrong, "is no time of day", "write times from 00:00:00 to 23:59:59")
    if (wrong := (year < YEARS[0]) | (year > YEARS[1])).any():
        raise cells.first_error(column, wrong, "is out of range", IN_RANGE)
    days = first + day - 1
    return np.asarray(days * DAY + ((hour * 60 + minute) * 60 + second) * SECOND + nanoseconds, np.int64)


def offsets(texts: Any) -> Nanoseconds:
    """Return offsets from UTC in nanoseconds of texts such as Z, +01:00 and -0530; without an offset 0."""
    encoded = pc.dictionary_encode(texts.fill_null(""))
    values = np.array([_offset(text) for text in encoded.dictionary.to_pylist()], np.int64)
    return np.asarray(values[encoded.indices.to_numpy(zero_copy_only=False)])


def _demanded_offsets(cells: Cells, column: str, fields: Any) -> Nanoseconds | None:
    """Return the offsets of all timestamps, or None if none has one."""
    texts = pc.struct_field(fields, "o").fill_null("")
    naive = pc.equal(texts, "").to_numpy(zero_copy_only=False)
    if naive.all():
        return None
    if naive.any():
        what = "has no offset from UTC, where other rows have one"
        raise cells.first_error(column, naive, what, "write all timestamps alike")
    return offsets(texts)


def _offset(text: str) -> int:
    if text in {"", "Z", "UTC", "GMT"}:
        return 0
    digits = text[1:].replace(":", "")
    minutes = int(digits[:2]) * 60 + int(digits[2:] or 0)
    return (-1 if text[0] in "-−" else 1) * minutes * 60 * SECOND
