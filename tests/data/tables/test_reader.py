"""Tables of series in any dialect are read correctly; what is detected, assumed or filled is reported and counted."""

import importlib.util
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.formats import read_csv_series
from reprise.data.tables.format import TableFormat
from reprise.data.tables.reader import Series, Table, read_table
from reprise.errors import UserError

PASSENGERS = """
112 118 132 129 121 135 148 148 136 119 104 118 115 126 141 135 125 149 170 170 158 133 114 140
145 150 178 163 172 178 199 199 184 162 146 166 171 180 193 181 183 218 230 242 209 191 172 194
196 196 236 235 229 243 264 272 237 211 180 201 204 188 235 227 234 264 302 293 259 229 203 229
242 233 267 269 270 315 364 347 312 274 237 278 284 277 317 313 318 374 413 405 355 306 271 306
315 301 356 348 355 422 465 467 404 347 305 336 340 318 362 348 363 435 491 505 404 359 310 337
360 342 406 396 420 472 548 559 463 407 362 405 417 391 419 461 472 535 622 606 508 461 390 432
"""
"""Monthly totals of airline passengers in thousands, 1949 to 1960 (Box and Jenkins, series G)."""


def read(content: str | bytes, **settings_: Any) -> Table:
    return read_table(content.encode() if isinstance(content, str) else content, "x.csv", TableFormat(**settings_))


def only(table: Table) -> Series:
    (series,) = table.series
    return series


def parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return buffer.getvalue()


def stamps(series: Series) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(series.time.view("datetime64[ns]"))


# --- files as users have them


def test_a_half_hourly_file_with_decimal_comma_and_gaps() -> None:
    load = np.round(1000 + 300 * np.sin(np.arange(96) / 7), 2)
    times = pd.date_range("2020-10-01", periods=96, freq="30min")
    kept = [row for row in range(96) if row not in {10, 40, 41, 42}]
    lines = ["Zeitpunkt;Last [kW];Bemerkung"]
    for row in kept:
        number = "" if row == 20 else f"{load[row]:,.2f}".replace(",", "x").replace(".", ",").replace("x", ".")
        lines.append(f'{times[row]:%d.%m.%Y %H:%M};"{number}";gemäß Zähler')
    content = "\r\n".join(lines).encode("cp1252")
    with pytest.raises(
        UserError,
        match=r"^x.csv, row 12, column Zeitpunkt: '01.10.2020 05:30' comes after the missing time step 2020-10-01 05:00:00",
    ):
        read(content, target=("Last [kW]",))
    table = read(content, target=("Last [kW]",), gaps="interpolate")
    assert table.frequency.alias == "30min"
    assert table.filled_cells() == {"Last [kW]": 5}
    series = only(table)
    assert stamps(series).equals(times.as_unit("ns"))
    filled = [10, 20, 40, 41, 42]
    assert np.flatnonzero(series.filled[:, 0]).tolist() == filled
    observed = np.delete(np.arange(96), filled)
    np.testing.assert_array_equal(series.values[observed, 0], load[observed].astype(np.float32))
    np.testing.assert_allclose(series.values[filled, 0], np.interp(filled, observed, load[observed]), rtol=1e-6)
    assert table.notes == [
        "Columns are separated by semicolons; the encoding is cp1252.",
        "The time column is Zeitpunkt.",
        "Dates are written as day, month, year.",
        "Timestamps have no time zone and are read as UTC.",
        "Numbers have a decimal comma.",
        "Missing time steps, filled: 4 (first: before row 12).",
        "Empty cells, filled: 1 (first: row 21, column Last [kW]).",
        "96 time steps, frequency 30min, from 2020-10-01 to 2020-10-02 23:30:00.",
    ]


def test_monthly_airline_passengers() -> None:
    months = pd.period_range("1949-01", periods=144, freq="M")
    content = "Month,Passengers\n" + "".join(
        f"{month},{count}\n" for month, count in zip(months, PASSENGERS.split(), strict=True)
    )
    table = read(content)
    assert table.frequency.alias == "MS"
    assert table.channels == ["Passengers"]
    series = only(table)
    assert stamps(series).equals(pd.date_range("1949-01-01", periods=144, freq="MS", unit="ns"))
    assert series.values[:, 0].tolist() == [float(count) for count in PASSENGERS.split()]
    assert not series.filled.any()


