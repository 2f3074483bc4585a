"""Readers of published files: the right arrays, or an error that names row and column."""

import struct
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from reprise.data.formats import read_csv_images, read_csv_series, read_idx
from reprise.errors import UserError

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
DAY = 86_400
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def idx(array: npt.NDArray[Any]) -> bytes:
    """Encode an array as an IDX file, written from the description of the format and not with the table of the reader."""
    code = CODES[array.dtype.str[1:]]
    extents = b"".join(struct.pack(">I", extent) for extent in array.shape)
    return bytes([0, 0, code, array.ndim]) + extents + array.astype(array.dtype.newbyteorder(">")).tobytes()


def csv_images(images: npt.NDArray[np.uint8], labels: npt.NDArray[np.int64]) -> str:
    rows = np.concatenate([images.reshape(len(images), -1), labels[:, None]], axis=1)
    return "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())


def csv_series(stamps: list[str], columns: dict[str, list[Any]]) -> bytes:
    lines = [",".join(["when", *columns])]
    lines += [",".join([stamp, *map(str, cells)]) for stamp, *cells in zip(stamps, *columns.values(), strict=True)]
    return ("\n".join(lines) + "\n").encode()


def days(count: int) -> list[str]:
    return [str(day) for day in np.datetime64("2012-01-01") + np.arange(count)]


IDX_ARRAYS = st.sampled_from(list(CODES)).flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)


@settings(max_examples=60, deadline=None)
@given(IDX_ARRAYS)
def test_an_idx_file_is_read_back_as_the_array_that_was_written(array: npt.NDArray[Any]) -> None:
    read = read_idx(idx(array), "x")
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@settings(max_examples=60, deadline=None)
@given(IDX_ARRAYS, st.data())
def test_a_truncated_idx_file_is_refused(array: npt.NDArray[Any], data: st.DataObject) -> None:
    content = idx(array)
    with pytest.raises(UserError, match=r"^pictures-idx"):
        read_idx(content[: data.draw(st.integers(0, len(content) - 1))], "pictures-idx")


def test_an_idx_file_with_extra_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="x promises 3 bytes of numbers and holds 4"):
        read_idx(idx(np.zeros(3, np.uint8)) + b"\0", "x")


@pytest.mark.parametrize("start", [b"\x1f\x8b\x08\x00", b"<htm", b"\x00\x00\x07\x01", b"\x00\x01\x08\x01", b""])
def test_a_file_without_an_idx_header_is_refused(start: bytes) -> None:
    with pytest.raises(UserError, match="x is no IDX file"):
        read_idx(start + bytes(8) if start else start, "x")


@settings(max_examples=40, deadline=None)
@given(st.data(), arrays.array_shapes(min_dims=3, max_dims=3, max_side=4), st.integers(1, 6))
def test_a_csv_of_images_is_read_back_as_pixels_and_labels(data: st.DataObject, shape: tuple[int, ...], count: int) -> None:
    images = data.draw(arrays.arrays(np.uint8, (count, *shape)))
    labels = data.draw(arrays.arrays(np.int64, count, elements=st.integers(0, 1000)))
    read_images, read_labels = read_csv_images(csv_images(images, labels).encode(), "x", shape)
    assert (read_images.dtype, read_labels.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(read_images, images)
    np.testing.assert_array_equal(read_labels, labels)


@pytest.mark.parametrize("cell", ["dog", "", "256", "-1", "1.5", "nan", "inf"])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (2, 3), (1, 4)])
def test_an_invalid_cell_in_a_csv_of_images_is_named_by_row_and_column(cell: str, row: int, column: int) -> None:
    if column == 4 and cell == "256":
        cell = "label"  # a label may be any integer
    table = [["1", "2", "3", "4", "0"] for _ in range(3)]
    table[row][column] = cell
    with pytest.raises(UserError, match=rf"^x\.csv, row {row + 1}, column {column + 1}: '{cell}' is no "):
        read_csv_images("\n".join(",".join(line) for line in table).encode(), "x.csv", (2, 2, 1))


def test_a_csv_of_images_of_another_size_is_refused() -> None:
    with pytest.raises(UserError, match="has 5 columns; 9 pixels and a label"):
        read_csv_images(b"1,2,3,4,0\n", "x", (3, 3, 1))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\xff", b'"1,2\n', b"1,2\n1,2,3\n"])
def test_a_file_that_is_no_csv_table_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match="x is no CSV table"):
        read_csv_images(content, "x", (1, 1, 1))


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.float32, st.tuples(st.integers(2, 8), st.integers(1, 3)), elements=FLOAT32),
    st.integers(-3_000_000_000, 4_000_000_000),
    st.integers(1, 10 * DAY),
)
def test_a_csv_of_a_series_is_read_back_as_times_and_values(values: npt.NDArray[np.float32], first: int, step: int) -> None:
    seconds = first + step * np.arange(len(values))
    columns: dict[str, list[Any]] = {f"c{number}": values[:, number].tolist() for number in range(values.shape[1])}
    content = csv_series([str(stamp) for stamp in seconds.astype("datetime64[s]")], columns)
    read = read_csv_series(content, "x", "when", list(columns))
    in_range = np.abs(values).max() <= np.finfo(np.float32).max / 4  # so that differences are, too
    assert (read.time.dtype, read.values.dtype) == (np.int64, np.float32 if in_range else np.float64)
    np.testing.assert_array_equal(read.time, seconds * 10**9)
    np.testing.assert_array_equal(read.values, values)


