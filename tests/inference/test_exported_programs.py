"""The programs of an exported model read the files that the model was trained on, as `predict` does."""

import importlib.util
import json
import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from reprise.data.sequence_csv import read_sequence_csv
from reprise.data.tables.format import TableFormat
from reprise.data.tables.reader import read_table
from reprise.inference.export.folder import FILES

LOOKBACK = 20
AUTO = {"separator": "auto", "decimal": "auto"}


def program(folder: Path, kind: str, signature: dict[str, Any]) -> ModuleType:
    """Return the module of a program beside its signature."""
    (folder / "signature.json").write_text(json.dumps(signature))
    file = shutil.copyfile(FILES / f"predict_{kind}.py", folder / "predict.py")
    spec = importlib.util.spec_from_file_location("predict", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def for_series(folder: Path, step: timedelta, frequency: str, **table: Any) -> ModuleType:
    steps = [round(step.total_seconds() * 1e9)] * 2
    settings = {"time": [], "target": [], "id": None, "columns": "channels", "date_format": "auto", "timezone": None, **AUTO}
    signature = {"channels": ["load kWh"], "lookback": LOOKBACK, "frequency": frequency}
    return program(folder, "series", signature | {"table": settings | {"steps_ns": steps} | table})


def written(separator: str, mark: str, dates: str, step: timedelta, rows: int = 60) -> str:
    """Return a table of one channel from 2024-01-20 on."""
    lines = [f"when{separator}load kWh"]
    for row in range(rows):
        at = datetime(2024, 1, 20) + row * step
        stamp = str(round((at - datetime(1970, 1, 1)).total_seconds())) if dates == "epoch" else at.strftime(dates)
        lines.append(f"{stamp}{separator}" + f"{1000 + 7.25 * row:.2f}".replace(".", mark))
    return "\n".join(lines) + "\n"


HALF_HOUR, DAY = timedelta(minutes=30), timedelta(days=1)


@pytest.mark.parametrize(
    ("separator", "mark", "dates", "step"),
    [
        (";", ",", "%d.%m.%Y %H:%M", HALF_HOUR),
        (",", ".", "%Y-%m-%dT%H:%M:%SZ", HALF_HOUR),
        (",", ".", "%Y-%m-%d %H:%M:%S+0200", HALF_HOUR),
        ("\t", ".", "%m/%d/%Y %H:%M", HALF_HOUR),
        ("|", ",", "%d/%m/%Y", DAY),
        (";", ",", "%Y/%m/%d", DAY),
        (";", ".", "%Y%m%d", DAY),
        (",", ".", "epoch", HALF_HOUR),
    ],
)
def test_a_series_is_read_as_in_training(tmp_path: Path, separator: str, mark: str, dates: str, step: timedelta) -> None:
    content = written(separator, mark, dates, step).encode()
    (expected,) = read_table(content, "load.csv", TableFormat()).series
    time, values = for_series(tmp_path, step, "30min").read(content)[""]
    np.testing.assert_array_equal(time, expected.time[-LOOKBACK:])
    np.testing.assert_array_equal(values.astype(np.float32), expected.values[-LOOKBACK:])


def test_several_series_of_a_table_are_told_apart(tmp_path: Path) -> None:
    header, *rows = written(";", ",", "%d.%m.%Y %H:%M", HALF_HOUR).splitlines()
    content = "\n".join([f"shop;{header}", *(f"{shop};{row}" for row in rows for shop in ("north", "south"))]).encode()
    read = for_series(tmp_path, HALF_HOUR, "30min", id="shop").read(content)
    expected = {one.name: one for one in read_table(content, "load.csv", TableFormat(id="shop")).series}
    assert list(read) == ["north", "south"]
    for name, (time, values) in read.items():
        np.testing.assert_array_equal(time, expected[name].time[-LOOKBACK:])
        np.testing.assert_array_equal(values.astype(np.float32), expected[name].values[-LOOKBACK:])


def test_each_column_is_a_series_where_it_was_in_training(tmp_path: Path) -> None:
    content = (
        written(";", ",", "%d.%m.%Y %H:%M", HALF_HOUR).replace("load kWh", "a;b").replace(",25", ",25;1").replace(",50", ",50;2")
    )
    content = content.replace(",75", ",75;3").replace(",00\n", ",00;4\n")
    read = for_series(tmp_path, HALF_HOUR, "30min", columns="series").read(content.encode())
    assert {name: values[-1, 0] for name, (_, values) in read.items()} == {"a": 1427.75, "b": 3}


def test_local_time_of_a_zone_repeats_an_hour_in_autumn(tmp_path: Path) -> None:
    start = datetime.fromisoformat("2024-10-26T16:00+00:00")
    hours = [start + timedelta(hours=hour) for hour in range(LOOKBACK)]
    local = [f"{(at + timedelta(hours=2 if at.hour < 1 or at.day == 26 else 1)):%Y-%m-%d %H:%M},{at.hour}" for at in hours]
    assert sum(row.startswith("2024-10-27 02:00") for row in local) == 2
    module = for_series(tmp_path, timedelta(hours=1), "h", timezone="Europe/Berlin")
    time, _ = module.read("\n".join(["time,load kWh", *local]).encode())[""]
    assert time.tolist() == [round(at.timestamp()) * 10**9 for at in hours]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: "\n".join(line for line in text.split("\n") if not line.startswith("21.01.2024 02:00")),
            "row 54: 3600 s after",
        ),
        (lambda text: text.replace("1000,00", "1000,00;1"), "row 2 has other columns"),
        (lambda text: text.split("\n")[0], "no rows below the header"),
        (lambda text: text.replace("1427,75", ""), "row 61, column load kWh: '' is no number"),
        (lambda text: text.replace("1427,75", "nan"), "row 61, column load kWh: 'nan' is no number"),
        (lambda text: text.replace("load kWh", "load"), "no header with the column 'load kWh'"),
        (lambda text: text.replace("21.01.2024 05:30", "yesterday"), "row 61: 'yesterday' is no date"),
        (lambda text: text.replace("1427,75", "1.427,75").replace("1420,50", "1,420.50"), "a decimal comma?"),
    ],
)
def test_a_table_that_the_model_cannot_use_is_refused_by_row(tmp_path: Path, change: Any, message: str) -> None:
    text = change(written(";", ",", "%d.%m.%Y %H:%M", HALF_HOUR))
    with pytest.raises(ValueError, match=re.escape(message)):
        for_series(tmp_path, HALF_HOUR, "30min").read(text.encode())


