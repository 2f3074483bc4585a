"""Every malformed file is refused in one line that names the file, the row and the column."""

import datetime
import io
import random
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from reprise.data.sequence_csv import read_sequence_csv
from reprise.data.tables.format import TableFormat
from reprise.data.tables.reader import read_table
from reprise.data.tsfile import read_ts
from reprise.errors import UserError

LONG = {"id": "shop", "target": ("v",)}
TABLES: list[tuple[str | bytes, dict[str, Any], str]] = [
    # cells
    ("t,v\n2021-01-01,1\n2021-01-02,abc\n", {}, "row 3, column v: 'abc' is no number"),
    ("t,v\n2021-01-01,1\n2021-01-02,\n2021-01-03,3\n", {}, "row 3, column v: '' is no number; fill in what is missing"),
    ("t,v\n2021-01-01,1\n2021-01-02,inf\n", {}, "row 3, column v: 'inf' is no number"),
    ("t,v\n2021-01-01,1\n2021-01-02,1e39\n", {}, "row 3, column v: '1e39' is out of the range of float32"),
    ("t,v\n2021-01-01,1\n2021-01-02,1e400\n", {}, "row 3, column v: '1e400' is out of the range of float32"),
    (
        "t;v\n2021-01-01;1,5\n2021-01-02;2.5\n2021-01-03;1,7\n",
        {},
        "row 3, column v: '2.5' has a decimal point, where row 2 has a decimal comma",
    ),
    ("t;v\n2021-01-01;1,500\n2021-01-02;2,500\n", {}, "row 2, column v: '1,500' may be a thousand or a decimal fraction"),
    (
        "t,v\n2021-01-01,5\n2021-01-02,5\n2021-01-03,5\n",
        {},
        "row 2, column v: '5' is the only value of the column, down to row 4",
    ),
    (
        "t,v\n2021-01-01,100000000000000001\n2021-01-02,100000000000000002\n2021-01-03,100000000000000003\n",
        {},
        "row 2, column v: '100000000000000001' and all other values differ only after the 15 digits",
    ),
    # dates
    ("t,v\n2021-01-01,1\nyesterday,2\n", {"time": ("t",)}, "row 3, column t: 'yesterday' is no date"),
    ("t,v\n2021-01-01,1\n2021-02-29,2\n", {}, "row 3, column t: '2021-02-29' is no date: the month has no such day"),
    ("t,v\n,1\n2021-01-02,2\n", {}, "row 2, column t: '' is no date"),
    ("t,v\n01/02/2021,1\n02/02/2021,2\n", {}, "row 2, column t: '01/02/2021' may begin with the day or the month"),
    (
        "t,v\n13/02/2021,1\n02/14/2021,2\n14/02/2021,3\n",
        {},
        "row 3, column t: '02/14/2021' has day and month in another order than row 2",
    ),
    ("t,v\n0,1\n1,2\n2,3\n", {"time": ("t",)}, "row 2, column t: '0' is neither a date nor seconds"),
    # time steps
    (
        "t,v\n2021-01-01,1\n2021-01-02,2\n2021-01-05,3\n2021-01-06,3\n",
        {},
        "row 4, column t: '2021-01-05' comes after a gap of 2 time steps from 2021-01-03",
    ),
    ("t,v\n2021-01-01,1\n2021-01-03,2\n2021-01-02,3\n", {}, "row 4, column t: '2021-01-02' is earlier than row 3 before it"),
    (
        "t,v\n2021-01-03,1\n2021-01-02,2\n2021-01-01,3\n",
        {},
        "row 3, column t: '2021-01-02' is earlier than the row before: the newest row comes first",
    ),
    ("t,v\n2021-01-01,1\n2021-01-02,2\n2021-01-02,3\n", {}, "row 4, column t: '2021-01-02' is the same time as row 3"),
    (
        "t,v\n2021-01-01 00:00,1\n2021-01-01 01:00,2\n2021-01-01 02:00,3\n2021-01-01 03:07,4\n2021-01-01 04:00,5\n",
        {},
        "row 5, column t: 4020 s after the row before, where 3600 s is the rule",
    ),
    (
        "t,v\n2021-03-28 01:00,1\n2021-03-28 02:00,2\n",
        {"timezone": "Europe/Berlin"},
        "row 3, column t: '2021-03-28 02:00' does not exist in Europe/Berlin",
    ),
    ("t,shop,v\n2021-01-01,a,1\n2021-01-02,a,2\n2021-01-01,,5\n", LONG, "row 4, column shop: '' names no series"),
    (
        "t,shop,v\n2021-01-01,a,1\n2021-01-02,a,2\n2021-01-01,b,5\n",
        LONG,
        "row 4, column t: '2021-01-01' is the only row of its series",
    ),
    # rows and header
    ("t,v\n2021-01-01,1\n2021-01-02,2,5\n", {}, "row 3, column 3: 3 cells, where the header has 2 columns"),
    ("t,v,w\n2021-01-01,1,2\n2021-01-02,2\n", {}, "row 3, column 3: 2 cells, where the header has 3 columns"),
    ('t,v\n2021-01-01,1\n2021-01-02,"2\n2021-01-03,3\n', {}, "row 3: a quotation mark is never closed"),
    ("2021-01-01,1\n2021-01-02,2\n", {}, "row 1, column 2: '1' is no name"),
    ("t\n2021-01-01\n", {}, "row 1: one column, 't', where a table has at least two"),
    (b"t,v\n2021-01-01,1\n2021-01-02,\x00\n", {}, "row 3: a NUL character"),
    # what exports and hands leave behind
    ("t,v\n2021-01-01,1\n2021-01-02,2%\n", {}, "row 3, column v: '2%' is no number"),
    ("t,v\n2021-01-01,1\n2021-01-02,#N/A\n", {}, "row 3, column v: '#N/A' is no number; fill in what is missing"),
    ("t,v\n2021-01-01,1\n2021-01-02,0x1F\n", {}, "row 3, column v: '0x1F' is no number"),
    ("t,v\n2021-01-01,1\n2021-01-02,2.3.4\n", {}, "row 3, column v: '2.3.4' is no number"),
    ("t,v\n2021-01-01,1\nt,v\n2021-01-02,2\n", {}, "row 3, column t: 't' is no date"),
    ("t,v\n2021-01-01,1\n2021-01-02,2\nTotal,3\n", {}, "row 4, column t: 'Total' is no date"),
    ("t;v\n2021-01-01;1;\n2021-01-02;2;\n", {}, "row 2, column 3: 3 cells, where the header has 2 columns"),
    ("t,v\n2021-01-01,1\n9999-01-02,2\n", {}, "row 3, column t: '9999-01-02' is out of range"),
    ("t,v\n2021-01-01 23:00,1\n2021-01-01 24:00,2\n", {}, "row 3, column t: '2021-01-01 24:00' is no time of day"),
    ("t,v\n2021-01-01T00:00Z,1\n2021-01-01T01:00,2\n2021-01-01T02:00Z,3\n", {}, "row 3, column t: .* has no offset from UTC"),
    (
        "t,s,a,v\n2021-01-01,x,1,1\n2021-01-02,x,2,2\n",
        {"id": "s", "static": ("a",), "target": ("v",)},
        "row 3, column a: '2' differs from '1' in row 2 of the same series",
    ),
    ("t,v\n2021-01-01,1\n2021-01-02,2\n".encode("utf-16")[:-1], {}, "row 3: not utf-16 text"),
    ("t,v\n2021-01-01,1\n2021-01-02,ä\n".encode("latin-1"), {"encoding": "utf-8"}, "row 3: not utf-8 text"),
]
FILES: list[tuple[str | bytes, dict[str, Any], str]] = [
    ("", {}, "x.csv is empty"),
    ("\n\n", {}, "x.csv is empty"),
    ("t,v\n", {}, "x.csv has no row below its header"),
    ("t,v,v\n2021-01-01,1,2\n", {"target": ("v",)}, "x.csv: 2 columns are called 'v'"),
    ("t,value\n2021-01-01,1\n", {"target": ("Value",)}, "x.csv has no column 'Value'; it has 'value': use the same name in both"),
    ("t,value\n2021-01-01,1\n", {"target": ("load",)}, "x.csv has no column 'load'; its columns are t, value"),
    ("a,b\nx,1\ny,2\n", {}, "x.csv: no column holds dates"),
    ("t,u,v\n2021-01-01,2021-01-01,1\n2021-01-02,2021-01-02,2\n", {}, "x.csv: 2 columns hold dates: t, u; set data.time"),
    (b"\x1f\x8b\x08\x00data", {}, "x.csv is a gzip file"),
    (b"PK\x03\x04data", {}, "x.csv is a ZIP archive or an Excel workbook"),
    (b"<!DOCTYPE html><html>", {}, "x.csv is a web page"),
    (b"PAR1 and then nothing", {}, "x.csv is no readable Parquet file"),
    (b"%PDF-1.4\n", {}, "x.csv is a PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", {}, "x.csv is an Excel workbook"),
    ("t,v\n2021-01-01,1\n2021-01-02,2\n", {"time": ("t",), "target": ("t",)}, "the column 't' has two roles"),
]


