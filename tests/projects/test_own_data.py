"""Which kind of data a path holds, and the settings with which it can be read."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from reprise.errors import UserError
from reprise.projects import own_data, preview
from reprise.projects.own_data import OwnData


def read(path: Path, *overrides: str) -> OwnData:
    return own_data.read(path, overrides, Console(quiet=True))


def write_rows(file: Path, rows: list[list[Any]], separator: str = ",") -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream, delimiter=separator).writerows(rows)
    return file


def hourly(rows: int) -> list[list[Any]]:
    times = np.datetime64("2024-01-01T00") + np.arange(rows)
    return [[str(time).replace("T", " ") + ":00", str(10 + position % 24)] for position, time in enumerate(times)]


def write_pictures(folder: Path, classes: dict[str, int], side: int = 8) -> Path:
    number = 5 * side
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for _ in range(count):
            number += 1
            Image.fromarray(np.full((side, side), number, np.uint8)).save(folder / name / f"{number}.png")
    return folder


def test_a_complete_table_of_a_series_needs_no_settings(tmp_path: Path) -> None:
    found = read(write_rows(tmp_path / "load.csv", [["when", "load"], *hourly(200)]))
    assert (found.kind.modality, found.settings) == ("series", {})
    assert preview.findings(found) == ["a series to forecast: 200 rows, every h, channels load"]
    assert len(preview.figure(found, "load").axes) == 1


@pytest.mark.parametrize(
    ("damage", "settings"),
    [
        (lambda rows: rows[:50] + rows[53:], {"gaps": "forward_fill"}),
        (lambda rows: rows[:50] + rows[49:], {"duplicates": "mean"}),
        (lambda rows: rows[::-1], {"order": "sort"}),
        (lambda rows: [*rows[:9], [rows[9][0], "broken"], *rows[10:]], {"text_cells": "forward_fill"}),
        (lambda rows: [[time, "1"] for time, _ in rows], {"constant": "keep"}),
        (lambda rows: (rows[:50] + rows[53:])[::-1], {"order": "sort", "gaps": "forward_fill"}),
    ],
)
def test_what_the_defaults_refuse_is_set_and_kept(tmp_path: Path, damage: Any, settings: dict[str, str]) -> None:
    file = write_rows(tmp_path / "load.csv", [["when", "load"], *damage(hourly(200))])
    assert read(file).settings == settings


def test_rows_of_several_series_are_told_apart_by_their_column_and_never_averaged(tmp_path: Path) -> None:
    rows = [[time, shop, value] for time, value in hourly(100) for shop in ("north", "south")]
    found = read(write_rows(tmp_path / "shops.csv", [["when", "shop", "sales"], *rows]))
    assert found.settings == {"id": "shop"}
    assert [series["name"] for series in found.content.meta["series"]] == ["north", "south"]


def test_a_choice_that_only_the_user_can_make_is_refused_until_it_is_made(tmp_path: Path) -> None:
    rows = [["ordered", "delivered", "load"], *([time, time, value] for time, value in hourly(100))]
    file = write_rows(tmp_path / "two.csv", rows)
    with pytest.raises(UserError, match=r"2 columns hold dates.*data\.time"):
        read(file)
    assert read(file, "data.time=ordered", "data.target=load").settings == {"time": "ordered", "target": "load"}


def test_pictures_of_several_sizes_with_broken_and_identical_files(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pets", {"cat": 5, "dog": 5})
    write_pictures(tmp_path / "large", {"cat": 2}, side=12)
    for file in (tmp_path / "large" / "cat").iterdir():
        file.rename(folder / "cat" / f"large{file.name}")
    (folder / "dog" / "copy.png").write_bytes(next((folder / "dog").iterdir()).read_bytes())
    (folder / "dog" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = read(folder)
    assert found.settings == {"shape": [8, 8, 1], "broken": "leave_out", "duplicates": "leave_out"}
    assert found.content.meta["left_out"] == {"broken": 1, "duplicate": 1}


def test_imbalanced_classes_are_said(tmp_path: Path) -> None:
    (line,) = preview.findings(read(write_pictures(tmp_path / "pets", {"cat": 95, "dog": 5})))[1:]
    assert line.startswith("imbalanced: 95 % are cat (95), dog has 5: ")
    assert "task.class_weights=balanced" in line
    assert len(preview.findings(read(write_pictures(tmp_path / "even", {"cat": 10, "dog": 5})))) == 1


def test_labelled_sequences_are_read_from_rows_without_dates(tmp_path: Path) -> None:
    rows = [["up" if row % 2 else "down", *(np.arange(12) * (1 if row % 2 else -1) + row)] for row in range(20)]
    found = read(write_rows(tmp_path / "moves_TRAIN.csv", rows))
    assert (found.kind.modality, found.has_test) == ("sequences", False)
    write_rows(tmp_path / "moves_TEST.csv", rows[:5])
    assert read(tmp_path).has_test
    assert own_data.name_of(tmp_path / "moves_TRAIN.csv") == "moves"


@pytest.mark.parametrize(
    ("file", "name"), [("Sales 2024.csv", "sales_2024"), ("digits.csv", "my_digits"), ("2024.csv", "my_2024"), ("é.csv", "mine")]
)
def test_the_name_of_a_data_set_is_free_and_plain(tmp_path: Path, file: str, name: str) -> None:
    assert own_data.name_of(tmp_path / file) == name


@pytest.mark.parametrize("name", ["absent.csv", "notes.docx"])
def test_a_path_without_data_is_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.docx").write_bytes(b"PK")
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)
