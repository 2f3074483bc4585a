"""An image folder of one's own in conf/pipeline.yaml: DVC notices every change of its files, and makes nothing else again."""

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


def draw(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (12, 12, 3), np.uint8)).save(file, compress_level=0)


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clone whose pipeline trains on pictures outside of it, and these; one class holds a link to a folder elsewhere."""
    pictures, elsewhere = (tmp_path_factory.mktemp(name) for name in ("pictures", "elsewhere"))
    for number in range(20):
        draw(pictures / "cat" / f"{number}.png", number)
        draw(pictures / "dog" / f"{number}.png", 100 + number)
        draw(elsewhere / f"{number}.png", 200 + number)
    (pictures / "dog" / "more").symlink_to(elsewhere)
    project = clone(tmp_path_factory.mktemp("project") / "clone")
    conf = project / "conf"
    (conf / "data" / "pets.yaml").write_text(f"defaults: [image_folder, _self_]\nname: pets\npath: {pictures}\n")
    (conf / "experiment" / "pets_cnn.yaml").write_text(EXPERIMENT)
    lists = yaml.safe_load((conf / "pipeline.yaml").read_text())
    lists |= {"experiments": {"pets_cnn": "pets"}, "datasets": [], "folders": ["pets"], "ablation": {"pets_cnn": "as it is"}}
    (conf / "pipeline.yaml").write_text(yaml.safe_dump(lists, sort_keys=False))
    return project, elsewhere


def ran(project: Path, until: str = "window@pets_cnn") -> set[str]:
    done = run_in(project, "dvc", "repro", until)
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"Running stage '([^']+)'", done.stdout))


def test_dvc_trains_on_an_image_folder_and_notices_what_changed_behind_a_link(pets: tuple[Path, Path]) -> None:
    project, elsewhere = pets
    assert ran(project) == {"compose", "list_folder@pets", "preprocess_folder@pets", "window@pets_cnn"}
    meta = store.read_json(project / "data" / "processed" / "pets" / "meta.json")
    assert meta["counts"] == {"train": {"cat": 20, "dog": 40}}
    assert meta["decoded_shape"] == [12, 12, 3]
    (elsewhere / "note.txt").write_text("no picture")
    assert ran(project) == {"list_folder@pets"}
    before = (elsewhere / "3.png").stat().st_size
    draw(elsewhere / "3.png", 999)
    assert (elsewhere / "3.png").stat().st_size == before
    made = {"list_folder@pets", "preprocess_folder@pets", "window@pets_cnn", "train@pets_cnn"}
    assert ran(project, "train@pets_cnn") == made


def test_a_folder_that_is_listed_with_the_published_data_sets_is_refused(pets: tuple[Path, Path]) -> None:
    project, _ = pets
    file = project / "conf" / "pipeline.yaml"
    before = file.read_text()
    file.write_text(before.replace("folders:\n- pets", "folders: []").replace("datasets: []", "datasets: [pets]", 1))
    done = run_in(project, "reprise", "compose")
    file.write_text(before)
    assert done.returncode == 2
    assert done.stderr == "reprise: conf/pipeline.yaml: pets_cnn uses data=pets; say so beside it and in folders\n"
