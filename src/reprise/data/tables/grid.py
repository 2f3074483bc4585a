"""Find the rule that the timestamps of a series follow although some are missing, and the complete timestamps.

`time` is UTC and `wall` the local time of the same instants, both int64 [row] in nanoseconds since 1970, increasing.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from reprise.data.timestamps import DAY, SECOND, STEPS_PER_UNIT, Nanoseconds


@dataclass(frozen=True)
class Rule:
    """A rule that numbers all time steps.

    `number` returns the step number of rows, int64 [row], or None if a row is off the rule. `place` is its inverse: from step
    numbers to timestamps. Both work on local time if `local`, else on UTC.
    """

    local: bool
    number: Callable[[Nanoseconds], Nanoseconds | None]
    place: Callable[[Nanoseconds], Nanoseconds]

    def steps(self, time: Nanoseconds, wall: Nanoseconds) -> Nanoseconds | None:
        """Return the step number of each row, from 0, or None if a row is off the rule or shares its step with another."""
        numbers = self.number(wall if self.local else time)
        if numbers is None or (np.diff(numbers) <= 0).any():
            return None
        return np.asarray(numbers - numbers[0])

    def complete(self, time: Nanoseconds, wall: Nanoseconds, steps: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """Return `time` and `wall` of all steps. Missing rows have the offset from UTC of the row before them."""
        clock = wall if self.local else time
        numbers = self.number(clock)
        assert numbers is not None
        full = self.place(np.arange(numbers[0], numbers[-1] + 1))
        full[steps] = clock
        before = np.searchsorted(steps, np.arange(len(full)), side="right") - 1
        offset = (wall - time)[before]
        return (full - offset, full) if self.local else (full, full + offset)


def find_rule(time: Nanoseconds, wall: Nanoseconds) -> Rule | None:
    """Return the rule that all rows follow and that leaves the fewest steps out, or None.

    The order of attempts: months (and quarters, years), working days, days in local time, equal steps, equal steps rounded to a
    unit of at most a second.
    """
    if len(time) < 2 or (np.diff(time) <= 0).any():
        return None
    best: tuple[int, Rule] | None = None
    for rule in _candidates(time, wall):
        steps = rule.steps(time, wall)
        if steps is None:
            continue
        missing = int(steps[-1]) + 1 - len(steps)
        if not missing:
            return rule
        if best is None or missing < best[0]:
            best = missing, rule
    return best[1] if best else None


def _candidates(time: Nanoseconds, wall: Nanoseconds) -> Iterator[Rule]:
    same_time = bool((wall % DAY == wall[0] % DAY).all())
    if len(wall) > 2 and same_time:
        yield from _month_rules(wall)
    if (np.diff(time) == time[1] - time[0]).all():
        yield _equal(time, int(time[1] - time[0]), local=False)
    if same_time:
        if not (_weekday(wall // DAY) > 4).any():
            yield _working_days(wall)
        for step in _usual_steps(wall):
            yield _equal(wall, step, local=True)
    for step in _usual_steps(time):
        yield _equal(time, step, local=False)
    yield from _rounded(time)


def _usual_steps(clock: Nanoseconds) -> tuple[int, ...]:
    """Return the most common step and, if it is a step itself, the largest common divisor of all steps."""
    steps = np.diff(clock)
    values, counts = np.unique(steps, return_counts=True)
    usual, divisor = int(values[counts.argmax()]), int(np.gcd.reduce(values))
    return (usual, divisor) if values[0] == divisor != usual else (usual,)


def _equal(clock: Nanoseconds, step: int, local: bool) -> Rule:
    start = int(clock[0]) % step

    def number(other: Nanoseconds) -> Nanoseconds | None:
        return (other - start) // step if ((other - start) % step == 0).all() else None

    return Rule(local, number, lambda numbers: numbers * step + start)


def _weekday(days: Nanoseconds) -> Nanoseconds:
    return (days + 3) % 7  # 0 is Monday; 1970-01-01 was a Thursday


def _working_days(wall: Nanoseconds) -> Rule:
    """Return the rule of one step each working day; Saturdays and Sundays have none."""
    time_of_day = int(wall[0]) % DAY

    def number(other: Nanoseconds) -> Nanoseconds | None:
        days = other // DAY
        if (other % DAY != time_of_day).any() or (_weekday(days) > 4).any():
            return None
        return (days + 3) // 7 * 5 + _weekday(days)

    return Rule(True, number, lambda numbers: (numbers // 5 * 7 - 3 + numbers % 5) * DAY + time_of_day)


# --- months


def _month_rules(wall: Nanoseconds) -> Iterator[Rule]:
    """Yield rules of one day in every month, or every so many months, that the first and most other rows may follow."""
    months, days = _months(wall), wall // DAY
    steps = np.diff(months)
    if (steps < 1).any():
        return
    values, counts = np.unique(steps, return_counts=True)
    step = int(values[counts.argmax()])
    first, length = _month_days(months)
    day, weekday = days - first + 1, int(_weekday(days[:1])[0])
    week = int((day[0] - 1) // 7)
    usual = int(np.bincount(day).argmax())
    choices: list[Callable[[Nanoseconds, Nanoseconds], Nanoseconds]] = [
        lambda first, length: first,
        lambda first, length: first + np.where(_weekday(first) < 5, 0, 7 - _weekday(first)),
        lambda first, length: first + length - 1,
        lambda first, length: first + length - 1 - np.maximum(_weekday(first + length - 1) - 4, 0),
        lambda first, length: first + (weekday - _weekday(first)) % 7 + 7 * week,
        lambda first, length: first + np.minimum(usual, length) - 1,
        lambda first, length: first + np.minimum(int(day.max()), length) - 1,
    ]
    for choose in choices:
        if (choose(first, length) == days).all():
            yield _monthly(choose, step, int(months[0]) % step, int(wall[0]) % DAY)


def _monthly(choose: Callable[[Nanoseconds, Nanoseconds], Nanoseconds], step: int, start: int, time_of_day: int) -> Rule:
    def number(wall: Nanoseconds) -> Nanoseconds | None:
        months = _months(wall)
        fits = ((months - start) % step == 0).all() and (choose(*_month_days(months)) * DAY + time_of_day == wall).all()
        return (months - start) // step if fits else None

    return Rule(True, number, lambda numbers: choose(*_month_days(numbers * step + start)) * DAY + time_of_day)


def _months(wall: Nanoseconds) -> Nanoseconds:
    """Return the months since January 1970."""
    return wall.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)


def _month_days(months: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
    """Return the first day of each month, counted from 1970-01-01, and the number of its days."""
    first, following = ((months + ahead).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) for ahead in (0, 1))
    return first, following - first


# --- rounded timestamps


def _rounded(time: Nanoseconds) -> Iterator[Rule]:
    """Yield the rule of equal steps whose timestamps are rounded to a unit: each is within a unit of the even grid."""
    steps = np.diff(time)
    unit, shortest = int(np.gcd.reduce(steps)), int(steps.min())
    if unit > SECOND or shortest < STEPS_PER_UNIT * unit:
        return
    single = float(steps[steps < 1.5 * shortest].mean())
    numbers = np.concatenate([[0], np.cumsum(np.rint(steps / single).astype(np.int64))])
    start, whole, rest = int(time[0]), *divmod(int(time[-1] - time[0]), int(numbers[-1]))
    last = int(numbers[-1])

    def number(other: Nanoseconds) -> Nanoseconds | None:
        found = np.rint((other - start) / (whole + rest / last)).astype(np.int64)
        off = other - start - found * whole - found * rest / last
        return found if (np.abs(off) <= unit).all() else None

    def place(numbers: Nanoseconds) -> Nanoseconds:
        even = numbers * whole + np.rint(numbers * (rest / last)).astype(np.int64)
        return np.asarray(start + (even + unit // 2) // unit * unit, np.int64)

    yield Rule(False, number, place)
