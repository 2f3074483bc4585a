"""Parse the timestamps of a series to nanoseconds and infer their frequency. Shape: `T` time steps.

`time` is UTC and `wall` the local time of the same instants, both `int64 [T]` in nanoseconds since 1970. They differ if the
timestamps have an offset from UTC. Months and working days follow local time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from reprise.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Nanoseconds = npt.NDArray[np.int64]
SECOND = 10**9
DAY = 86_400 * SECOND
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
UNITS = {"h": 3600 * SECOND, "min": 60 * SECOND, "s": SECOND, "ms": 10**6, "us": 10**3, "ns": 1}
"""pandas' aliases of the units shorter than a day, longest first."""
MONTH_DAYS = {
    "S": "the first day of the month",
    "BS": "the first working day of the month",
    "E": "the last day of the month",
    "BE": "the last working day of the month",
}
"""Endings of pandas' aliases and their meaning."""
STEPS_PER_UNIT = 10
"""Minimum length of a step, in units to which the timestamps are rounded."""
MOST = 0.75
"""Share of rows that must follow a rule for an error message to assume it."""
OFFSET = r"\d[T ]\d{2}[\d:.,]*\s*(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>\d{2})?\s*$"


@dataclass(frozen=True)
class Frequency:
    """The distance of time steps: `alias` in pandas' notation (`D`, `200ms`, `MS`, `B`), or in words if pandas has none.

    `unit`: the unit in nanoseconds to which the timestamps were rounded, if the steps differ only by that rounding.
    """

    alias: str
    unit: int | None = None


def read(cells: pd.Series[str], name: str) -> tuple[Nanoseconds, Nanoseconds]:
    """Parse ISO 8601 timestamps (without an offset: UTC) or quarters (2012Q3). Return `time` and `wall`.

    Raises:
        UserError: naming row and column of a cell that is no timestamp or is out of the range of nanoseconds.

    """
    import pandas as pd  # late: takes 0.4 s, and only series need it

    quarters = r"^\s*(\d{4})-?Q([1-4])\s*$"
    dates = cells.str.replace(quarters, lambda match: f"{match[1]}-{3 * int(match[2]) - 2:02d}", regex=True)
    stamps = pd.to_datetime(dates, errors="coerce", format="ISO8601", utc=True)
    # pandas accepts `now` and `today` as dates, and drops digits after the ninth decimal of a second
    wrong = stamps.isna() | ~dates.str.match(r"\s*\d{4}") | dates.str.contains(r"[.,]\d{9}\d*[1-9]", regex=True)
    _refuse_first(cells, wrong, name, "is no date", "write dates as 2012-12-31 23:59:59")
    outside = (stamps.dt.year < 1678) | (stamps.dt.year > 2261)
    _refuse_first(cells, outside, name, "is out of range", "int64 nanoseconds hold the years 1678 to 2261")
    time = stamps.dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)
    offset = dates.str.extract(OFFSET)
    hours, minutes = (pd.to_numeric(offset[part]).fillna(0).to_numpy(np.int64) for part in ("hours", "minutes"))
    east = np.where(offset["sign"] == "-", -1, 1)
    return time, time + east * (hours * 60 + minutes) * 60 * SECOND


def _refuse_first(cells: pd.Series[str], wrong: pd.Series[bool], name: str, what: str, hint: str) -> None:
    if wrong.any():
        first = int(wrong.to_numpy().argmax())
        raise UserError(f"{name}, row {cells.index[first]}, column {cells.name}: {cells.iloc[first]!r} {what}", hint)


def frequency(time: Nanoseconds, wall: Nanoseconds) -> Frequency | None:
    """Return the frequency of increasing timestamps, or None if they are irregular.

    The order of attempts: calendar months (at least three rows), equal steps, calendar days and working days, and equal steps
    rounded to a unit of at most a second.
    """
    if len(time) < 2 or (np.diff(time) <= 0).any():
        return None
    steps = np.diff(time)
    if alias := _calendar_months(wall):
        return Frequency(alias)
    if (steps == steps[0]).all():
        return Frequency(_fixed(int(steps[0]), int(wall[0])))
    if alias := _calendar_days(wall):
        return Frequency(alias)
    return _rounded(time, steps)