def test_twenty_shops_in_long_format() -> None:
    days = pd.date_range("2021-01-01", periods=30)
    rows = [
        f"{day:%m/%d/%Y}\tShop {shop:02d}\t{'north' if shop % 2 else 'south'}\t{shop * 10}\t{shop * 100 + number}\t{'yes' if number == 5 else 'no'}"
        for number, day in enumerate(days)
        for shop in range(20)
        if shop != 7 or number >= 10  # one shop opens later
    ]
    content = "day\tshop\tregion\tarea\tsales\tholiday\n" + "\n".join(rows)
    table = read(content, id="shop", target=("sales",), known=("holiday",), static=("region", "area"))
    assert [series.name for series in table.series] == [f"Shop {shop:02d}" for shop in [0, 1, 2, 3, 4, 5, 6, 8, *range(9, 20), 7]]
    assert table.frequency.alias == "D"
    for series in table.series:
        shop = int(series.name[-2:])
        start = 10 if shop == 7 else 0
        assert stamps(series).equals(days[start:].as_unit("ns"))
        assert series.values[:, 0].tolist() == [shop * 100 + number for number in range(start, 30)]
        assert series.static == {"region": "north" if shop % 2 else "south", "area": shop * 10.0}
        assert series.known[:, 0].tolist() == [float(number == 5) for number in range(start, 30)]


@pytest.mark.parametrize("digits", [10, 13])
def test_a_sensor_of_5_hz_with_epoch_times(digits: int) -> None:
    ticks = np.arange(50)
    times = [f"{1_700_000_000_000 + 200 * tick}" for tick in ticks]
    times = [f"{time[:10]}.{time[10:]}" if digits == 10 else time for time in times]
    content = "epoch|acc_x|acc_y\n" + "".join(f"{time}|{tick / 8}|{-tick}\n" for time, tick in zip(times, ticks, strict=True))
    table = read(content)
    assert table.frequency.alias == "200ms"
    series = only(table)
    assert series.time.tolist() == [(1_700_000_000_000 + 200 * int(tick)) * 10**6 for tick in ticks]
    np.testing.assert_array_equal(series.values, np.stack([ticks / 8, -ticks], axis=1))


def published(name: str) -> bytes:
    spec = importlib.util.find_spec("vega_datasets")
    assert spec is not None
    assert spec.origin is not None
    return (Path(spec.origin).parent / "_data" / name).read_bytes()


def test_published_tables_are_read_without_settings() -> None:
    content = published("seattle-weather.csv")
    table = read(content)
    before = read_csv_series(content, "x", "date", table.channels)
    assert table.channels == ["precipitation", "temp_max", "temp_min", "wind"]
    assert table.frequency == before.frequency
    np.testing.assert_array_equal(only(table).time, before.time)
    np.testing.assert_array_equal(only(table).values, before.values)


def test_published_tables_of_many_series() -> None:
    content = published("stocks.csv")  # dates such as Jan 1 2000
    with pytest.raises(
        UserError, match=r"row 125, column date: 'Jan 1 2000' is earlier than row 124 .* set data\.id to the column"
    ):
        read(content)
    table = read(content, id="symbol")
    assert {series.name: len(series.time) for series in table.series} == {
        "MSFT": 123,
        "AMZN": 123,
        "IBM": 123,
        "GOOG": 68,
        "AAPL": 123,
    }
    assert table.frequency.alias == "MS"


# --- any dialect

