"""Data that changed since its arrays were made: they are made again, or the one command that does it is named."""

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


def later(file: Path) -> None:
    """A file that was written to a minute after the arrays were made, whatever the clock of the file system."""
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 60))


def changed_in_place(path: Path) -> None:
    """Other pixels in as many bytes."""
    file = path / "cat" / "1.bmp"
    write(path, {"cat/1.bmp": encoded(picture(78), "BMP")})
    later(file)


CHANGES: dict[str, tuple[Callable[[Path], object], int]] = {
    "added": (lambda path: write(path, {"cat/new.png": encoded(picture(77))}), 1),
    "removed": (lambda path: (path / "cat" / "0.png").unlink(), -1),
    "of another size": (lambda path: write(path, {"cat/1.png": encoded(picture(79, 9, 9))}), 0),
    "of the same size": (changed_in_place, 0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_pictures_that_changed_are_read_again(change: str, project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path, **{"cat__1.bmp": encoded(picture(70), "BMP")})
    wanted = data(path, name="pets")
    arrays = freshness.arrays(wanted, project, console)
    before, digest = len(store.open_array(arrays / "train" / "images.npy")), store.digest(arrays)
    assert store.digest(freshness.arrays(wanted, project, console)) == digest  # nothing changed: nothing is made
    do, more = CHANGES[change]
    do(path)
    with pytest.raises(UserError, match=r"holds other pictures than .* does now; .* run `reprise preprocess data=image_folder"):
        freshness.arrays(wanted, project, console, remake=False)
    assert store.digest(arrays) == digest
    freshness.arrays(wanted, project, console)
    assert len(store.open_array(arrays / "train" / "images.npy")) == before + more
    assert store.digest(arrays) != digest
    freshness.demand(wanted, project)


def test_a_file_that_was_only_touched_is_not_read_again(project: ProjectPaths, console: Console, tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    wanted = data(path, name="pets")
    arrays = freshness.arrays(wanted, project, console)
    later(path / "cat" / "1.png")
    assert freshness.stale(wanted, arrays, "reprise preprocess") is None


def test_other_settings_of_one_name_are_refused_with_the_command_that_makes_them(
    project: ProjectPaths, console: Console, tmp_path: Path
) -> None:
    path = folder_of(tmp_path).rename(tmp_path / "my pets, é=1")
    freshness.arrays(data(path, name="pets"), project, console)
    other = data(path, name="pets", resize="crop", shape=[4, 4, 3])
    with pytest.raises(UserError) as refused:
        freshness.arrays(other, project, console)
    said = str(refused.value)
    assert (
        f"{project.processed('pets')} holds other data than data=pets describes; take another data.name, or run `reprise " in said
    )
    program, stage, group, *words = shlex.split(said.partition("run `")[2].removesuffix("`"))
    assert (program, stage, group) == ("reprise", "preprocess", "data=image_folder")
    preprocess.run(compose_dataset(project.root, "image_folder", words), project, console)
    freshness.demand(other, project)


def test_rows_appended_to_a_csv_are_noticed_and_read_once_their_hash_is_named(
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
    later(file)
    with pytest.warns(Notice, match=r"level.csv has changed and is not used: .*set its sha256 there to [0-9a-f]{64}"):
        freshness.arrays(compose_dataset(project.root, "level"), project, console)
    describe()
    freshness.arrays(compose_dataset(project.root, "level"), project, console)
    assert len(store.open_array(arrays / "values.npy")) == len(days) + 1


def test_in_a_stage_of_dvc_nothing_is_made_again(
    project: ProjectPaths, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder_of(tmp_path)
    wanted = data(path, name="pets")
    freshness.arrays(wanted, project, console)
    write(path, {"cat/new.png": encoded(picture(77))})
    monkeypatch.setenv("DVC_STAGE", "train@pets")
    with pytest.raises(UserError, match="holds other pictures"):
        freshness.arrays(wanted, project, console)