def _calendar_months(wall: Nanoseconds) -> str | None:
    """Return the alias of equal steps of months (also quarters and years) at one time of day on one day rule, or None."""
    months = _months(wall)
    step = int(months[1] - months[0])
    if len(wall) < 3 or step < 1 or (np.diff(months) != step).any() or (wall % DAY != wall[0] % DAY).any():
        return None
    kind, fits = _day_rule(wall)
    if not fits.all():
        return None
    if kind in MONTH_DAYS:
        return _month_alias(kind, step, int(months[0]) % 12)
    if kind.startswith("WOM"):
        return kind if step == 1 else None
    return f"every {f'{step} months' if step > 1 else 'month'} on {kind}"


def _day_rule(wall: Nanoseconds) -> tuple[str, npt.NDArray[np.bool_]]:
    """Return the rule for the day of the month that most rows follow, and which rows follow it, `bool [T]`."""
    day, days = _day_of_month(wall)
    weekday = _weekday(wall)
    first_weekday, last_weekday = (weekday - (day - 1)) % 7, (weekday + days - day) % 7
    opening = np.where(first_weekday < 5, 1, 8 - first_weekday)
    closing = days - np.maximum(last_weekday - 4, 0)
    fits = {kind: day == expected for kind, expected in zip(MONTH_DAYS, (1, opening, days, closing), strict=True)}
    week = (day - 1) // 7
    fits[f"WOM-{week[0] + 1}{WEEKDAYS[weekday[0]]}"] = (week == week[0]) & (weekday == weekday[0])
    usual = _most_common(day)
    fits[f"day {usual}"] = day == np.minimum(usual, days)
    fits[f"day {day.max()}"] = day == np.minimum(day.max(), days)
    return max(fits.items(), key=lambda rule: np.count_nonzero(rule[1]))


def _month_alias(kind: str, step: int, month: int) -> str:
    """Return pandas' alias of a step of months; `kind` is S (start) or E (end), with prefix B for the working day."""
    length, letter = next((length, letter) for length, letter in ((12, "Y"), (3, "Q"), (1, "M")) if step % length == 0)
    alias = f"{_count(step // length)}{kind[:-1]}{letter}{kind[-1]}"
    if letter == "M":
        return alias
    return f"{alias}-{MONTHS[month if letter == 'Y' else month % 3 + (9 if kind[-1] == 'E' else 0)]}"


def _fixed(step: int, wall: int) -> str:
    """Return pandas' alias of a step of nanoseconds."""
    if step % (7 * DAY) == 0:
        return f"{_count(step // (7 * DAY))}W-{WEEKDAYS[(wall // DAY + 3) % 7]}"
    if step % DAY == 0:
        return f"{_count(step // DAY)}D"
    unit = next(unit for unit, length in UNITS.items() if step % length == 0)
    return f"{_count(step // UNITS[unit])}{unit}"


def _count(number: int) -> str:
    return "" if number == 1 else str(number)


def _calendar_days(wall: Nanoseconds) -> str | None:
    """Return the alias of equal steps of days in local time (with daylight saving changes) or of working days, or None."""
    if (wall % DAY != wall[0] % DAY).any():
        return None
    steps = np.diff(wall)
    if (steps == steps[0]).all():
        return _fixed(int(steps[0]), int(wall[0]))
    return "B" if not _weekend(wall).any() and (np.diff(_working_days(wall)) == 1).all() else None


def _weekend(wall: Nanoseconds) -> npt.NDArray[np.bool_]:
    return _weekday(wall) > 4


