"""Labelled sequences of `.ts` files and of CSV files with one sequence a row give back the numbers that were written."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reprise.data.sequence_arrays import Sequences, concatenate
from reprise.data.sequence_csv import read_sequence_csv
from reprise.data.tsfile import read_ts
from reprise.errors import UserError

MIRROR = os.environ.get("REPRISE_MIRROR", "")  # fixtures remove it
FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
CLASSES = ["3", "1", "walk"]
UNEQUAL = """#A comment: with, punctuation @data
%another
@problemName Toy
@timestamps false
@Univariate false
@dimensions 2
@equalLength false
@classLabel true walk rest

@data
1.5,-2,3E-1:4,5,6:walk
# a comment among the sequences
7:8:rest
?,1:NaN,2:walk
"""


@st.composite
def sequences(
    draw: st.DrawFn, equal: bool | None = None, most_channels: int = 3
) -> tuple[list[npt.NDArray[np.float32]], list[str]]:
    channels = draw(st.integers(1, most_channels))
    count = draw(st.integers(2, 6))
    length = draw(st.integers(1, 6))
    samples = []
    for _ in range(count):
        steps = length if equal or (equal is None and draw(st.booleans())) else draw(st.integers(1, 6))
        rows = draw(st.lists(st.lists(FLOAT32, min_size=channels, max_size=channels), min_size=steps, max_size=steps))
        samples.append(np.array(rows, np.float32))
    labels = draw(st.lists(st.sampled_from(CLASSES), min_size=count, max_size=count))
    return samples, labels


def demand_same(result: Sequences, samples: list[npt.NDArray[np.float32]], labels: list[str]) -> None:
    assert result.values.dtype == np.float32
    assert result.lengths.tolist() == [len(sample) for sample in samples]
    for values, sample in zip(result.values, samples, strict=True):
        np.testing.assert_array_equal(values[: len(sample)], sample)
        assert np.isnan(values[len(sample) :]).all()
    assert [result.classes[label] for label in result.labels] == labels


@settings(max_examples=100, deadline=None)
@given(sequences())
def test_a_ts_file_gives_back_its_sequences(drawn: tuple[list[npt.NDArray[np.float32]], list[str]]) -> None:
    samples, labels = drawn
    equal = len({len(sample) for sample in samples}) == 1
    header = f"@problemName x\n@timeStamps false\n@univariate {str(samples[0].shape[1] == 1).lower()}\n"
    header += f"@dimensions {samples[0].shape[1]}\n@equalLength {str(equal).lower()}\n"
    header += f"@seriesLength {len(samples[0])}\n" if equal else ""
    body = [
        ":".join([*(",".join(map(str, channel)) for channel in sample.T), label])
        for sample, label in zip(samples, labels, strict=True)
    ]
    result = read_ts((header + f"@classLabel true {' '.join(CLASSES)}\n@data\n" + "\n".join(body)).encode(), "x.ts")
    assert result.classes == CLASSES
    demand_same(result, samples, labels)


def test_unequal_lengths_missing_values_and_comments() -> None:
    result = read_ts(UNEQUAL.encode(), "x.ts")
    assert result.classes == ["walk", "rest"]
    assert result.labels.tolist() == [0, 1, 0]
    assert result.lengths.tolist() == [3, 1, 2]
    nan = np.nan
    expected = [[[1.5, 4], [-2, 5], [0.3, 6]], [[7, 8], [nan, nan], [nan, nan]], [[nan, nan], [1, 2], [nan, nan]]]
    np.testing.assert_array_equal(result.values, np.array(expected, np.float32))
    assert result.missing_values() == 2
    assert result.notes == ["2 values are missing."]


def test_windows_line_ends_and_a_byte_order_mark_change_nothing() -> None:
    plain, other = read_ts(UNEQUAL.encode(), "x"), read_ts(UNEQUAL.replace("\n", "\r\n").encode("utf-8-sig"), "x")
    np.testing.assert_array_equal(plain.values, other.values)


def test_a_class_without_sequences_is_said() -> None:
    assert "No sequence is of class rest." in read_ts(UNEQUAL.replace("7:8:rest\n", "").encode(), "x").notes


def test_files_of_one_data_set_are_padded_to_the_longest() -> None:
    long, short = read_ts(UNEQUAL.encode(), "x"), read_ts(UNEQUAL.replace("1.5,-2,3E-1:4,5,6:walk\n", "").encode(), "y")
    both = concatenate({"TRAIN": short, "TEST": long})
    assert both.values.shape == (5, 3, 2)
    assert both.lengths.tolist() == [1, 2, 3, 1, 2]
    assert both.labels.tolist() == [1, 0, 0, 1, 0]
    np.testing.assert_array_equal(both.values[2:], long.values)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "walk rest",
            "rest walk",
            "TEST has the classes rest, walk, and TRAIN walk, rest; files of one data set have the same classes",
        ),
        ("@dimensions 2", "@dimensions 3", "TEST has 3 channels, and TRAIN 2; files of one data set have the same channels"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(old: str, new: str, message: str) -> None:
    other = UNEQUAL.replace(old, new)
    if "3" in new:
        other = other.replace("6:walk", "6:1,1,1:walk").replace("8:rest", "8:1:rest").replace("NaN,2", "NaN,2:1,1")
    with pytest.raises(UserError, match=message):
        concatenate({"TRAIN": read_ts(UNEQUAL.encode(), "x"), "TEST": read_ts(other.encode(), "y")})


@pytest.mark.skipif(not MIRROR, reason="needs the published files in REPRISE_MIRROR")
@pytest.mark.parametrize(
    ("name", "train", "test", "classes", "lengths"),
    [
        ("BasicMotions", (40, 100, 6), (40, 100, 6), 4, (100, 100)),
        ("GunPoint", (50, 150, 1), (150, 150, 1), 2, (150, 150)),
        ("ItalyPowerDemand", (67, 24, 1), (1029, 24, 1), 2, (24, 24)),
        ("JapaneseVowels", (270, 26, 12), (370, 29, 12), 9, (7, 29)),
    ],
)
def test_published_files(
    name: str, train: tuple[int, ...], test: tuple[int, ...], classes: int, lengths: tuple[int, int]
) -> None:
    folder = Path(MIRROR) / "ucr" / name
    if not folder.is_dir():
        pytest.skip(f"the mirror has no {name}")
    parts = {part: read_ts((folder / f"{name}_{part}.ts").read_bytes(), part) for part in ("TRAIN", "TEST")}
    assert parts["TRAIN"].values.shape == train
    assert parts["TEST"].values.shape == test
    both = concatenate(parts)
    assert (both.lengths.min(), both.lengths.max()) == lengths
    assert len(both.classes) == classes
    assert both.missing_values() == 0


# --- CSV


@settings(max_examples=100, deadline=None)
@given(
    sequences(),
    st.sampled_from(["first", "last", "kind"]),
    st.sampled_from([",", ";", "\t"]),
    st.booleans(),
    st.booleans(),
)
def test_a_csv_of_sequences_gives_back_its_sequences(
    drawn: tuple[list[npt.NDArray[np.float32]], list[str]], label: str, separator: str, comma: bool, header: bool
) -> None:
    samples, labels = drawn
    channels = samples[0].shape[1]
    longest = max(len(sample) for sample in samples)
    comma = comma and separator != ","
    lines = []
    for sample, name in zip(samples, labels, strict=True):
        padded = np.full((channels, longest), "", object)
        padded[:, : len(sample)] = np.array([[str(number) for number in channel] for channel in sample.T], object)
        cells = [cell.replace(".", ",") if comma else cell for cell in padded.ravel()]
        cells.insert({"first": 0, "last": len(cells), "kind": 1}[label], name)
        lines.append(separator.join(cells))
    if header or label == "kind":
        names = [f"x{number}" for number in range(channels * longest)]
        names.insert({"first": 0, "last": len(names), "kind": 1}[label], "kind")
        lines.insert(0, separator.join(names))
    content = "\n".join(lines).encode()
    settings_: dict[str, Any] = {"label": label, "channels": channels, "classes": CLASSES, "decimal": "," if comma else "."}
    result = read_sequence_csv(content, "x.csv", separator=separator, **settings_)
    demand_same(result, samples, labels)


@pytest.mark.parametrize(
    ("content", "label", "values", "classes"),
    [
        ("2\t0.5\t-1\n10\t1\t2\n", "first", [[0.5, -1], [1, 2]], ["2", "10"]),
        ("b,0.5,1\na,1,\n", "first", [[0.5, 1], [1, np.nan]], ["a", "b"]),
        ("b,0.5,1\na,1\n", "first", [[0.5, 1], [1, np.nan]], ["a", "b"]),
        ("b,0.5,1\na,1,NaN\n", "first", [[0.5, 1], [1, np.nan]], ["a", "b"]),
        ("b;0,5;1\na;1;0,25\n", "first", [[0.5, 1], [1, 0.25]], ["a", "b"]),
        ("-0.5,.5,1\n1,2,2\n", "last", [[-0.5, 0.5], [1, 2]], ["1", "2"]),
        ("0,1,kind\n5,6,x\n7,8,y\n", "last", [[5, 6], [7, 8]], ["x", "y"]),
        ("t0,kind,t1\n5,x,6\n7,y,8\n", "kind", [[5, 6], [7, 8]], ["x", "y"]),
        ("b,,1\na,1,2\n", "first", [[np.nan, 1], [1, 2]], ["a", "b"]),
    ],
)
def test_csv_files_as_they_are_published(content: str, label: str, values: list[list[float]], classes: list[str]) -> None:
    result = read_sequence_csv(content.encode(), "x.csv", label=label)
    np.testing.assert_array_equal(result.values[:, :, 0], np.array(values, np.float32))
    assert result.classes == classes


def test_one_wrong_cell_in_the_first_row_does_not_make_it_a_header() -> None:
    with pytest.raises(UserError, match="row 1, column 3: 'x' is no number"):
        read_sequence_csv(b"1,0.5,x,3\n2,1,2,3\n", "x.csv")


def test_thousands_and_decimals_that_look_alike_are_refused() -> None:
    with pytest.raises(UserError, match=r"'1,500' may be a thousand or a decimal fraction; set data\.decimal"):
        read_sequence_csv(b"a;1,500;2\nb;1,250;3\n", "x.csv")
    assert read_sequence_csv(b"a;1,500;2\nb;1,250;3\n", "x.csv", decimal=",").values[0, 0, 0] == 1.5