FLOATS = st.floats(-1e6, 1e6, allow_nan=False).filter(lambda value: value == 0 or abs(value) > 1e-6)
TABLES = st.integers(1, 3).flatmap(
    lambda columns: st.lists(st.lists(FLOATS, min_size=columns, max_size=columns), min_size=3, max_size=12)
)
DATES = ["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M", "%m/%d/%Y %H:%M", "%d-%b-%Y %H:%M", "%Y%m%d%H%M", "epoch"]


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    separator = draw(st.sampled_from([",", ";", "\t", "|"]))
    decimal = draw(st.sampled_from([".", ","]))
    return {
        "separator": separator,
        "decimal": decimal,
        "thousands": draw(st.sampled_from(["", "," if decimal == "." else ".", " ", "\u00a0", "'"])),
        "quote": draw(st.booleans()),
        "newline": draw(st.sampled_from(["\n", "\r\n"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"])),
        "date": draw(st.sampled_from(DATES)),
        "digits": draw(st.sampled_from([None, 0, 1, 2, 3, 5])),
        "last_newline": draw(st.booleans()),
        "blank_lines": draw(st.booleans()),
    }


def write(
    values: npt.NDArray[np.float64], times: pd.DatetimeIndex, dialect: dict[str, Any]
) -> tuple[bytes, npt.NDArray[np.float64]]:
    """A table in this dialect, and the numbers that stand in it."""
    plain = [
        [f"{value:.{dialect['digits']}f}" if dialect["digits"] is not None else repr(float(value)) for value in row]
        for row in values
    ]
    separator, decimal = dialect["separator"], dialect["decimal"]

    def cell(text: str) -> str:
        whole, point, rest = text.partition(".")
        if dialect["thousands"] and "e" not in text:
            whole = f"{int(whole):,}".replace(",", dialect["thousands"]) if whole not in {"-0", "0"} else whole
        text = whole + (decimal if point else "") + rest
        return f'"{text}"' if dialect["quote"] or separator in text else text

    def date(time: pd.Timestamp) -> str:
        return str(time.value // 10**9) if dialect["date"] == "epoch" else time.strftime(dialect["date"])

    lines = [separator.join(["Zeit", *(f"Größe {number}" for number in range(values.shape[1]))])]
    lines += [separator.join([date(time), *map(cell, row)]) for time, row in zip(times.as_unit("ns"), plain, strict=True)]
    if dialect["blank_lines"]:
        lines.insert(2, "")
    text = dialect["newline"].join(lines) + (dialect["newline"] if dialect["last_newline"] else "")
    return text.encode(dialect["encoding"]), np.array([[float(one) for one in row] for row in plain])


@settings(max_examples=120, deadline=None)
@given(TABLES, dialects())
def test_the_numbers_that_were_written_are_read_or_the_ambiguity_is_named(
    rows: list[list[float]], dialect: dict[str, Any]
) -> None:
    times = pd.date_range("2021-05-28 22:00", periods=len(rows), freq="12h")
    content, values = write(np.array(rows), times, dialect)
    base = TableFormat(constant="keep")
    if (
        dialect["thousands"] == "." and dialect["separator"] == ","
    ):  # then points alone are read as decimal points, and this is reported
        base = replace(base, decimal=",")
    try:
        table = read_table(content, "x", base)
    except UserError as error:
        if "set data.decimal" not in str(error) and "day or the month" not in str(error):
            raise
        explicit = "auto" if dialect["date"] == "epoch" else dialect["date"]
        table = read_table(content, "x", replace(base, decimal=dialect["decimal"], date_format=explicit))
    series = only(table)
    assert stamps(series).equals(times.as_unit("ns"))
    assert table.channels == [f"Größe {number}" for number in range(values.shape[1])]
    np.testing.assert_array_equal(series.values, values.astype(series.values.dtype))
    assert not series.filled.any()


@settings(max_examples=40, deadline=None)
@given(
    TABLES,
    st.sampled_from(["ns", "us", "ms", "s"]),
    st.sampled_from([None, "UTC", "Europe/Berlin"]),
    st.sampled_from(["f4", "f8"]),
)
def test_a_parquet_file_gives_back_its_numbers(rows: list[list[float]], unit: str, zone: str | None, kind: str) -> None:
    times = pd.date_range("2021-10-28 22:00", periods=len(rows), freq="12h", tz=zone).as_unit(unit)  # type: ignore[arg-type]
    values = np.array(rows).astype(kind)
    frame = pd.DataFrame(values, columns=[f"c{number}" for number in range(values.shape[1])])
    frame.insert(0, "when", times)
    series = only(read(parquet(frame), constant="keep"))
    assert series.time.tolist() == times.as_unit("ns").asi8.tolist()
    assert series.wall.tolist() == times.tz_localize(None).as_unit("ns").asi8.tolist()
    np.testing.assert_array_equal(series.values, values.astype(series.values.dtype))
