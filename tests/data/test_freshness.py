"""Data that changed after its arrays were made: the arrays are made again, or the error names the command that does it."""

import hashlib
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from reprise.config import compose_dataset
from reprise.data import store
from reprise.errors import Notice, UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import freshness, preprocess
from tests.data.test_pictures import data, encoded, folder_of, picture, write


def set_later_mtime(file: Path) -> None:
    """Set the modification time of a file one minute later."""
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 60))


def change_pixels(path: Path) -> None:
    """Write other pixels with the same file size."""
    file = path / "cat" / "1.bmp"
    write(path, {"cat/1.bmp": encoded(picture(78), "BMP")})
    set_later_mtime(file)


CHANGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "added": (lambda path: write(path, {"cat/new.png": encoded(picture(77))}), 1),
    "removed": (lambda path: (path / "cat" / "0.png").unlink(), -1),
    "of another size": (lambda path: write(path, {"cat/1.png": encoded(picture(79, 9, 9))}), 0),
    "of the same size": (change_pixels, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_images_are_read_again(change: str, project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path, **{"cat__1.bmp": encoded(picture(70), "BMP")})
    dataset = data(path, name="pets")
    arrays = freshness.arrays(dataset, project, console)
    before, digest = len(store.open_array(arrays / "train" / "images.npy")), store.digest(arrays)
    assert store.digest(freshness.arrays(dataset, project, console)) == digest  # unchanged: nothing is made again
    apply_change, added = CHANGES[change]
    apply_change(path)
    with pytest.raises(UserError, match=r"holds other pictures than .* does now; .* run `reprise preprocess data=image_folder"):
        freshness.arrays(dataset, project, console, remake=False)
    assert store.digest(arrays) == digest
    freshness.arrays(dataset, project, console)
    assert len(store.open_array(arrays / "train" / "images.npy")) == before + added
    assert store.digest(arrays) != digest
    freshness.demand(dataset, project)


def test_a_file_that_was_only_touched_is_not_read_again(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    dataset = data(path, name="pets")
    arrays = freshness.arrays(dataset, project, console)
    set_later_mtime(path / "cat" / "1.png")
    assert freshness.stale(dataset, arrays, "reprise preprocess") is None


def test_other_settings_under_the_same_name_are_refused_with_the_command(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    path = folder_of(tmp_path).rename(tmp_path / "my pets, é=1")
    freshness.arrays(data(path, name="pets"), project, console)
    other = data(path, name="pets", resize="crop", shape=[4, 4, 3])
    with pytest.raises(UserError) as refused:
        freshness.arrays(other, project, console)
    message = str(refused.value)
    assert (
        f"{project.processed('pets')} was made with other settings than data=pets describes; use another data.name, or run `reprise "
        in message
    )
    program, stage, group, *words = shlex.split(message.partition("run `")[2].removesuffix("`"))
    assert (program, stage, group) == ("reprise", "preprocess", "data=image_folder")
    preprocess.run(compose_dataset(project.root, "image_folder", words), project, console)
    freshness.demand(other, project)


def test_rows_appended_to_a_csv_give_a_warning_and_are_read_after_its_sha256_is_updated(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    days = np.arange("2020-01-01", "2020-03-01", dtype="datetime64[D]")
    file = tmp_path / "own" / "level.csv"
    file.parent.mkdir()
    file.write_text("day,level\n" + "".join(f"{day},{number}\n" for number, day in enumerate(days)))
    own = {
        "name": "level",
        "title": "",
        "kind": "series",
        "reader": "csv_series",
        "homepage": "",
        "citation": "",
        "licence": "",
        "mirror": "level",
        "sources": [f"{file.parent}/"],
        "time": "day",
        "channels": [{"name": "level", "unit": "m"}],
        "limit": None,
    }
    conf = project.root / "conf" / "data" / "level.yaml"

    def describe() -> None:
        own["files"] = [{"fetch": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}]
        conf.write_text(yaml.safe_dump(own))

    describe()
    arrays = freshness.arrays(compose_dataset(project.root, "level"), project, console)
    assert len(store.open_array(arrays / "values.npy")) == len(days)
    file.write_text(file.read_text() + "2020-03-01,60\n")
    set_later_mtime(file)
    with pytest.warns(Notice, match=r"level.csv has changed and is not used: .*set its sha256 there to [0-9a-f]{64}"):
        freshness.arrays(compose_dataset(project.root, "level"), project, console)
    describe()
    freshness.arrays(compose_dataset(project.root, "level"), project, console)
    assert len(store.open_array(arrays / "values.npy")) == len(days) + 1


def test_in_a_dvc_stage_no_arrays_are_made_again(
    project: ProjectPaths, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path)
    dataset = data(path, name="pets")
    freshness.arrays(dataset, project, console)
    write(path, {"cat/new.png": encoded(picture(77))})
    monkeypatch.setenv("DVC_STAGE", "train@pets")
    with pytest.raises(UserError, match="holds other pictures"):
        freshness.arrays(dataset, project, console)