def _weekday(wall: Nanoseconds) -> Nanoseconds:
    """Return the weekday; Monday is 0."""
    return (wall // DAY + 3) % 7  # 1970-01-01 was a Thursday


def _working_days(wall: Nanoseconds) -> Nanoseconds:
    """Return the number of the working day; Saturday and Sunday count as Friday."""
    return (wall // DAY + 3) // 7 * 5 + np.minimum(_weekday(wall), 4)


def _rounded(time: Nanoseconds, steps: Nanoseconds) -> Frequency | None:
    """Return the frequency of equal steps with rounded timestamps (3 Hz in milliseconds): all within one unit of an even grid."""
    unit, last = int(np.gcd.reduce(steps)), len(steps)
    whole, rest = divmod(int(time[-1] - time[0]), last)
    if unit > SECOND or whole < STEPS_PER_UNIT * unit:
        return None
    row = np.arange(last + 1)
    off = (time - time[0] - row * whole) - row * rest / last  # the part in parentheses is exact
    if (np.abs(off) > unit).any():
        return None
    return Frequency(_fixed(round(whole + rest / last), int(time[0])), unit)


def _months(wall: Nanoseconds) -> Nanoseconds:
    """Return the months since January 1970."""
    return wall.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)


def _day_of_month(wall: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
    """Return the day of the month, from 1, and the number of days of that month."""
    months = wall.view("datetime64[ns]").astype("datetime64[M]")
    first, next_first = ((months + ahead).astype("datetime64[D]").astype(np.int64) for ahead in (0, 1))
    return wall // DAY - first + 1, next_first - first


def explain(time: Nanoseconds, wall: Nanoseconds, cells: pd.Series[str], name: str) -> UserError:
    """Return the error that names the first row where timestamps break their order or their rule."""
    steps = np.diff(time)
    if (steps < 0).all():
        row, what = 1, "the rows run from the newest to the oldest"
        hint = f"sort them by {cells.name}, oldest first"
    elif (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        what = f"{cells.iloc[row]!r} is {'the same time as' if steps[row - 1] == 0 else 'earlier than'} the row before"
        hint = f"a file holds one series: sort its rows by {cells.name}, oldest first, one row for each time"
    else:
        row, what = _first_uneven(time, wall)
        hint = "add the missing rows or resample the series: its time steps must be equal, or follow the calendar"
    return UserError(f"{name}, row {cells.index[row]}, column {cells.name}: {what}", hint)


def _first_uneven(time: Nanoseconds, wall: Nanoseconds) -> tuple[int, str]:
    """Return the first row that breaks the rule of most rows, and how. If no calendar rule fits, it is the most common step."""
    months, weekend = np.diff(_months(wall)), _weekend(wall)
    usual_time = wall % DAY == _most_common(wall % DAY)
    kind, fits = _day_rule(wall)
    if (months > 0).all() and np.count_nonzero(fits & usual_time) >= MOST * len(wall):
        if not (fits & usual_time).all():
            return int((fits & usual_time).argmin()), f"not on {MONTH_DAYS.get(kind, kind)} as the other rows are"
        return _deviation(months, lambda number: _plural(number, "month"))
    over_a_weekend = (np.diff(wall) == 3 * DAY) & (_weekday(wall[:-1]) == 4)
    if usual_time.all() and _most_common(np.diff(wall)) == DAY and np.count_nonzero(over_a_weekend) > np.count_nonzero(weekend):
        if weekend.any():
            return int(weekend.argmax()), "on a weekend, where the other rows are on working days"
        return _deviation(np.diff(_working_days(wall)), lambda number: _plural(number, "working day"))
    return _deviation(np.diff(time), _span)


def _deviation(steps: Nanoseconds, words: Callable[[int], str]) -> tuple[int, str]:
    rule = _most_common(steps)
    row = int((steps != rule).argmax()) + 1
    return row, f"{words(int(steps[row - 1]))} after the row before, where {words(rule)} is the rule"


def _most_common(steps: Nanoseconds) -> int:
    """Return the most common step; the shortest if several are equally common."""
    values, counts = np.unique(steps, return_counts=True)
    return int(values[counts.argmax()])


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _span(nanoseconds: int) -> str:
    """Return a duration as text: in days if it is a whole number of days, otherwise in seconds, exactly."""
    if nanoseconds % DAY == 0:
        return _plural(nanoseconds // DAY, "day")
    whole, rest = divmod(nanoseconds, SECOND)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") + " s"