def test_channels_are_read_in_the_requested_order_and_others_are_omitted() -> None:
    content = csv_series(days(2), {"a": [1, 2], "b": ["x", "y"], "c": [3, 4]})
    assert read_csv_series(content, "x", "when", ["c", "a"]).values.tolist() == [[3, 1], [4, 2]]


@pytest.mark.parametrize("stamp", ["2012-01-01T00:00:00Z", "2012-01-01 02:00+02:00", "2012-01-01"])
def test_timestamps_are_converted_to_utc(stamp: str) -> None:
    read = read_csv_series(csv_series([stamp, "2012-01-02T00:00:00Z"], {"a": [1, 2]}), "x", "when", ["a"])
    assert read.time.tolist() == [15_340 * DAY * 10**9, 15_341 * DAY * 10**9]


@pytest.mark.parametrize("cell", ["warm", "", "inf", "nan", "1e39", "1,5"])
@pytest.mark.parametrize("row", [0, 1, 3])
def test_an_invalid_cell_in_a_series_is_named_by_row_and_column(cell: str, row: int) -> None:
    cells: list[Any] = [1.0, 2.0, 3.0, 4.0]
    cells[row] = f'"{cell}"'
    content = csv_series(days(4), {"dry": [0, 0, 0, 0], "temp": cells})
    with pytest.raises(UserError, match=rf"^x\.csv, row {row + 2}, column temp: '{cell}' is no number"):
        read_csv_series(content, "x.csv", "when", ["dry", "temp"])


def test_row_numbers_are_line_numbers_including_blank_lines() -> None:
    content = b"when,a\n2012-01-01,1\n\n2012-01-02,2\n2012-01-03,x\n\n\n"
    with pytest.raises(UserError, match="row 5, column a: 'x'"):
        read_csv_series(content, "x", "when", ["a"])
    assert len(read_csv_series(content.replace(b"x", b"3"), "x", "when", ["a"]).time) == 3


@pytest.mark.parametrize("stamp", ["soon", "", "2012-13-01", "13/01/2012", "NaT"])
def test_an_invalid_date_is_named_by_row_and_column(stamp: str) -> None:
    stamps = days(3)
    stamps[1] = stamp
    with pytest.raises(UserError, match=f"^x, row 3, column when: '{stamp}' is no date"):
        read_csv_series(csv_series(stamps, {"a": [1, 2, 3]}), "x", "when", ["a"])


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.data())
def test_a_missing_time_step_is_named_by_the_row_after_it(count: int, data: st.DataObject) -> None:
    missing = data.draw(st.integers(1, count - 2))
    stamps = [day for number, day in enumerate(days(count)) if number != missing]
    if len(stamps) < 4:  # of two steps, none is the rule
        stamps += ["2012-01-05"]
    content = csv_series(stamps, {"a": [0] * len(stamps)})
    with pytest.raises(UserError, match=f"row {missing + 2}, column when: 2 days after the row before, where 1 day is the rule"):
        read_csv_series(content, "x", "when", ["a"])


@pytest.mark.parametrize(("stamps", "row"), [([0, 1, 1, 2, 3], 4), ([0, 1, 2, 1, 2, 3], 5), ([0, 0], 3), ([3, 2, 1], 3)])
def test_repeated_or_decreasing_timestamps_are_refused(stamps: list[int], row: int) -> None:
    content = csv_series([days(9)[stamp] for stamp in stamps], {"a": [0] * len(stamps)})
    with pytest.raises(UserError, match=f"row {row}, column when"):
        read_csv_series(content, "x", "when", ["a"])


@pytest.mark.parametrize(("time", "channel", "missing"), [("date", "a", "date"), ("when", "b", "b")])
def test_a_missing_column_is_named_with_the_existing_ones(time: str, channel: str, missing: str) -> None:
    with pytest.raises(UserError, match=f"x has no column '{missing}'; its first line has when, a"):
        read_csv_series(csv_series(days(2), {"a": [1, 2]}), "x", time, [channel])