def test_a_missing_working_day_and_an_unclear_month_are_refused(tmp_path: Path) -> None:
    days = [day for day in (datetime(2024, 1, 1) + timedelta(days=number) for number in range(40)) if day.weekday() < 5]
    module = for_series(tmp_path, DAY, "B", steps_ns=[DAY.days * 86400 * 10**9, 3 * 86400 * 10**9])
    table = ["time,load kWh", *(f"{day:%Y-%m-%d},1" for day in days)]
    assert len(module.read("\n".join(table).encode())[""][0]) == LOOKBACK
    with pytest.raises(ValueError, match="rows must be in order and complete"):
        module.read("\n".join(table[:-3] + table[-2:]).encode())
    with pytest.raises(ValueError, match="day or month first"):
        module.read("\n".join(["time,load kWh", *(f"0{day % 9 + 1}/05/2024,1" for day in range(30))]).encode())


def for_sequences(folder: Path, steps: int, channels: int, padded: bool, label: str = "first") -> ModuleType:
    inputs = {"values": {"shape": [steps, channels]}} | ({"lengths": {"shape": []}} if padded else {})
    table = {"label": label, "labels": ["no", "yes"], **AUTO}
    return program(folder, "sequences", {"inputs": inputs, "classes": ["no", "yes"], "table": table})


@pytest.mark.parametrize(
    ("text", "label", "channels"),
    [
        ("label,t0,t1,t2\nyes,1,2,3\nno,4,5,6.5\n", "first", 1),
        ("yes;1,5;2;3\nno;4;5;6,25\n", "first", 1),
        ("0,1,2,kind\n1,2,3,yes\n4,5,6,no\n", "kind", 1),
        ("1\t2\t2\tno\n4\t5\t6\tyes\n", "last", 1),
        ("kind,0,1,2,3\nyes,1,2,3,4\nno,4,5,6,7\n", "first", 2),
        ("yes,1,2,3,,\nno,4,5,6,7,8\n", "first", 1),
    ],
)
def test_sequences_are_read_as_in_training(tmp_path: Path, text: str, label: str, channels: int) -> None:
    expected = read_sequence_csv(text.encode(), "moves.csv", label, channels)
    padded = len(set(expected.lengths)) > 1
    module = for_sequences(tmp_path, expected.values.shape[1], channels, padded, label)
    sequences, labels = module.read(text.encode())
    assert labels == [expected.classes[one] for one in expected.labels]
    for sequence, length, values in zip(sequences, expected.lengths, expected.values, strict=True):
        np.testing.assert_array_equal(sequence, values[:length])


def test_sequences_without_classes_are_read_and_gaps_are_refused(tmp_path: Path) -> None:
    module = for_sequences(tmp_path, 3, 1, padded=False)
    sequences, labels = module.read(b"1,2,2\n4,5,6\n")
    assert (np.stack(sequences)[..., 0].tolist(), labels) == ([[1, 2, 2], [4, 5, 6]], [None, None])
    with pytest.raises(ValueError, match="row 2, step 2 of channel 1: '' is no number"):
        module.read(b"1,2,2\n4,,6\n")
    with pytest.raises(ValueError, match="no sequence below the header"):
        module.read(b"kind,t0,t1\n")
    with pytest.raises(ValueError, match=r"\.ts file"):
        module.read(b"@problemName x\n@data\n1,2:yes\n")
