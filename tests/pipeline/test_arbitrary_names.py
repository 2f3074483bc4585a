"""Train, evaluate, explain and predict with unusual class and file names."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pipeline.conftest import run_in

CLASSES = [r"$\frac$", "US$ & CA$", "_nolegend_", "[red] :cat:", "猫ねこ", "two\nlines", r"a_b^c\d{e}%f"]
QUICK = ["trainer.max_epochs=1", "trainer.threads=1", "tracking.log_model=false"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, folder = np.random.default_rng(0), tmp_path_factory.mktemp("any") / "$x^2$ [bold]"
    for number, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for count in range(12):
            pixels = draw.integers(0, 120, (8, 8), np.uint8) + np.uint8(number * 18)
            Image.fromarray(pixels).save(folder / name / f"$\\sum_{count}$ [{number}].png")
    return folder


def test_unusual_class_names_work_in_train_evaluate_explain_and_predict(project: Path, images: Path) -> None:
    data = ["data=image_folder", f"data.path='{images}'", "data.name=any", "data.shape=[8,8,1]"]
    trained = run_in(project, "reprise", "train", "experiment=image_folder", *data, *QUICK)
    assert trained.returncode == 0, trained.stderr
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    evaluated = run_in(project, "reprise", "evaluate", run_dir.name)
    assert evaluated.returncode == 0, evaluated.stderr
    assert "Warning" not in evaluated.stderr  # about a missing glyph or a malformed formula
    drawn = {file.name for file in (run_dir / "figures").iterdir()}
    assert {"confusion_matrix.png", "classes.png", "samples.png", "attribution.png"} <= drawn
    assert r"$\frac$" in (run_dir / "figures" / "classification_report.txt").read_text("utf-8")
    image = next((images / CLASSES[3]).iterdir())
    for command in (["explain", run_dir.name, str(image)], ["predict", run_dir.name, str(images)]):
        done = run_in(project, "reprise", *command)
        assert done.returncode == 0, done.stderr
    assert image.name in run_in(project, "reprise", "predict", run_dir.name, str(image)).stdout
    predictions = json.loads(run_in(project, "reprise", "predict", run_dir.name, str(image), "--json").stdout)
    assert predictions[0]["class"] in CLASSES
