"""Gaps, duplicates, disorder and text cells are refused, or repaired as configured, counted and masked."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.tables.checks import fill
from reprise.data.tables.format import TableFormat
from reprise.data.tables.reader import Series, Table, read_table
from reprise.errors import UserError

DAY = 86_400 * 10**9


def read(content: str, **settings_: Any) -> Table:
    return read_table(content.encode(), "x.csv", TableFormat(**settings_))


def only(table: Table) -> Series:
    (series,) = table.series
    return series


def daily(*cells: str, start: str = "2021-01-01") -> str:
    days = pd.date_range(start, periods=len(cells))
    return "day,a,b\n" + "".join(
        f"{day:%Y-%m-%d},{cell},{number}\n" for number, (day, cell) in enumerate(zip(days, cells, strict=True))
    )


# --- gaps and text


@settings(max_examples=100, deadline=None)
@given(
    st.sets(st.integers(0, 29), max_size=12),
    st.sets(st.integers(1, 28), max_size=10),
    st.sampled_from(["forward_fill", "interpolate"]),
)
def test_what_is_missing_is_filled_as_pandas_does_and_masked(empty: set[int], gone: set[int], method: str) -> None:
    days = pd.date_range("2021-01-01", periods=30)
    numbers = np.arange(30) ** 2 / 2
    cells = [("" if row in empty else str(numbers[row])) for row in range(30)]
    lines = [f"{day:%Y-%m-%d},{cell},{row}" for row, (day, cell) in enumerate(zip(days, cells, strict=True)) if row not in gone]
    table = read("day,a,b\n" + "\n".join(lines), gaps=method)
    series = only(table)
    expected = pd.Series([np.nan if row in empty | gone else numbers[row] for row in range(30)], index=days)
    filled = expected.ffill() if method == "forward_fill" else expected.interpolate("time")
    np.testing.assert_allclose(series.values[:, 0], filled.bfill(), rtol=1e-6)
    np.testing.assert_array_equal(series.filled[:, 0], expected.isna())
    np.testing.assert_array_equal(np.flatnonzero(series.filled[:, 1]), sorted(gone))
    assert table.filled_cells() == {"a": len(empty | gone), "b": len(gone)}


def test_forward_fill_never_uses_a_later_value_except_before_the_first() -> None:
    values = np.array([np.nan, 1, np.nan, 5, np.nan])
    result = fill(values, np.isnan(values), "forward_fill", np.arange(5) * DAY)
    assert result.tolist() == [1, 1, 1, 5, 5]


def test_text_and_gaps_are_filled_each_in_its_way() -> None:
    content = daily("1", "error", "3", "", "9", "inf", "9")
    series = only(read(content, text_cells="interpolate", gaps="forward_fill"))
    assert series.values[:, 0].tolist() == [1, 2, 3, 3, 9, 9, 9]
    assert series.filled[:, 0].tolist() == [False, True, False, True, False, True, False]
    notes = read(content, text_cells="interpolate", gaps="forward_fill").notes
    assert "Empty cells, filled: 1 (first: row 5, column a)." in notes
    assert "Cells with text, filled: 2 (first: row 3, column a)." in notes


@pytest.mark.parametrize("marker", ["", "NA", "n/a", "NaN", "null", "None", "-", "?"])
def test_markers_of_missing_values_are_empty_cells(marker: str) -> None:
    content = daily("1", "2", marker, "4")
    with pytest.raises(
        UserError, match=r"^x\.csv, row 4, column a: '.*' is no number; fill in what is missing, or set data\.gaps"
    ):
        read(content)
    assert only(read(content, gaps="interpolate")).values[:, 0].tolist() == [1, 2, 3, 4]


def test_more_missing_steps_than_rows_are_refused_whatever_the_policy() -> None:
    content = daily("1", "2", "3") + "2121-01-01,4,4\n"
    with pytest.raises(UserError, match=r"row 5, column day: '2121-01-01' comes after 36,521 missing time steps"):
        read(content, gaps="interpolate")


# --- order and duplicates


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)))
def test_sorted_rows_are_the_rows_in_order(order: list[int]) -> None:
    lines = daily(*"12345678").splitlines()
    content = "\n".join([lines[0], *(lines[1 + row] for row in order)])
    table = read(content, order="sort")
    assert only(table).values[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    drops = sum(later < earlier for earlier, later in itertools.pairwise(order))
    assert any(note.startswith(f"Rows not in the order of time, sorted: {drops} ") for note in table.notes) == (drops > 0)


@pytest.mark.parametrize(("policy", "kept"), [("first", 2.0), ("last", 6.0), ("mean", 4.0)])
def test_of_rows_at_the_same_time_one_is_kept(policy: str, kept: float) -> None:
    content = daily("1", "2", "3").replace("2021-01-03", "2021-01-02,4,1\n2021-01-02,6,1\n2021-01-03")
    table = read(content, duplicates=policy)
    assert only(table).values[:, 0].tolist() == [1, kept, 3]
    assert f"Rows with the time of another row ({policy} of each kept): 2 (first: row 4)." in table.notes


def test_the_mean_of_duplicates_leaves_out_empty_cells() -> None:
    content = daily("1", "2", "3").replace("2021-01-03", "2021-01-02,,1\n2021-01-02,4,1\n2021-01-03")
    assert only(read(content, duplicates="mean")).values[:, 0].tolist() == [1, 3, 3]


# --- many series


def test_interleaved_series_are_taken_apart_and_each_is_checked() -> None:
    content = "id,day,a\nx,2021-01-01,1\ny,2021-01-01,5\nx,2021-01-02,2\ny,2021-01-03,7\nx,2021-01-03,3\n"
    with pytest.raises(
        UserError, match=r"row 5, column day: '2021-01-03' comes after the missing time step 2021-01-02 \(series 'y'\)"
    ):
        read(content, id="id")
    table = read(content, id="id", gaps="interpolate")
    assert {series.name: series.values[:, 0].tolist() for series in table.series} == {"x": [1, 2, 3], "y": [5, 6, 7]}


def test_series_of_different_time_steps_are_refused() -> None:
    content = "id,day,a\n" + "".join(f"x,2021-01-0{day},{day}\n" for day in range(1, 6))
    content += "y,2021-01-01 00:00,1\ny,2021-01-01 01:00,2\n"
    with pytest.raises(
        UserError, match=r"row 7, column day: .* begins a series of frequency h, where series x has D \(series 'y'\)"
    ):
        read(content, id="id")


def test_a_series_of_one_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"row 4, column day: '2021-01-01' is the only row of its series \(series 'y'\)"):
        read("id,day,a\nx,2021-01-01,1\nx,2021-01-02,2\ny,2021-01-01,3\n", id="id")


def test_short_monthly_series_follow_the_calendar_of_the_longest() -> None:
    months = pd.date_range("2020-01-01", periods=5, freq="MS")
    content = "id,month,a\n" + "".join(f"x,{month:%Y-%m},{row}\n" for row, month in enumerate(months))
    table = read(content + "y,2020-02,1\ny,2020-03,2\n", id="id")
    assert table.frequency.alias == "MS"
    assert [len(series.time) for series in table.series] == [5, 2]


def test_one_series_a_column_begins_and_ends_with_its_values() -> None:
    content = "day,a,b\n2021-01-01,,1\n2021-01-02,2,2\n2021-01-03,,4\n2021-01-04,4,\n"
    table = read(content, columns="series", gaps="interpolate")
    assert table.channels == ["value"]
    first, second = table.series
    assert (first.name, first.values[:, 0].tolist(), first.filled[:, 0].tolist()) == ("a", [2, 3, 4], [False, True, False])
    assert (second.name, second.values[:, 0].tolist()) == ("b", [1, 2, 4])
    assert first.time[0] == second.time[1]
    assert "Empty cells before the start or after the end of a series, left out: 2 (first: row 2, series a)." in table.notes
    with pytest.raises(UserError, match=r"row 4, column a: '' is no number"):
        read(content, columns="series")


def test_a_static_column_that_changes_within_a_series_is_refused() -> None:
    content = "id,day,a,area\nx,2021-01-01,1,5\nx,2021-01-02,2,6\n"
    with pytest.raises(UserError, match=r"^x\.csv, row 3, column area: '6' differs from '5' in row 2 of the same series"):
        read(content, id="id", static=("area",))


# --- known columns


def test_known_columns_reach_beyond_the_last_target() -> None:
    content = "day,sales,price,open\n2021-01-01,1,2.5,yes\n2021-01-02,2,2.5,yes\n2021-01-03,,3,no\n2021-01-04,,3,yes\n"
    table = read(content, target=("sales",), known=("price", "open"))
    series = only(table)
    assert series.values[:, 0].tolist() == [1, 2]
    assert series.known.tolist() == [[2.5, 1], [2.5, 1]]
    assert series.future_known.tolist() == [[3, 0], [3, 1]]
    assert series.future_time.tolist() == [series.time[-1] + DAY, series.time[-1] + 2 * DAY]
    assert table.known == ["price", "open"]
    assert "Time steps after the last target, with known columns only: 2 (first: row 4)." in table.notes


def test_a_gap_in_a_known_column_of_the_future_is_found() -> None:
    content = "day,sales,price\n2021-01-01,1,2\n2021-01-02,2,3\n2021-01-03,,\n2021-01-04,,3\n"
    with pytest.raises(UserError, match=r"row 4, column price: '' is no number"):
        read(content, target=("sales",), known=("price",))
    series = only(read(content, target=("sales",), known=("price",), gaps="forward_fill"))
    assert series.future_known.tolist() == [[3], [3]]
    assert not series.filled.any()


# --- time zones


def test_a_wall_clock_file_over_both_changes_is_even_in_its_zone() -> None:
    stamps = pd.date_range("2021-01-01", "2022-01-01", freq="h", tz="Europe/Berlin")
    content = "t,a\n" + "".join(f"{stamp:%Y-%m-%d %H:%M},{row}\n" for row, stamp in enumerate(stamps))
    with pytest.raises(
        UserError, match=r"row 2068, .* comes after the missing time step 2021-03-28 02:00:00.* set data\.timezone, such as"
    ):
        read(content, duplicates="first")
    series = only(read(content, timezone="Europe/Berlin"))
    assert series.time.tolist() == stamps.as_unit("ns").asi8.tolist()
    assert series.wall.tolist() == stamps.tz_localize(None).as_unit("ns").asi8.tolist()


def test_days_of_a_zone_have_the_frequency_of_days() -> None:
    stamps = pd.date_range("2021-03-20", periods=20, tz="Europe/Berlin")
    content = "t,a\n" + "".join(f"{stamp.isoformat()},{row}\n" for row, stamp in enumerate(stamps))
    table = read(content)
    assert table.frequency.alias == "D"
    assert only(table).time.tolist() == stamps.as_unit("ns").asi8.tolist()


# --- precision and constants


def test_differences_that_float32_would_lose_are_kept_in_float64() -> None:
    content = daily(*(str(10**12 + row) for row in (1, 5, 3)))
    table = read(content)
    assert table.float64_channels == ["a"]
    assert only(table).values[:, 0].tolist() == [10**12 + 1, 10**12 + 5, 10**12 + 3]


def test_a_constant_channel_is_refused_or_kept_and_said() -> None:
    content = daily("5", "5", "5.0")
    with pytest.raises(UserError, match=r"row 2, column a: '5' is the only value of the column, down to row 4; leave a out"):
        read(content)
    assert "Channel a is constant." in read(content, constant="keep").notes


def test_a_channel_that_is_constant_in_one_series_is_said() -> None:
    content = "id,day,a\nx,2021-01-01,1\nx,2021-01-02,2\ny,2021-01-01,3\ny,2021-01-02,3\n"
    assert "Channel a is constant in 1 series: y." in read(content, id="id").notes


# --- settings


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"gaps": "mean"}, "data.gaps=mean: no such choice; use refuse, forward_fill, interpolate"),
        ({"decimal": ";"}, "data.decimal=;: no such choice"),
        ({"date_format": "iso"}, "data.date_format=iso: no format of dates; use auto, epoch_s"),
        ({"columns": "series", "id": "shop"}, "an id column, or one column for each series"),
        ({"target": ("a",), "known": ("a",)}, "the column 'a' has two roles"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings_: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TableFormat(**settings_)


def test_date_and_time_of_day_may_stand_in_two_columns() -> None:
    content = "date;time;a\n1.2.2021;00:00;1\n1.2.2021;00:30;2\n1.2.2021;01:00;3\n"
    table = read(content, time=("date", "time"))
    assert table.frequency.alias == "30min"
    assert only(table).time[0] == pd.Timestamp("2021-02-01").as_unit("ns").value


def test_lines_above_the_header_are_skipped_and_said() -> None:
    content = "Station 5;;\nexported 2021-05-01\n\nday;a;b\n2021-01-01;1;2\n2021-01-02;2;3\n"
    table = read(content, time=("day",), target=("a",))
    assert "The header is row 4; the rows before it are not read." in table.notes
    with pytest.raises(UserError, match="row 6, column a: 'x' is no number"):
        read(content.replace("2;3", "x;3"), time=("day",), target=("a",))


def test_a_sensor_with_jitter_is_read_at_its_nominal_step() -> None:
    chance = np.random.default_rng(0)
    ticks = np.delete(np.arange(100), [40, 41])
    milliseconds = 1_700_000_000_137 + 200 * ticks + chance.integers(-60, 61, len(ticks))
    content = "t,a\n" + "".join(f"{time},{tick}\n" for time, tick in zip(milliseconds, ticks, strict=True))
    with pytest.raises(UserError, match="its time steps must be equal"):
        read(content)
    table = read(content, frequency="200ms", gaps="interpolate")
    assert table.frequency.alias == "200ms"
    series = only(table)
    assert series.values[:, 0].tolist() == list(range(100))
    assert np.abs(series.time[ticks] // 10**6 - milliseconds).max() < 100
    assert any(note.startswith("Timestamps moved to the nearest step of 200ms: ") for note in table.notes)


@pytest.mark.parametrize("frequency", ["month", "MS", "B", "-1h", ""])
def test_a_frequency_that_is_no_fixed_step_is_refused(frequency: str) -> None:
    with pytest.raises(UserError, match=f"data.frequency={frequency}: no fixed step"):
        read(daily("1", "2", "3"), frequency=frequency)


def test_rows_that_fall_on_one_step_are_duplicates() -> None:
    content = "t,a\n2021-01-01 00:00,1\n2021-01-01 00:10,2\n2021-01-01 01:00,3\n2021-01-01 02:00,5\n"
    with pytest.raises(UserError, match="row 3, column t: '2021-01-01 00:10' is the same time as row 2"):
        read(content, frequency="h")
    assert only(read(content, frequency="h", duplicates="mean")).values[:, 0].tolist() == [1.5, 3, 5]


def test_a_separator_that_excel_states_is_taken() -> None:
    content = "sep=;\nday;a\n2021-01-01;1,5\n2021-01-02;2\n"
    assert only(read(content)).values[:, 0].tolist() == [1.5, 2]
    with pytest.raises(UserError, match="row 4, column a: 'x' is no number"):
        read(content.replace(";2", ";x"))


def test_static_columns_are_numbers_only_if_all_are() -> None:
    content = (
        "id;day;a;area;code\nx;2021-01-01;1,5;12,5;7\nx;2021-01-02;2;12,5;7\ny;2021-01-01;3;1.200;NaN\ny;2021-01-02;4;1.200;NaN\n"
    )
    first, second = read(content, id="id", static=("area", "code"), target=("a",)).series
    assert first.static == {"area": 12.5, "code": "7"}
    assert second.static == {"area": 1200.0, "code": "NaN"}


def test_rows_are_counted_as_an_editor_counts_them() -> None:
    content = 'day,note,a\n2021-01-01,"two\nlines",1\n\n2021-01-02,,2\n,,\n2021-01-03,"say ""no""",x\n'
    with pytest.raises(UserError, match=r"^x\.csv, row 7, column a: 'x' is no number"):
        read(content)
    assert only(read(content.replace("x", "3"))).values[:, 0].tolist() == [1, 2, 3]


def test_a_column_without_a_name_is_called_by_its_position() -> None:
    table = read(",a,\n2021-01-01,1,\n2021-01-02,2,\n2021-01-03,4,\n")  # as pandas writes an index
    assert table.channels == ["a"]
    assert table.notes[1:3] == ["The time column is column 1.", "The target columns are a. Not read: column 3."]


def test_columns_are_chosen_by_their_content() -> None:
    content = "name,id,day,a,b\nfoo,1,2021-01-01,1,n/a\nbar,2,2021-01-02,2,5\nbaz,3,2021-01-03,4,6\n"
    table = read(content, gaps="forward_fill")
    assert table.channels == ["id", "a", "b"]
    assert "The target columns are id, a, b. Not read: name." in table.notes
