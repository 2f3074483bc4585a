"""Local time of a named time zone to instants, with the hour that is doubled or missing when clocks change."""

import numpy as np
import numpy.typing as npt

from reprise.data.tables.cells import Cells
from reprise.data.tables.dates import Stamps
from reprise.data.timestamps import DAY, SECOND, Nanoseconds
from reprise.errors import UserError

HOUR = 3600 * SECOND
_CHANGES = (3, 4, 9, 10, 11)
"""Months in which clocks change."""


def localise(
    cells: Cells, column: str, stamps: Stamps, zone: str, series: npt.NDArray[np.int64]
) -> tuple[Nanoseconds, Nanoseconds, list[str]]:
    """Return UTC and local time of a named zone, both int64 [row], and notes.

    Naive timestamps are local time of the zone. Of an hour that occurs twice because clocks are set back, the first occurrence
    within a series is summer time. If only one is there, it is the one that makes an even step.

    Args:
        cells: the table, for messages.
        column: the column of the timestamps, for messages.
        stamps: the timestamps.
        zone: name of the IANA time zone database, such as Europe/Berlin.
        series: int64 [row], the number of the series that each row belongs to.

    Raises:
        UserError: if there is no such zone, or naming the first timestamp that the zone's clocks skip.

    """
    import pandas as pd

    notes = []
    try:
        if stamps.offset is None:
            naive = pd.DatetimeIndex(stamps.wall.view("datetime64[ns]"))
            ones = np.ones(len(naive), bool)
            summer, winter = (naive.tz_localize(zone, ambiguous=guess, nonexistent="NaT") for guess in (ones, ~ones))
            skipped = np.asarray(summer.isna())
            if skipped.any():
                hint = "set data.timezone to the zone of the file, or to UTC if its clock does not change"
                raise cells.error(int(skipped.argmax()), column, f"does not exist in {zone}: clocks are set forward", hint)
            first, second = summer.as_unit("ns").asi8, winter.as_unit("ns").asi8
            doubled = np.flatnonzero(first != second)
            occurrence = pd.DataFrame({"series": series[doubled], "wall": stamps.wall[doubled]}).groupby(["series", "wall"])
            time = first.copy()
            time[doubled] = np.where(occurrence.cumcount().to_numpy() > 0, second[doubled], first[doubled])
            single = doubled[occurrence["wall"].transform("size").to_numpy() == 1]
            open_ones = _choose_even(time, second, single, series)
            notes += _describe(cells, column, zone, doubled, open_ones)
        else:
            time = stamps.time
        local = pd.DatetimeIndex(time.view("datetime64[ns]")).tz_localize("UTC").tz_convert(zone)
    except (LookupError, ValueError, OSError):  # of zoneinfo, for a name that is not there or is no name
        raise UserError(f"data.timezone={zone}: no such time zone", "use a name such as Europe/Berlin or UTC") from None
    return time, local.tz_localize(None).as_unit("ns").asi8, notes


def _choose_even(
    time: Nanoseconds, second: Nanoseconds, single: npt.NDArray[np.int64], series: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Set `time` of rows whose doubled hour occurs once to the occurrence that is the usual step after the row before.

    Returns the rows for which neither occurrence is.
    """
    if not len(single):
        return single
    order = np.argsort(series, kind="stable")
    steps = np.diff(time[order])[np.diff(series[order]) == 0]
    values, counts = np.unique(steps, return_counts=True)
    usual = int(values[counts.argmax()]) if len(values) else 0
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    unclear = []
    for row in single:
        before = int(order[place[row] - 1]) if place[row] else row
        if series[before] != series[row] or before == row or usual not in {time[row] - time[before], second[row] - time[before]}:
            unclear.append(row)
        elif time[row] - time[before] != usual:
            time[row] = second[row]
    return np.array(unclear, np.int64)


def _describe(cells: Cells, column: str, zone: str, doubled: npt.NDArray[np.int64], unclear: npt.NDArray[np.int64]) -> list[str]:
    if not len(doubled):
        return []
    notes = [f"{len(doubled)} rows are in an hour that occurs twice in {zone}: the first occurrence is summer time."]
    if len(unclear):
        row, text = cells.row(int(unclear[0])), cells.text(int(unclear[0]), column)
        notes.append(f"{len(unclear)} of them occur once and are read as summer time (first: row {row}, {text}).")
    return notes


def clock_change(wall: int) -> bool:
    """Return whether clocks may have changed at this local time in nanoseconds: a Sunday of spring or autumn, up to 4 o'clock."""
    month = int(np.int64(wall).view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)) % 12 + 1
    return month in _CHANGES and (wall // DAY + 3) % 7 == 6 and wall % DAY <= 4 * HOUR
