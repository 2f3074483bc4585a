"""Dates are read as pandas reads them under an explicit format, and never guessed where day and month may be swapped."""

from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.tables.arrow import pa
from reprise.data.tables.cells import Cells
from reprise.data.tables.dates import date_evidence, parse_dates
from reprise.data.tables.zones import localise
from reprise.errors import UserError

FORMATS = [
    "%Y-%m-%d",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%dT%H:%M:%S.%f",
    "%Y/%m/%d %H:%M:%S",
    "%Y.%m.%d",
    "%Y%m%d",
    "%Y%m%d %H:%M",
    "%Y%m%d%H%M%S",
    "%d.%m.%Y",
    "%d.%m.%Y %H:%M:%S,%f",
    "%d/%m/%Y %H:%M",
    "%m/%d/%Y",
    "%m/%d/%Y %I:%M:%S %p",
    "%d-%m-%Y",
    "%m-%d-%Y %H:%M",
    "%d %b %Y",
    "%d-%b-%Y %H:%M",
    "%d. %B %Y",
    "%B %d, %Y",
    "%b %Y",
    "%b-%Y",
    "%Y %b",
    "%m/%Y",
    "%Y-%m",
    "%Y",
]
MOMENTS = st.lists(st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)), min_size=1, max_size=20)


def cells(*texts: str) -> Cells:
    rows = np.arange(len(texts))
    return Cells("x.csv", {"when": pa.array(texts)}, rows, ",", lambda: rows + 2, [])


def read(*texts: str, date_format: str = "auto") -> list[int]:
    return parse_dates(cells(*texts), "when", date_format).time.tolist()


def nanoseconds(*texts: str) -> list[int]:
    return [pd.Timestamp(text).as_unit("ns").value for text in texts]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(FORMATS), MOMENTS)
def test_a_date_is_the_one_that_was_written_or_its_ambiguity_is_named(format_: str, moments: list[datetime]) -> None:
    texts = [moment.strftime(format_) for moment in moments]
    expected = [pd.Timestamp(datetime.strptime(text, format_)).as_unit("ns").value for text in texts]
    assert read(*texts, date_format=format_) == expected
    unclear = "/" in texts[0][1:3] or ("-" in texts[0][1:3])
    if unclear and all(moment.day <= 12 for moment in moments) and "%d" in format_ and "%b" not in format_:
        with pytest.raises(UserError, match=f"may begin with the day or the month.* to .*{format_[:5]}"):
            read(*texts)
    else:
        assert read(*texts) == expected


@settings(max_examples=60, deadline=None)
@given(MOMENTS)
def test_iso_weeks_are_those_of_the_calendar(moments: list[datetime]) -> None:
    assert read(*(moment.strftime("%G-W%V-%u") for moment in moments)) == nanoseconds(*(str(moment.date()) for moment in moments))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from([("s", 10**9), ("ms", 10**6), ("us", 10**3), ("ns", 1)]), st.data())
