"""The frequency of a series is the one pandas infers and can generate again, at full resolution."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data import timestamps
from reprise.data.timestamps import DAY, SECOND, Frequency
from reprise.errors import UserError

CALENDAR = ["MS", "ME", "BMS", "BME", "QS-FEB", "QE-DEC", "BQS-JAN", "BQE-NOV", "YS-JAN", "YE-JUN", "BYS-MAR", "BYE-DEC"]
FIXED = ["W-SUN", "D", "h", "min", "s", "ms", "us", "ns"]
FREQUENCIES = st.one_of(
    st.builds("{}{}".format, st.integers(1, 5), st.sampled_from(CALENDAR + FIXED)), st.sampled_from(["B", "WOM-3FRI", "200ms"])
)
STARTS = st.datetimes(pd.Timestamp(1700, 1, 1).to_pydatetime(), pd.Timestamp(2040, 1, 1).to_pydatetime())


def cells(stamps: pd.DatetimeIndex | list[str]) -> "pd.Series[str]":
    column = pd.Series([str(stamp) for stamp in stamps], dtype=str, name="when")
    column.index += 2  # as an editor counts
    return column


def frequency(stamps: pd.DatetimeIndex | list[str]) -> Frequency | None:
    return timestamps.frequency(*timestamps.read(cells(stamps), "x"))


def inferred(stamps: pd.DatetimeIndex) -> str | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a future pandas returns an offset
        return pd.infer_freq(stamps)


@settings(max_examples=150, deadline=None)
@given(FREQUENCIES, STARTS, st.integers(8, 40), st.integers(0, DAY - 1))
def test_a_frequency_is_the_one_pandas_infers_and_generates_the_timestamps(
    alias: str, start: pd.Timestamp, count: int, time_of_day: int
) -> None:
    stamps = pd.date_range(
        pd.Timestamp(start).normalize() + pd.Timedelta(time_of_day, "ns"), periods=count, freq=alias, unit="ns"
    )
    time, wall = timestamps.read(cells(stamps), "x")
    np.testing.assert_array_equal(time, stamps.as_unit("ns").asi8)
    np.testing.assert_array_equal(wall, time)
    result = timestamps.frequency(time, wall)
    assert result is not None
    assert result.unit is None
    assert result.alias == inferred(stamps)
    assert pd.date_range(stamps[0], periods=count, freq=result.alias, unit="ns").equals(stamps.as_unit("ns"))


@settings(max_examples=100, deadline=None)
@given(FREQUENCIES, STARTS, st.integers(12, 30), st.data())
def test_a_gap_is_named_by_the_row_after_it(alias: str, start: pd.Timestamp, count: int, data: st.DataObject) -> None:
    stamps = pd.date_range(pd.Timestamp(start).normalize(), periods=count, freq=alias, unit="ns")
    missing = data.draw(st.integers(1, count - 2))
    column = cells(stamps.delete(missing))
    time, wall = timestamps.read(column, "x")
    assert timestamps.frequency(time, wall) is None
    message = str(timestamps.explain(time, wall, column, "x"))
    assert message.startswith(f"x, row {missing + 2}, column when: ")
    assert " after the row before, where " in message


def even(step: float, count: int, unit: int) -> pd.DatetimeIndex:
    """Equal steps of so many seconds, rounded to a unit of nanoseconds."""
    return pd.DatetimeIndex(np.array([round(row * step * SECOND / unit) * unit for row in range(count)], np.int64))


@pytest.mark.parametrize("hertz", [3, 7, 30, 44.1])
@pytest.mark.parametrize("unit", [1, 1000, 1_000_000])
def test_equal_steps_may_be_rounded_to_the_unit_of_the_timestamps(hertz: float, unit: int) -> None:
    result = frequency(even(1 / hertz, 400, unit))
    assert result is not None
    assert result.unit == unit
    assert pd.Timedelta(pd.tseries.frequencies.to_offset(result.alias)).value == pytest.approx(SECOND / hertz, abs=unit / 100 + 1)


@pytest.mark.parametrize(
    "steps",
    [
        [0.1, 1.9],  # both are one second when cut to seconds
        [1, 2],
        [0.2] * 9 + [0.4],
        [0.001] * 20 + [0.002],
        [60] * 30 + [61] * 30,  # no clock that is rounded to seconds drifts by half a minute
    ],
)
def test_steps_that_differ_by_more_than_rounding_are_no_frequency(steps: list[float]) -> None:
    seconds = np.cumsum([0, *steps, *steps, *steps])
    assert frequency(pd.DatetimeIndex(np.round(seconds * SECOND).astype(np.int64))) is None


def test_a_series_of_5_hz_is_even() -> None:
    assert frequency(["2012-01-01T00:00:00.0", "2012-01-01T00:00:00.2", "2012-01-01T00:00:00.4"]) == Frequency("200ms")


@pytest.mark.parametrize(
    ("stamps", "alias"),
    [
        (["1949-01", "1949-02", "1949-03"], "MS"),
        (["2012", "2013", "2014"], "YS-JAN"),
        (["2012Q3", "2012Q4", "2013Q1"], "QS-JAN"),
        (["2012-Q1", "2012-Q2", "2012-Q3"], "QS-JAN"),
        (["2011-01-15", "2011-02-15", "2011-03-15"], "every month on day 15"),
        (["2011-12-30", "2012-01-30", "2012-02-29", "2012-03-30"], "every month on day 30"),
        (["2012-01-31", "2012-02-29", "2012-03-31"], "ME"),
        (["2012-01-01 10:30", "2012-02-01 10:30", "2012-03-01 10:30"], "MS"),
        (["2012-01-01", "2012-02-01"], "31D"),
    ],
)
def test_common_notations_of_dates_give_the_expected_frequency(stamps: list[str], alias: str) -> None:
    assert frequency(stamps) == Frequency(alias)


@pytest.mark.parametrize("alias", ["D", "MS", "B", "h"])
def test_the_frequency_follows_the_local_clock(alias: str) -> None:
    stamps = pd.date_range("2020-01-01", periods=120, freq=alias, tz="Europe/Berlin")  # summer time from 29 March
    time, _ = timestamps.read(cells(stamps), "x")
    np.testing.assert_array_equal(time, stamps.as_unit("ns").asi8)
    assert frequency(stamps) == Frequency(alias)


@pytest.mark.parametrize("cell", ["now", "today", "12:30", "201201", "1325376000", "2012-01-01T00:00:00.0000000001", "2012-W01"])
def test_ambiguous_or_too_precise_dates_that_pandas_accepts_are_refused(cell: str) -> None:
    with pytest.raises(UserError, match=f"^x, row 3, column when: '{cell}' is no date"):
        timestamps.read(cells(["2012-01-01", cell]), "x")


@pytest.mark.parametrize("cell", ["0001-01-01", "1500-06-01", "2262-06-01", "9999-12-31"])
def test_a_date_that_nanoseconds_cannot_represent_is_refused(cell: str) -> None:
    with pytest.raises(UserError, match=f"^x, row 3, column when: '{cell}' is out of range; int64 nanoseconds hold"):
        timestamps.read(cells(["2012-01-01", cell]), "x")


@pytest.mark.parametrize(
    ("freq", "wrong", "message"),
    [
        ("MS", "2001-06-02", "row 7, column when: not on the first day of the month as the other rows are"),
        ("MS", "2001-06-01 05:00", "row 7, column when: not on the first day of the month"),
        ("B", "2001-01-06", "row 7, column when: on a weekend, where the other rows are on working days"),
    ],
)
def test_the_row_that_is_off_the_calendar_is_named(freq: str, wrong: str, message: str) -> None:
    stamps = [str(stamp) for stamp in pd.date_range("2001-01-01", periods=20, freq=freq)]
    stamps[5] = wrong
    if freq == "B":
        stamps.insert(6, "2001-01-08")
    time, wall = timestamps.read(cells(stamps), "x")
    assert timestamps.frequency(time, wall) is None
    assert message in str(timestamps.explain(time, wall, cells(stamps), "x"))