def test_rows_longer_than_the_header_are_refused() -> None:
    with pytest.raises(UserError, match="more cells than the header"):
        read_csv_series(b"when,a\n2012-01-01,1,5\n2012-01-02,2,6\n", "x", "when", ["a"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"when,a\n", "x has no row below its header; a series is at least two time steps"),
        (b"when,a\n\n\n", "x has no row below its header"),
        (b"when,a\n2012-01-01,1\n", "x has one row; a series is at least two"),
        (b"", "x is no CSV table"),
        (b"when, a\n2012-01-01, 1\n", "the column ' a' has spaces around its name; remove them from the header"),
        (b" when ,a\n2012-01-01,1\n", "the column ' when ' has spaces around its name"),
        (b'when, "a"\n2012-01-01,1\n', """x has no column 'a'; it has ' "a"': use the same name in both"""),
        (b"when,A\n2012-01-01,1\n", "x has no column 'a'; it has 'A': use the same name in both"),
        (b"when;a\n2012-01-01;1\n", "its columns are separated by ';'; separate them by commas"),
        (b"when\ta\n2012-01-01\t1\n", r"its columns are separated by '\\t'"),
        (b"when,a,a\n2012-01-01,1,2\n", "2 columns are called 'a'"),
        (b"2012-01-01,1\n2012-01-02,2\n", "no column 'when'; its first line has 2012-01-01, 1"),
        (b"\nwhen,a\n2012-01-01,1\n", "x is no CSV table: it is empty, or its first line is"),
        (b"when,a\n2012-01-03,1\n2012-01-02,2\n2012-01-01,2\n", "row 3, column when: the rows run from the newest to the oldest"),
        (
            b"when,a\n2012-01-01,1\n2012-01-02,2\n2012-01-01,2\n",
            "row 4, column when: '2012-01-01' is earlier than the row before",
        ),
        (b"when,a\n2012-01-01,1\n2012-01-01,2\n2012-01-02,2\n", "row 3, column when: '2012-01-01' is the same time as the row"),
    ],
)
def test_a_csv_that_is_no_series_is_refused_with_the_reason_in_one_line(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read_csv_series(content, "x", "when", ["a"])
    assert "\n" not in str(refused.value)


def test_a_byte_order_mark_is_ignored() -> None:
    read = read_csv_series(b"\xef\xbb\xbf" + csv_series(days(2), {"a": [1, 2]}), "x", "when", ["a"])
    assert read.values.tolist() == [[1], [2]]


# --- precision


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 99), min_size=3, max_size=30).filter(lambda steps: len(set(steps)) > 2),
    st.integers(0, 12),
    st.sampled_from([1, 10, 1000]),
)
@example([42, 47, 1], 3, 1000)
def test_differences_of_a_series_are_kept_at_any_level(steps: list[int], exponent: int, parts: int) -> None:
    exact = [Decimal(10) ** exponent + Decimal(step) / parts for step in steps]
    read = read_csv_series(csv_series(days(len(exact)), {"a": exact}), "x", "when", ["a"])
    differences = np.diff(read.values[:, 0].astype(np.float64))
    expected = np.diff(steps) / parts
    size = np.abs(expected)
    step = np.maximum(size, np.quantile(size[size > 0], 0.1))  # each of the two rows is rounded by at most 0.1 % of its step
    assert (np.abs(differences - expected) <= 2 * (1e-3 * step + np.spacing(10.0**exponent))).all()
    assert len(np.unique(read.values)) == len(set(steps))
    assert (read.values.dtype == np.float64) == (read.float64_channels == ["a"])
    if exponent <= 1 and parts == 1:
        assert read.values.dtype == np.float32
    if exponent >= 9:
        assert read.values.dtype == np.float64


def test_channels_that_float32_cannot_represent_are_listed() -> None:
    read = read_csv_series(csv_series(days(3), {"a": [1, 2, 3], "b": [10**12 + 1, 10**12 + 2, 10**12]}), "x", "when", ["a", "b"])
    assert read.float64_channels == ["b"]
    assert read.values.tolist() == [[1, 10**12 + 1], [2, 10**12 + 2], [3, 10**12]]


@pytest.mark.parametrize("cells", [[5, 5, 5], [0.1, 0.1, 0.1], ["0.1", "0.10", "1e-1"], [1.5e-3, 2.5e-3, 1.5e-3]])
def test_a_series_that_float32_can_represent_is_float32(cells: list[Any]) -> None:
    assert read_csv_series(csv_series(days(3), {"a": cells}), "x", "when", ["a"]).values.dtype == np.float32


@pytest.mark.parametrize("cells", [[1e-46, 2e-46, 3e-46], [0, 1e-44, 2.1e-44], [3e38, -3e38, 0], [16777216, 16777217, 16777218]])
def test_a_series_out_of_the_range_of_float32_is_float64(cells: list[Any]) -> None:
    read = read_csv_series(csv_series(days(3), {"a": cells}), "x", "when", ["a"])
    assert read.values.dtype == np.float64
    assert read.values[:, 0].tolist() == cells


@pytest.mark.parametrize(
    "cells",
    [
        [10**17, 10**17 + 1, 10**17 + 2],
        ["1000000000000.00000001", "1000000000000.00000002", "1000000000000.00000003"],
        [9007199254740992, 9007199254740993, 9007199254740994],
    ],
)
def test_a_series_that_float64_cannot_represent_is_refused(cells: list[Any]) -> None:
    with pytest.raises(UserError, match=r"x, column a: float64 holds 15 digits, .*; subtract a constant from the column"):
        read_csv_series(csv_series(days(3), {"a": cells}), "x", "when", ["a"])
