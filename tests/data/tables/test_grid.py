"""A series with missing time steps is completed to the calendar that pandas generates."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.tables.grid import DAY, SECOND, find_rule

CALENDAR = ["MS", "ME", "BMS", "BME", "QS-FEB", "QE-DEC", "YS-JAN", "YE-JUN", "B", "WOM-3FRI"]
FIXED = ["W-SUN", "D", "h", "30min", "5min", "s", "200ms"]


def completed(stamps: pd.DatetimeIndex, zone: str | None = None) -> pd.DatetimeIndex | None:
    time = stamps.as_unit("ns").asi8
    wall = stamps.tz_localize(None).as_unit("ns").asi8 if zone else time
    rule = find_rule(time, wall)
    if rule is None:
        return None
    steps = rule.steps(time, wall)
    assert steps is not None
    full, _ = rule.complete(time, wall, steps)
    np.testing.assert_array_equal(full[steps], time)
    return (
        pd.DatetimeIndex(full.view("datetime64[ns]")).tz_localize("UTC").tz_convert(zone)
        if zone
        else pd.DatetimeIndex(full.view("datetime64[ns]"))
    )


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CALENDAR + FIXED), st.datetimes(pd.Timestamp(1950, 1, 1), pd.Timestamp(2040, 1, 1)), st.data())
def test_missing_steps_are_those_of_the_calendar(alias: str, start: pd.Timestamp, data: st.DataObject) -> None:
    stamps = pd.date_range(pd.Timestamp(start).normalize(), periods=40, freq=alias, unit="ns")
    gone = data.draw(st.sets(st.integers(1, 38), max_size=8))
    full = completed(stamps.delete(sorted(gone)))
    assert full is not None
    assert full.equals(stamps)


@pytest.mark.parametrize("gone", [[5], [5, 6, 7], [3, 20, 21]])
def test_days_in_local_time_are_completed_over_a_change_of_the_clocks(gone: list[int]) -> None:
    stamps = pd.date_range("2021-03-10", periods=40, freq="D", tz="Europe/Berlin")
    full = completed(stamps.delete(gone), "Europe/Berlin")
    assert full is not None
    assert full.equals(stamps.as_unit("ns"))


@settings(max_examples=50, deadline=None)
@given(st.sampled_from([3, 7, 30, 60]), st.sets(st.integers(1, 198), max_size=40))
def test_rounded_timestamps_are_completed_within_their_unit(hertz: int, gone: set[int]) -> None:
    unit = 10**6
    even = np.array([round(row * SECOND / hertz / unit) * unit for row in range(200)], np.int64)
    kept = np.delete(even, sorted(gone))
    rule = find_rule(kept, kept)
    assert rule is not None
    steps = rule.steps(kept, kept)
    assert steps is not None
    full, _ = rule.complete(kept, kept, steps)
    assert len(full) == 200
    np.testing.assert_allclose(full, even, rtol=0, atol=unit)


@pytest.mark.parametrize(
    "minutes",
    [
        [0, 1, 1, 2],  # a duplicate
        [0, 2, 1, 3],  # disorder
        [0.0, 1.0, 2.0, 3.1, 4.0],  # off the grid
    ],
)
def test_timestamps_that_are_out_of_order_or_off_any_grid_have_no_sensible_rule(minutes: list[float]) -> None:
    time = np.array([round(minute * 60) * SECOND for minute in minutes], np.int64)
    rule = find_rule(time, time)
    steps = rule.steps(time, time) if rule else None
    assert steps is None or steps[-1] + 1 > 2 * len(time)  # then more is missing than is there, which the reader refuses


def test_working_days_are_not_days_with_missing_weekends() -> None:
    days = pd.bdate_range("2021-01-01", periods=30, unit="ns").delete([7, 8]).asi8
    rule = find_rule(days, days)
    assert rule is not None
    steps = rule.steps(days, days)
    assert steps is not None
    assert steps[-1] == 29
    assert rule.local
    assert (days[0] % DAY) == 0
