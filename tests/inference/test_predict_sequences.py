"""`predict` on files of sequences: with and without classes, checked against what the run reads."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from reprise.config import compose_dataset
from reprise.data.modalities.sequences.arrays import Meta
from reprise.errors import UserError
from reprise.inference import predict_sequences
from tests.metas import sequence_meta

ROOT = Path(__file__).resolve().parents[2]
QUIET = Console(quiet=True)
META = sequence_meta(["up", "down"], steps=3, channels=["x", "y"])
HEADER = "@problemName p\n@timeStamps false\n@univariate false\n"


def data(**changes: Any) -> Any:
    return compose_dataset(ROOT, "ucr", ["data.path=unused.csv"]).model_copy(update=changes)


def read(file: Path, content: str, meta: Meta = META, **changes: Any) -> predict_sequences.Inputs:
    file.write_text(content)
    return predict_sequences.read(file, data(**changes), meta, QUIET)


@pytest.mark.parametrize(
    ("name", "content", "truth"),
    [
        ("a.csv", "down,1,2,3,4,5,7\n", ["down"]),
        ("a.csv", "1,2,3,4,5,7\n", [""]),
        ("a.csv", "x1,x2,x3,y1,y2,y3\n1,2,3,4,5,7\n", [""]),
        ("a.ts", HEADER + "@classLabel true up down\n@data\n1,2,3:4,5,7:down\n", ["down"]),
        ("a.ts", HEADER + "@classLabel true left down\n@data\n1,2,3:4,5,7:left\n", ["left"]),
        ("a.ts", HEADER + "@classLabel false\n@data\n1,2,3:4,5,7\n", [""]),
    ],
)
def test_a_file_is_read_with_or_without_classes(tmp_path: Path, name: str, content: str, truth: list[str]) -> None:
    inputs = read(tmp_path / name, content)
    assert inputs.truth == truth
    assert inputs.values.tolist() == [[[1, 4], [2, 5], [3, 7]]]
    assert [part.shape for part in inputs.raw(masked=False)] == [(1, 3, 2)]


def test_labels_of_a_published_data_set_become_the_names_of_its_classes(tmp_path: Path) -> None:
    gun_point = compose_dataset(ROOT, "gun_point", [])
    (tmp_path / "new.csv").write_text("1,0.5,0.6\npoint,0.1,0.2\n")
    meta = sequence_meta(["gun", "point"], steps=2)
    assert predict_sequences.read(tmp_path / "new.csv", gun_point, meta, QUIET).truth == ["gun", "point"]  # type: ignore[arg-type]


def test_shorter_sequences_are_padded_if_lengths_differ_in_the_run(tmp_path: Path) -> None:
    masked = sequence_meta(["up", "down"], steps=4, channels=["x", "y"], masked=True)
    inputs = read(tmp_path / "a.ts", HEADER + "@classLabel false\n@data\n1,2:4,5\n7:8\n", masked)
    assert inputs.values[:, :, 0].tolist() == [[1, 2, 0, 0], [7, 0, 0, 0]]
    assert inputs.raw(masked=True)[1].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "left,1,2,3,4,5,7\n", r"a.csv, row 1, column 1: 'left' is no class"),
        ("a.csv", "1,2,3,4,5,7,9\n", r"a.csv, row 1, column 1: '1' is no class"),
        ("a.csv", "1,2,3,9\n", r"a.csv: sequence 1 has 2 steps; the run reads 3"),
        ("a.ts", HEADER + "@classLabel false\n@data\n1,2,3\n", "a.ts: 1 channels; the run reads 2: x, y"),
        ("a.csv", "1,2,3,4,?,6\n", "a.csv: 1 values are missing"),
    ],
)
def test_a_file_that_does_not_fit_the_run_is_refused(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(tmp_path / name, content)


def test_missing_values_are_interpolated_if_they_were_in_training(tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", "1,2,3,4,?,6\n", missing="interpolate").values[0, :, 1].tolist() == [4, 5, 6]


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"none\.csv: no such file"):
        predict_sequences.read(Path("none.csv"), data(), META, QUIET)


def test_a_sequence_is_recognised_by_its_valid_values() -> None:
    values = np.array([[1.0], [-0.0], [9.0]], np.float32)
    other = np.array([[1.0], [0.0], [3.0]], np.float32)
    assert predict_sequences._key(values, 2) == predict_sequences._key(other, 2) != predict_sequences._key(other, 3)
