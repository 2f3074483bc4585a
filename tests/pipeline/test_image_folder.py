"""A user's image folder, from files to predictions: the same metrics as from the same arrays."""

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from reprise.data import store
from tests.pipeline.conftest import run_in

QUICK = ["trainer.max_epochs=2", "trainer.threads=1", "tracking.log_model=false"]
TRAIN = ["reprise", "train", "experiment=image_folder", "seed=3", *QUICK]


@pytest.fixture(scope="module")
def image_folder(project: Path) -> Path:
    """Write 600 digits as PNG files in class folders, and define a data set `same` of the same images, in the same order, as CSV."""
    digits = load_digits()
    order = np.argsort(digits.target[:600], kind="stable")
    folder, rows = project / "pictures", []
    for number, (image, label) in enumerate(zip(digits.images[order], digits.target[order], strict=True)):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.astype(np.uint8)).save(folder / str(label) / f"{number:04}.png")
        rows.append(",".join(str(int(value)) for value in [*image.ravel(), label]))
    content = "\n".join(rows).encode()
    tree = yaml.safe_load((project / "conf" / "data" / "digits.yaml").read_text())
    (project / "mirror" / "same").mkdir(parents=True)
    (project / "mirror" / "same" / "same.csv.gz").write_bytes(gzip.compress(content))
    (project / "mirror" / "plain.csv").write_bytes(content)
    tree |= {
        "name": "same",
        "mirror": "same",
        "files": [{"fetch": "same.csv.gz", "sha256": store.sha256(project / "mirror" / "plain.csv")}],
    }
    (project / "conf" / "data" / "same.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    return folder


def train_run(project: Path, *overrides: str) -> Path:
    """Train, and return the run directory."""
    before = set((project / "mlruns" / "runs").glob("*")) if (project / "mlruns").exists() else set()
    done = run_in(project, *TRAIN, *overrides, REPRISE_MIRROR=str(project / "mirror"))
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = set((project / "mlruns" / "runs").glob("*")) - before
    return run_dir


@pytest.fixture(scope="module")
def run_dir(project: Path, image_folder: Path) -> Path:
    return train_run(project, "data=image_folder", f"data.path={image_folder}", "data.name=own", "data.shape=[8,8,1]")


def evaluated_metrics(project: Path, run_dir: Path) -> dict[str, dict[str, float]]:
    done = run_in(project, "reprise", "evaluate", run_dir.name, "--json")
    assert done.returncode == 0, done.stderr
    metrics: dict[str, dict[str, float]] = json.loads(done.stdout)
    return metrics


@pytest.fixture(scope="module")
def metrics(project: Path, run_dir: Path) -> dict[str, dict[str, float]]:
    """Return the metrics of the run on the image files."""
    return evaluated_metrics(project, run_dir)


def test_training_from_image_files_gives_the_same_metrics_as_from_arrays(
    project: Path, metrics: dict[str, dict[str, float]]
) -> None:
    assert metrics == evaluated_metrics(project, train_run(project, "data=same"))


def test_predict_agrees_with_evaluate_on_every_test_image(
    project: Path, run_dir: Path, image_folder: Path, metrics: dict[str, dict[str, float]]
) -> None:
    done = run_in(project, "reprise", "predict", run_dir.name, str(image_folder), "--out", str(project / "answers"))
    assert done.returncode == 0, done.stderr
    assert "train (the run was trained on them): 420 of 600 pictures; " in done.stdout
    assert "val (the run's best epoch was chosen by them): 90 of 600 pictures; " in done.stdout
    assert (project / "answers" / "predictions.png").stat().st_size > 10_000
    with (project / "answers" / "predictions.csv").open() as stream:
        predictions = {Path(row["file"]).name: row for row in csv.DictReader(stream)}
    assert len(predictions) == 600
    windows = store.read_json(run_dir / "trained.json")["windows"]
    names = list(store.read_json(project / "data" / "processed" / "own" / "files.json")["train"])
    test = [names[row] for row in np.load(project / windows / "test.npy")]
    assert {predictions[Path(name).name]["split"] for name in test} == {"test"}
    assert all(row["true"] == Path(row["file"]).parent.name for row in predictions.values())
    assert all(sum(float(row[f"p_{digit}"]) for digit in range(10)) == pytest.approx(1, abs=1e-6) for row in predictions.values())
    assert all(row["confidence"] == row[f"p_{row['class']}"] for row in predictions.values())
    correct = [predictions[Path(name).name]["class"] == Path(name).parent.name for name in test]
    assert np.mean(correct) == pytest.approx(metrics["test"]["accuracy"], abs=1e-7)
    one = run_in(project, "reprise", "predict", run_dir.name, str(image_folder / test[0]), "--json")
    [alone] = json.loads(one.stdout)
    assert alone["class"] == predictions[Path(test[0]).name]["class"]
    assert alone["confidence"] == pytest.approx(float(predictions[Path(test[0]).name]["confidence"]), abs=1e-5)


def test_predict_names_unreadable_files_and_predicts_the_others(project: Path, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    alone = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path))
    assert alone.returncode == 2
    assert alone.stderr == f"reprise: {tmp_path}: no picture that can be read: {tmp_path / 'empty.png'}: empty\n"
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "photograph.jpg")
    result = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path), "--json")
    assert [Path(row["file"]).name for row in json.loads(result.stdout)] == ["photograph.jpg"]
    assert result.stderr == f"predict  left out: {tmp_path / 'empty.png'}: empty\n"
    for _ in range(2):  # the figure that the first call writes into the folder is no input of the second
        done = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path), "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert f"left out: {tmp_path / 'empty.png'}: empty" in done.stdout
        assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 2
    for path, message in ((tmp_path / "nowhere", "no such file or folder"), (tmp_path / "out" / "x", "no such file or folder")):
        wrong = run_in(project, "reprise", "predict", run_dir.name, str(path))
        assert (wrong.returncode, wrong.stderr) == (2, f"reprise: {path}: {message}\n")


def test_explain_writes_filters_feature_maps_and_attribution(project: Path, run_dir: Path, image_folder: Path) -> None:
    image = next((image_folder / "3").glob("*.png"))
    done = run_in(project, "reprise", "explain", run_dir.name, str(image))
    assert done.returncode == 0, done.stderr
    folder = run_dir / "explain" / image.stem
    assert {file.name for file in folder.iterdir()} == {
        "attribution.png",
        "feature_maps_conv1.png",
        "feature_maps_conv2.png",
        "feature_maps_conv3.png",
        "filters.png",
        "layers.json",
        "layers.txt",
    }
    wrong = run_in(project, "reprise", "explain", run_dir.name, str(project / "dvc.yaml"))
    assert (wrong.returncode, wrong.stderr) == (2, f"reprise: {project / 'dvc.yaml'}: no picture\n")