def day(number: int) -> datetime.datetime:
    return datetime.datetime(2021, 1, number)


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


PARQUET: list[tuple[bytes, dict[str, Any], str]] = [
    (parquet(t=[day(1), day(2), day(3)], v=[1.0, None, 3.0]), {}, "row 2, column v: '' is no number"),
    (parquet(t=[day(1), day(2), day(3)], v=[1.0, float("inf"), 3.0]), {}, "row 2, column v: 'inf' is no number"),
    (parquet(t=[day(1), day(2), day(3)], v=[1.0, 1e300, 3.0]), {}, "row 2, column v: '1e.300' is out of the range of float32"),
    (parquet(t=[day(1), None, day(3)], v=[1.0, 2.0, 3.0]), {}, "row 2, column t: '' is no date"),
    (
        parquet(t=[day(1), day(2), day(4)], v=[1.0, 2.0, 3.0]),
        {},
        "row 3, column t: '2021-01-04 00:00:00' comes after the missing time step 2021-01-03",
    ),
    (
        parquet(t=[day(1), day(2), day(2)], v=[1.0, 2.0, 3.0]),
        {},
        "row 3, column t: '2021-01-02 00:00:00' is the same time as row 2",
    ),
    (parquet(t=["2021-01-01", "soon"], v=[1.0, 2.0]), {"time": ("t",)}, "row 2, column t: 'soon' is no date"),
    (parquet(t=[day(1), day(2)], v=["1", "x"]), {}, "row 2, column v: 'x' is no number"),
    (parquet(t=[day(1), day(2)], v=[[1], [2]]), {"target": ("v",)}, r"row 1, column v: '\[1\]' is no number"),
    (
        parquet(t=[datetime.date(1500, 1, 1), datetime.date(2021, 1, 1)], v=[1, 2]),
        {},
        "row 1, column t: '1500-01-01' is out of range",
    ),
    (
        parquet(t=[day(1), day(2), day(3)], v=[2**60, 2**60 + 1, 2**60 + 2]),
        {},
        "row 1, column v: '1152921504606846976' and all other values",
    ),
]
PARQUET.append((parquet(t=pa.array([2**60, 0], pa.timestamp("us")), v=[1, 2]), {}, f"row 1, column t: '{2**60}' is out of range"))
PARQUET += [
    (parquet(t=[day(1), day(2)], v=[{"a": 1}, {"a": 2}]), {"target": ("v",)}, "row 1, column v: .* is no number"),
    (parquet(t=[day(1), day(2)], v=pa.nulls(2)), {"target": ("v",)}, "row 1, column v: '' is no number"),
    (parquet(t=pa.array([day(1)], pa.timestamp("us", "Mars/X")), v=[1]), {}, "row 1, column t: the time zone Mars/X is unknown"),
]
HEADER = """#comment
@problemName Toy
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength true
@seriesLength 3
@classLabel true up down
@data
"""
GOOD = "1,2,3:4,5,6:up\n"
SEQUENCES: list[tuple[str, str]] = [
    (HEADER + GOOD + "1,x,3:4,5,6:up\n", "row 12, channel 1, column 2: 'x' is no number"),
    (HEADER + GOOD + "1,2,3:4,5,inf:up\n", "row 12, channel 2, column 3: 'inf' is out of the range of float32"),
    (HEADER + GOOD + "1,2,3:4,,6:up\n", "row 12, channel 2, column 2: '' is no number"),
    (HEADER + GOOD + "1,2,3:4,5:up\n", "row 12, channel 2, column 3: 2 values where 3 are expected"),
    (HEADER + GOOD + "1,2,3,4:4,5,6,7:up\n", "row 12, channel 1, column 4: 4 values where 3 are expected"),
    (HEADER + GOOD + "1,2,3:up\n", "row 12, column 2: 1 channels and a class, where 2 and a class are expected"),
    (HEADER + GOOD + "1,2,3:4,5,6:7,8,9:up\n", "row 12, column 4: 3 channels and a class, where 2"),
    (HEADER + GOOD + "1,2,3:4,5,6:left\n", "row 12, column 3: 'left' is no class; the header names up, down"),
    (HEADER + GOOD + "1,2,3:4,5,6\n", "row 12, column 2: 1 channels and a class"),
    (HEADER, "row 10: no sequence after @data"),
    (HEADER.replace("@data\n", ""), "row 9: no line @data"),
    (HEADER.replace("@data\n", GOOD), "row 10, column 1: '1,2,3:4,5,6:up' before @data"),
    (HEADER.replace("@timeStamps false", "@timeStamps true") + GOOD, "row 10: @timeStamps is true"),
    (HEADER.replace("@missing false", "@missing perhaps") + GOOD, "row 4: @missing perhaps is neither true nor false"),
    (HEADER.replace("@dimensions 2", "@dimensions two") + GOOD, "row 6: @dimensions two is no whole number"),
    (HEADER.replace("@classLabel true up down", "@classLabel false") + GOOD, "row 10: the header has no @classLabel true"),
    (HEADER.replace("up down", "up up") + GOOD, "row 9: @classLabel names 'up' twice"),
    (HEADER.replace("@classLabel true up down", "@targetLabel true") + GOOD, "row 10: @targetLabel is true"),
    (HEADER.replace("@seriesLength 3", "@seriesLength -3") + GOOD, "row 8: @seriesLength -3 is no whole number"),
    (HEADER.replace("true up down", "true") + GOOD, "row 10: @classLabel names 0 classes"),
    (HEADER + "1 2 3:4 5 6:up\n", "row 11, channel 1, column 1: '1 2 3' is no number"),
    (HEADER + GOOD + "@data\n", "row 12, column 1: 0 channels and a class, where 2"),
    (HEADER.replace("@missing", "@mising") + GOOD, "row 4: @mising is no tag of the header"),
]
ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("1,0.5,0.7\n2,0.1,abc\n", {}, "row 2, column 3: 'abc' is no number"),
    ("1,0.5,0.7\n,0.1,0.2\n", {}, "row 2, column 1: '' is no class"),
    ("1,0.5,0.7\n2,,\n", {}, "row 2, column 2: no values"),
    ("1,0.5,0.7\n2,0.1,0.2,0.3\n", {"channels": 2}, "row 2, column 4: 3 values are no multiple of 2 channels"),
    ("1,0.5,0.7\n1,0.1,0.2\n", {}, "row 1: 1 class in the whole file"),
    ("a,b,kind\n0.5,0.7,x\n", {"label": "sort"}, "row 1: no column 'sort'"),
    ("1,0.5,0.7\n2,0.1,0.2\n", {"classes": ["1", "3"]}, "row 2, column 1: '2' is no class; the classes are 1, 3"),
]


