"""A user's image folder in conf/pipeline.yaml: DVC detects every change of its files, and runs only the stages that depend on it."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from reprise.data import store
from tests.pipeline.conftest import clone, run_in

EXPERIMENT = """# @package _global_
defaults:
  - image_folder
  - override /data: pets
  - _self_

name: pets_cnn
trainer: {max_epochs: 1}
"""


def write_image(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(file, compress_level=0)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone whose pipeline trains on images outside of it, and a folder that is linked into one of the class folders."""
    images, elsewhere = (tmp_path_factory.mktemp(name) for name in ("pictures", "elsewhere"))
    for number in range(20):
        write_image(images / "cat" / f"{number}.png", number)
        write_image(images / "dog" / f"{number}.png", 100 + number)
        write_image(elsewhere / f"{number}.png", 200 + number)
    (images / "dog" / "more").symlink_to(elsewhere)
    project = clone(tmp_path_factory.mktemp("project") / "clone")
    conf = project / "conf"
    (conf / "data" / "pets.yaml").write_text(f"defaults: [image_folder, _self_]\nname: pets\npath: {images}\n")
    (conf / "experiment" / "pets_cnn.yaml").write_text(EXPERIMENT)
    lists = yaml.safe_load((conf / "pipeline.yaml").read_text())
    lists |= {"experiments": {"pets_cnn": "pets"}, "datasets": [], "folders": ["pets"], "ablation": {"pets_cnn": "as it is"}}
    (conf / "pipeline.yaml").write_text(yaml.safe_dump(lists, sort_keys=False))
    return project, elsewhere


def stages_run(project: Path, until: str = "window@pets_cnn") -> set[str]:
    done = run_in(project, "dvc", "repro", until)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


@pytest.mark.long
def test_dvc_trains_on_an_image_folder_and_detects_changes_behind_a_link(pets: tuple[Path, Path]) -> None:
    project, elsewhere = pets
    assert stages_run(project) == {"compose", "list_folder@pets", "preprocess_folder@pets", "window@pets_cnn"}
    meta = store.read_json(project / "data" / "processed" / "pets" / "meta.json")
    assert meta["counts"] == {"train": {"cat": 20, "dog": 40}}
    assert meta["decoded_shape"] == [12, 12, 3]
    (elsewhere / "note.txt").write_text("no picture")
    assert stages_run(project) == {"list_folder@pets"}
    before = (elsewhere / "3.png").stat().st_size
    write_image(elsewhere / "3.png", 999)
    assert (elsewhere / "3.png").stat().st_size == before
    expected = {"list_folder@pets", "preprocess_folder@pets", "window@pets_cnn", "train@pets_cnn"}
    assert stages_run(project, "train@pets_cnn") == expected


def test_an_image_folder_listed_under_datasets_is_refused(pets: tuple[Path, Path]) -> None:
    project, _ = pets
    file = project / "conf" / "pipeline.yaml"
    before = file.read_text()
    file.write_text(before.replace("folders:\n- pets", "folders: []").replace("datasets: []", "datasets: [pets]", 1))
    done = run_in(project, "reprise", "compose")
    file.write_text(before)
    assert done.returncode == 2
    assert done.stderr == "reprise: conf/pipeline.yaml: pets_cnn uses data=pets; list it with the experiment and in folders\n"


def test_seeds_of_single_experiments_are_instead_of_those_of_all_and_name_a_listed_one(pets: tuple[Path, Path]) -> None:
    project, _ = pets
    file = project / "conf" / "pipeline.yaml"
    before = file.read_text()
    file.write_text(f"{before}seeds: {{pets_cnn: 10}}\n")
    assert run_in(project, "reprise", "compose").returncode == 0
    assert "\nseeds: 10\n" in (project / "data" / "config" / "pets_cnn.yaml").read_text()
    file.write_text(f"{before}seeds: {{other: 10}}\n")
    done = run_in(project, "reprise", "compose")
    file.write_text(before)
    assert done.returncode == 2
    assert done.stderr == "reprise: conf/pipeline.yaml: seeds names other; name an experiment that is listed there\n"