def test_epoch_times_are_exact_in_every_unit(unit: tuple[str, int], data: st.DataObject) -> None:
    name, length = unit
    start, end = 100_000_000 * 10**9, 9_000_000_000 * 10**9  # 1973 to 2255
    whole = data.draw(st.lists(st.integers(start // length, end // length), min_size=1, max_size=5))
    places = len(str(length)) - 1
    fractions = data.draw(st.lists(st.integers(0, length - 1), min_size=len(whole), max_size=len(whole)))
    texts = [
        f"{number}.{fraction:0{places}d}" if places else f"{number}" for number, fraction in zip(whole, fractions, strict=True)
    ]
    expected = [number * length + (fraction if places else 0) for number, fraction in zip(whole, fractions, strict=True)]
    assert read(*texts, date_format=f"epoch_{name}") == expected
    middle = sorted(len(str(number)) for number in whole)[len(whole) // 2]
    if {"s": 9, "ms": 12, "us": 15, "ns": 18}[name] <= middle <= {"s": 11, "ms": 14, "us": 17, "ns": 19}[name] and places:
        assert read(*texts) == expected


@pytest.mark.parametrize(
    ("texts", "dates"),
    [
        (["2012Q3", "2012Q4"], ["2012-07", "2012-10"]),
        (["2012-Q1"], ["2012-01"]),
        (["Q2 2012"], ["2012-04"]),
        (["2020-W01", "2020-W53", "2021W01"], ["2019-12-30", "2020-12-28", "2021-01-04"]),
        (["2020-W01-3"], ["2020-01-01"]),
        (["1/2/2020", "13/2/2020"], ["2020-02-01", "2020-02-13"]),
        (["2/1/2020", "2/13/2020"], ["2020-02-01", "2020-02-13"]),
        (["1.2.2020 7:05"], ["2020-02-01 07:05"]),
        (["31.12.99", "1.1.00"], ["1999-12-31", "2000-01-01"]),
        (["12/31/99"], ["1999-12-31"]),
        (["Jan-99"], ["1999-01"]),
        (["2020-01-01T00:00:00Z"], ["2020-01-01"]),
        (["2020-01-01 02:00+02:00", "2020-01-01 02:00+01:00"], ["2020-01-01 00:00", "2020-01-01 01:00"]),
        (["2020-01-01 00:00:00.123456789"], ["2020-01-01 00:00:00.123456789"]),
        (["2020-01-01", "2020-01-02 12:00"], ["2020-01-01", "2020-01-02 12:00"]),
        (["12:00 AM", "12:00 PM"], []),
        (["1/13/2020 12:00 AM", "1/13/2020 12:30 p.m."], ["2020-01-13", "2020-01-13 12:30"]),
        (["1600000000", "1600000001"], ["2020-09-13 12:26:40", "2020-09-13 12:26:41"]),
        (["1600000000000"], ["2020-09-13 12:26:40"]),
        (["-1600000000.5"], ["1919-04-20 11:33:19.5"]),
        (["20200131", "20200201"], ["2020-01-31", "2020-02-01"]),
        (["202001"], ["2020-01"]),
    ],
)
def test_dates_as_they_are_written_in_practice(texts: list[str], dates: list[str]) -> None:
    if not dates:
        with pytest.raises(UserError, match="is no date"):
            read(*texts)
        return
    assert read(*texts) == nanoseconds(*dates)


@pytest.mark.parametrize(
    ("texts", "row", "message"),
    [
        (["2020-01-01", "soon"], 3, "'soon' is no date; the other rows are written as '2020-01-01'"),
        (["2020-01-01", "", ""], 3, "'' is no date .and 1 more."),
        (["2020-01-01", "2020-02-30"], 3, "'2020-02-30' is no date: the month has no such day"),
        (["2020-13-01"], 2, "there is no such month"),
        (["2020-01-01 24:00"], 2, "is no time of day"),
        (["1500-01-01"], 2, "is out of range; nanoseconds hold the years 1678 to 2261"),
        (["2020-01-01 00:00:00.1234567891"], 2, "has digits beyond nanoseconds"),
        (["01/02/2020", "03/04/2020"], 2, "may begin with the day or the month.*set data.date_format to %d/%m/%Y or %m/%d/%Y"),
        (["13/02/2020", "02/13/2020", "14/02/2020"], 3, "has day and month in another order than row 2 .'13/02/2020'."),
        (["13.13.2020"], 2, "is no date"),
        (["31/12/20"], 2, "may begin with the day or the year"),
        (["2020-01-01 00:00Z", "2020-01-02 00:00"], 3, "has no offset from UTC"),
        (["1 Foo 2020"], 2, "is no date; write months in English"),
        (["1/13/2020 13:00 PM"], 2, "is no time of the 12-hour clock"),
        (["0", "1", "2"], 2, "in a plausible year; if it counts seconds from the start, set data.date_format=epoch_s"),
        (["2019-W53"], 2, "is no date: the year has no such week"),
        (["1749.5", "1750.5"], 2, "is neither a date nor seconds"),
        (["1.1700", "1.1800"], 2, "is neither a date nor seconds"),
        (["now"], 2, "is no date; write dates as 2012-12-31 23:59:59"),
        (["1600000000.0000000001"], 2, "has digits beyond nanoseconds"),
    ],
)
def test_an_invalid_date_is_named_by_row_and_column(texts: list[str], row: int, message: str) -> None:
    with pytest.raises(UserError, match=rf"^x\.csv, row {row}, column when: .*{message}"):
        read(*texts)


@pytest.mark.parametrize(
    ("texts", "evidence"),
    [
        (["Shop 07", "Shop 08"], 0),
        (["Filiale 1", "Filiale 12"], 0),
        (["1 Room 2012", "2 Room 2012"], 0),
        (["2012 Model", "2013 Model"], 0),
        (["Jan 07", "Feb 07"], 2),
        (["Dec 2012", "Foo 2012", "Jan 2013"], 2),  # the typing error is named when the column is read
        (["3 March 2012", "4 March 2012"], 2),
    ],
)
def test_a_column_of_names_with_numbers_holds_no_dates(texts: list[str], evidence: int) -> None:
    assert date_evidence(pa.array(texts)) == evidence


def test_offsets_of_an_explicit_format_give_local_time() -> None:
    stamps = parse_dates(cells("01-02-2020 10:00 +0100", "01-02-2020 11:00 -05:30"), "when", "%d-%m-%Y %H:%M %z")
    assert stamps.time.tolist() == nanoseconds("2020-02-01 09:00", "2020-02-01 16:30")
    assert stamps.wall.tolist() == nanoseconds("2020-02-01 10:00", "2020-02-01 11:00")


def test_elapsed_seconds_are_read_if_the_format_says_so() -> None:
    assert read("0.0", "0.2", "0.4", date_format="epoch_s") == [0, 200_000_000, 400_000_000]


# --- time zones


def local(texts: list[str], zone: str, series: list[int] | None = None) -> tuple[list[int], list[str]]:
    table = cells(*texts)
    codes = np.array(series or [0] * len(texts), np.int64)
    time, wall, notes = localise(table, "when", parse_dates(table, "when"), zone, codes)
    assert (
        pd.DatetimeIndex(time.view("datetime64[ns]"))
        .tz_localize("UTC")
        .tz_convert(zone)
        .tz_localize(None)
        .as_unit("ns")
        .asi8.tolist()
        == wall.tolist()
    )
    return time.tolist(), notes


@pytest.mark.parametrize("step", ["30min", "h", "15min"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize("start", ["2021-03-01", "2021-10-01", "2021-11-01"])
def test_a_year_on_a_wall_clock_becomes_even_instants(step: str, zone: str, start: str) -> None:
    stamps = pd.date_range(start, periods=3000, freq=step, tz=zone).as_unit("ns")
    time, _ = local([str(stamp) for stamp in stamps.tz_localize(None)], zone)
    assert time == stamps.asi8.tolist()


def test_the_doubled_hour_is_resolved_in_each_series_of_its_own() -> None:
    walls = ["2021-10-31 01:00", "2021-10-31 02:00", "2021-10-31 02:00", "2021-10-31 03:00"]
    time, notes = local([wall for wall in walls for _ in range(2)], "Europe/Berlin", [0, 1] * 4)
    assert np.diff(time[::2]).tolist() == np.diff(time[1::2]).tolist() == [3600 * 10**9] * 3
    assert notes == ["4 rows are in an hour that occurs twice in Europe/Berlin: the first occurrence is summer time."]


def test_a_doubled_hour_that_occurs_once_is_said() -> None:
    _, notes = local(["2021-10-31 02:00", "2021-10-31 03:00", "2021-10-31 04:00"], "Europe/Berlin")
    assert notes[1] == "1 of them occur once and are read as summer time (first: row 2, '2021-10-31 02:00')."


def test_the_hour_that_clocks_skip_is_refused() -> None:
    with pytest.raises(UserError, match=r"row 3, column when: '2021-03-28 02:00' does not exist in Europe/Berlin"):
        local(["2021-03-28 01:00", "2021-03-28 02:00"], "Europe/Berlin")


@pytest.mark.parametrize("zone", ["Mars", "../etc", "Europe", ""])
def test_a_zone_that_does_not_exist_is_refused(zone: str) -> None:
    with pytest.raises(UserError, match="no such time zone"):
        local(["2021-03-28 01:00"], zone)