def refused(read: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read()
    assert "\n" not in str(error.value)
    assert ";" in str(error.value)  # what to do follows what is wrong


def encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize(("content", "settings", "message"), TABLES)
def test_a_malformed_csv_table_is_named_by_row_and_column(content: str | bytes, settings: dict[str, Any], message: str) -> None:
    refused(lambda: read_table(encoded(content), "x.csv", TableFormat(**settings)), f"^x.csv, {message}")


@pytest.mark.parametrize(("content", "settings", "message"), FILES)
def test_a_file_that_is_no_such_table_is_named(content: str | bytes, settings: dict[str, Any], message: str) -> None:
    refused(lambda: read_table(encoded(content), "x.csv", TableFormat(**settings)), f"^{message}")


@pytest.mark.parametrize(("content", "settings", "message"), PARQUET)
def test_a_malformed_parquet_table_is_named_by_row_and_column(content: bytes, settings: dict[str, Any], message: str) -> None:
    refused(lambda: read_table(content, "x.parquet", TableFormat(**settings)), f"^x.parquet, {message}")


@pytest.mark.parametrize(("content", "message"), SEQUENCES)
def test_a_malformed_ts_file_is_named_by_row_and_column(content: str, message: str) -> None:
    refused(lambda: read_ts(content.encode(), "x.ts"), f"^x.ts, {message}")


@pytest.mark.parametrize(("content", "settings", "message"), ROWS)
def test_a_malformed_csv_of_sequences_is_named_by_row_and_column(content: str, settings: dict[str, Any], message: str) -> None:
    refused(lambda: read_sequence_csv(content.encode(), "x.csv", **settings), f"^x.csv, {message}")


SCRAPS = [
    b",",
    b";",
    b"\n",
    b"\r",
    b'"',
    b"'",
    b"\t",
    b"-",
    b".",
    b"x",
    b"\x00",
    b"\xff",
    b"nan",
    b"inf",
    b"1e400",
    b"",
    b"\n\n",
    b"9" * 30,
    b"@",
    b":",
]


def damaged(content: bytes, chance: random.Random) -> bytes:
    result = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(result) + 1)
        result[start : start + chance.choice([0, 1, 2, 5, 30])] = chance.choice(SCRAPS)
    return bytes(result)


