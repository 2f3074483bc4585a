"""Class and file names of any kind, through train, evaluate, explain and predict."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import run_in

CLASSES = [r"$\frac$", "US$ & CA$", "_nolegend_", "[red] :cat:", "猫ねこ", "two\nlines", r"a_b^c\d{e}%f"]
QUICK = ["trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("any") / "$x^2$ [bold]"
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for count in range(12):
            pixels = draw.integers(0, 120, (8, 8), np.uint8) + np.uint8(number * 18)
            Image.fromarray(pixels).save(folder / name / f"$\\sum_{count}$ [{number}].png")
    return folder


def test_any_class_name_is_trained_evaluated_explained_and_predicted(project: Path, pictures: Path) -> None:
    data = ["data=image_folder", f"data.path='{pictures}'", "data.name=any", "data.shape=[8,8,1]"]
    trained = run_in(project, "reprise", "train", "experiment=image_folder", *data, *QUICK)
    assert trained.returncode == 0, trained.stderr
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    evaluated = run_in(project, "reprise", "evaluate", run_dir.name)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Warning" not in evaluated.stderr  # a glyph that no font has, a formula
    drawn = {file.name for file in (run_dir / "figures").iterdir()}
    assert {"confusion_matrix.png", "classes.png", "samples.png", "attribution.png"} <= drawn
    assert r"$\frac$" in (run_dir / "figures" / "classification_report.txt").read_text("utf-8")
    image = next((pictures / CLASSES[3]).iterdir())
    for command in (["explain", run_dir.name, "--image", str(image)], ["predict", run_dir.name, str(pictures)]):
        done = run_in(project, "reprise", *command)
        assert done.returncode == 0, done.stderr
    assert image.name in run_in(project, "reprise", "predict", run_dir.name, str(image)).stdout
    answers = json.loads(run_in(project, "reprise", "predict", run_dir.name, str(image), "--json").stdout)
    assert answers[0]["class"] in CLASSES
