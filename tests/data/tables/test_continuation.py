"""The time steps after the last row, against pandas' date ranges."""

import numpy as np
import pandas as pd
import pytest

from reprise.data.tables.continuation import steps_after
from reprise.data.timestamps import Nanoseconds


def nanoseconds(index: pd.DatetimeIndex) -> Nanoseconds:
    return np.asarray(index.as_unit("ns").asi8, np.int64)


@pytest.mark.parametrize(
    "frequency",
    [
        "200ms",
        "s",
        "7min",
        "30min",
        "h",
        "D",
        "2D",
        "B",
        "W-WED",
        "MS",
        "ME",
        "BMS",
        "BME",
        "2MS",
        "QS-OCT",
        "QE-DEC",
        "YS-JAN",
        "YE-DEC",
        "WOM-2TUE",
    ],
)
@pytest.mark.parametrize("rows", [12, 40])
def test_the_steps_continue_those_of_pandas(frequency: str, rows: int) -> None:
    index = pd.date_range("2019-12-02 00:00", periods=rows + 15, freq=frequency)
    time = nanoseconds(index)
    ahead, wall = steps_after(time[:rows], time[:rows], 15)
    np.testing.assert_array_equal(ahead, time[rows:])
    np.testing.assert_array_equal(wall, time[rows:])


def test_the_last_day_of_february_follows_the_thirtieth_of_january() -> None:
    days = ["2023-10-30", "2023-11-30", "2023-12-30", "2024-01-30"]
    time = nanoseconds(pd.DatetimeIndex([*days, "2024-02-29", "2024-03-30", "2024-04-30"]))
    np.testing.assert_array_equal(steps_after(time[:5], time[:5], 2)[0], time[5:])


@pytest.mark.parametrize("frequency", ["h", "D", "30min"])
def test_steps_of_a_zone_follow_its_clock_changes(frequency: str) -> None:
    index = pd.date_range("2024-03-25", periods=400, freq=frequency, tz="Europe/Berlin")  # clocks change on 31 March
    time, wall = nanoseconds(index), nanoseconds(index.tz_localize(None))
    ahead = steps_after(time[:100], wall[:100], 300, "Europe/Berlin")
    np.testing.assert_array_equal(ahead, (time[100:], wall[100:]))


def test_without_a_zone_the_offset_stays() -> None:
    index = pd.date_range("2024-03-25", periods=20, freq="h", tz="+02:00")
    time, wall = nanoseconds(index), nanoseconds(index.tz_localize(None))
    np.testing.assert_array_equal(steps_after(time[:10], wall[:10], 10), (time[10:], wall[10:]))


def test_rounded_steps_stay_within_their_unit() -> None:
    exact = np.arange(60) * 10**9 / 3
    time = (np.round(exact / 10**6) * 10**6).astype(np.int64)  # 3 Hz in milliseconds
    ahead, _ = steps_after(time[:40], time[:40], 20)
    assert np.abs(ahead - exact[40:]).max() <= 1.5 * 10**6


def test_irregular_rows_have_no_next_step() -> None:
    time = np.array([0, 10, 11, 50], np.int64) * 10**9 + 7
    with pytest.raises(ValueError, match="follow no rule"):
        steps_after(time * 3 + np.array([0, 1, 5, 11]), time * 3 + np.array([0, 1, 5, 11]), 2)
