"""The time steps after the last row of a series."""

import numpy as np

from reprise.data.tables.grid import find_rule
from reprise.data.timestamps import Nanoseconds


def steps_after(time: Nanoseconds, wall: Nanoseconds, count: int, zone: str | None = None) -> tuple[Nanoseconds, Nanoseconds]:
    """Return UTC and local time of the next steps, both int64 [count], by the rule that the series follows.

    Months and working days follow the calendar. Without a zone, the offset from UTC stays that of the last row.

    Args:
        time: UTC of a series without missing steps, int64 [row], nanoseconds since 1970.
        wall: local time of the same instants.
        count: number of steps.
        zone: name of the IANA time zone database; local time then follows its clock changes.

    Raises:
        ValueError: if the rows follow no rule.

    """
    rule = find_rule(time, wall)
    clock = wall if rule and rule.local else time
    numbers = rule.number(clock) if rule else None
    if rule is None or numbers is None:
        raise ValueError("the time steps follow no rule")
    ahead = rule.place(numbers[-1] + 1 + np.arange(count))
    offset = int(wall[-1] - time[-1])
    if zone is None:
        return (ahead - offset, ahead) if rule.local else (ahead, ahead + offset)
    return _in_zone(ahead, zone, rule.local)


def _in_zone(clock: Nanoseconds, zone: str, local: bool) -> tuple[Nanoseconds, Nanoseconds]:
    """Return UTC and local time in a zone. An hour that clocks skip is moved forward; of a doubled one, the first is taken."""
    import pandas as pd

    index = pd.DatetimeIndex(clock.view("datetime64[ns]"))
    if local:
        summer = np.ones(len(index), bool)
        aware = index.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
    else:
        aware = index.tz_localize("UTC").tz_convert(zone)
    return aware.as_unit("ns").asi8, aware.tz_localize(None).as_unit("ns").asi8