@pytest.mark.parametrize("seed", range(4))
def test_damage_of_any_kind_is_read_or_refused_in_one_line(seed: int) -> None:
    chance = random.Random(seed)
    table = "Zeit;v;w\n" + "".join(f"{row + 1:02d}.01.2021 00:00;{row},5;{row * row}\n" for row in range(20))
    stored = parquet(t=[day(row) for row in range(1, 21)], v=[row / 2 for row in range(20)])
    policy = TableFormat(gaps="interpolate", text_cells="forward_fill", duplicates="mean", order="sort", constant="keep")
    readers: list[tuple[bytes, Callable[[bytes], object]]] = [
        (table.encode(), lambda content: read_table(content, "x", TableFormat())),
        (table.encode("utf-16"), lambda content: read_table(content, "x", policy)),
        (stored, lambda content: read_table(content, "x", policy)),
        ((HEADER + GOOD * 3).encode(), lambda content: read_ts(content, "x")),
        (b"1,0.5,0.7,0.1\n2,0.1,0.2,0.3\n1,4,5\n", lambda content: read_sequence_csv(content, "x")),
    ]
    for content, read in readers:
        for _ in range(60):
            try:
                read(damaged(content, chance))
            except UserError as error:
                line = str(error)
                if "\n" in line or not line:
                    raise
