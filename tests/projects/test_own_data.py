"""Which kind of data a path holds, and the settings with which it can be read."""

import csv
import hashlib
import io
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from reprise.config.sections import RawFile
from reprise.errors import UserError
from reprise.projects import own_data, pretrained, preview
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


def write_broken(folder: Path) -> dict[str, str]:
    """Write 20 files that hold no picture; return the reason of each by its name."""
    content = {}
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)).save(stream, kind)
        content[kind] = stream.getvalue()
    png, numbers = content["PNG"], io.BytesIO()
    Image.fromarray(np.full((8, 8), np.nan, np.float32)).save(numbers, "TIFF")
    header = png[:16] + struct.pack(">II", 60000, 60000) + png[24:29]
    bomb = header + struct.pack(">I", zlib.crc32(header[12:])) + png[33:]
    none = bomb[:16] + struct.pack(">II", 0, 0) + png[24:29]
    files = {
        "empty.png": (b"", "empty"),
        "truncated.png": (png[: len(png) // 2], "truncated"),
        "truncated.jpg": (content["JPEG"][:400], "damaged"),
        "truncated.bmp": (content["BMP"][:80], "damaged"),
        "truncated.tif": (content["TIFF"][:200], "damaged"),
        "truncated.webp": (content["WEBP"][:60], "damaged"),
        "truncated.gif": (content["GIF"][:60], "no picture"),
        "header.png": (png[:33], "no picture"),
        "checksum.png": (png[:29] + b"0000" + png[33:], "no picture"),
        "no_pixels.png": (none + struct.pack(">I", zlib.crc32(none[12:])) + png[33:], "no picture"),
        "bomb.png": (bomb, "3600000000 pixels"),
        "text.png": (b"I am no picture", "no picture"),
        "page.jpg": (b"<html><body>404 Not Found</body></html>", "no picture"),
        "archive.png": (b"PK\3\4" + bytes(60), "no picture"),
        "document.jpg": (b"%PDF-1.4", "no picture"),
        "drawing.png": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "no picture"),
        "one_byte.jpg": (b"\xff", "no picture"),
        "nan.tif": (numbers.getvalue(), "data.range"),
    }
    for name, (data, _) in files.items():
        (folder / name).write_bytes(data)
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("nowhere.png")
    links = {"loop.png": "Too many levels of symbolic links", "dangling.png": "a link to nothing"}
    return {name: reason for name, (_, reason) in files.items()} | links


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


def test_each_of_twenty_broken_files_is_named_once_with_its_reason(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pets", {"cat": 6, "dog": 6})
    reasons = write_broken(folder / "cat")
    text = io.StringIO()
    found = own_data.read(folder, [], Console(file=text, width=200))
    lines = text.getvalue().splitlines()
    for name, reason in reasons.items():
        (line,) = [line for line in lines if f"cat/{name}" in line and not line.startswith("init")]
        assert reason in line
    assert found.content.meta["left_out"]["broken"] == 18
    assert found.settings["broken"] == "leave_out"


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


def write_colour(folder: Path, classes: int, count: int) -> OwnData:
    """Write noise of 8 x 8 pixels and read it."""
    random = np.random.default_rng(0)
    for name in range(classes):
        (folder / f"class{name}").mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / f"class{name}" / f"{number}.png")
    return read(folder)


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror, no installed package, and no index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("REPRISE_MIRROR", raising=False)
    shipped = pretrained.PRETRAINED[pretrained.WEIGHTS]
    known = shipped.model_copy(update={"sources": [one for one in shipped.sources if one.startswith("pip:")]})
    monkeypatch.setattr(pretrained, "PRETRAINED", {pretrained.WEIGHTS: known})


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror that has the published weights, with a hash of its own."""
    (tmp_path / "mirror" / "weights").mkdir(parents=True)
    (tmp_path / "mirror" / "weights" / "weights.pth").write_bytes(b"weights")
    monkeypatch.setenv("REPRISE_MIRROR", str(tmp_path / "mirror"))
    shipped = pretrained.PRETRAINED[pretrained.WEIGHTS]
    file = RawFile(fetch="weights.pth", sha256=hashlib.sha256(b"weights").hexdigest())
    known = shipped.model_copy(update={"name": "weights", "mirror": "weights", "files": [file]})
    monkeypatch.setattr(pretrained, "PRETRAINED", {pretrained.WEIGHTS: known})


def test_few_colour_pictures_get_the_network_trained_on_imagenet(tmp_path: Path, mirror: None) -> None:
    own = write_colour(tmp_path / "few", 2, 10)
    quiet = Console(quiet=True)
    chosen = pretrained.choose(own, [], tmp_path, quiet)
    assert (chosen.kind.experiment, chosen.settings) == ("image_folder_pretrained", {"shape": [128, 128, 3]})
    assert (tmp_path / "data" / "raw" / "weights" / "weights.pth").read_bytes() == b"weights"
    assert pretrained.choose(own, ["data.shape=[64,64,3]"], tmp_path, quiet).settings == {}
    many = replace(
        own, content=replace(own.content, arrays={name: np.repeat(a, 20, 0) for name, a in own.content.arrays.items()})
    )
    assert pretrained.choose(many, [], tmp_path, quiet) is many
    grey = read(write_pictures(tmp_path / "grey", {"a": 3, "b": 3}))
    assert pretrained.choose(grey, [], tmp_path, quiet) is grey


def test_without_the_weights_the_project_trains_from_random_ones_and_the_reason_is_said(tmp_path: Path, no_pip: None) -> None:
    own, said = write_colour(tmp_path / "few", 2, 3), Console(record=True, file=io.StringIO())
    assert pretrained.choose(own, [], tmp_path, said) is own
    text = said.export_text()
    assert (
        "init  few colour pictures: a network trained on ImageNet would suit them, but no source has efficientnet-lite0" in text
    )
