"""Pictures of one's own, from files to answers, with no line of code: the same figures that the same arrays give."""

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
def pictures(project: Path) -> Path:
    """600 digits as PNG files in class folders, and in the project a data set `same` that publishes them, in that order, as CSV."""
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


def trained(project: Path, *overrides: str) -> Path:
    """The run directory of a new run."""
    before = set((project / "mlruns" / "runs").glob("*")) if (project / "mlruns").exists() else set()
    done = run_in(project, *TRAIN, *overrides, REPRISE_MIRROR=str(project / "mirror"))
    assert done.returncode == 0, done.stdout + done.stderr
    (run_dir,) = set((project / "mlruns" / "runs").glob("*")) - before
    return run_dir


@pytest.fixture(scope="module")
def run_dir(project: Path, pictures: Path) -> Path:
    return trained(project, "data=image_folder", f"data.path={pictures}", "data.name=own", "data.shape=[8,8,1]")


def measured(project: Path, run_dir: Path) -> dict[str, dict[str, float]]:
    done = run_in(project, "reprise", "evaluate", run_dir.name, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, float]] = json.loads(done.stdout)
    return found


def test_a_training_from_files_gives_the_figures_that_the_same_arrays_give(project: Path, run_dir: Path) -> None:
    assert measured(project, run_dir) == measured(project, trained(project, "data=same"))


def test_predict_gives_each_test_picture_the_answer_that_evaluate_gave(project: Path, run_dir: Path, pictures: Path) -> None:
    done = run_in(project, "reprise", "predict", run_dir.name, str(pictures), "--out", str(project / "answers"))
    assert done.returncode == 0, done.stderr
    assert "train (the run was trained on them): 420 of 600 pictures; " in done.stdout
    assert "val (the run's best epoch was chosen by them): 90 of 600 pictures; " in done.stdout
    assert (project / "answers" / "predictions.png").stat().st_size > 10_000
    with (project / "answers" / "predictions.csv").open() as stream:
        taken = {Path(row["file"]).name: row for row in csv.DictReader(stream)}
    assert len(taken) == 600
    windows = store.read_json(run_dir / "trained.json")["windows"]
    names = list(store.read_json(project / "data" / "processed" / "own" / "files.json")["train"])
    test = [names[row] for row in np.load(project / windows / "test.npy")]
    assert {taken[Path(name).name]["split"] for name in test} == {"test"}
    assert all(row["true"] == Path(row["file"]).parent.name for row in taken.values())
    assert all(sum(float(row[f"p_{digit}"]) for digit in range(10)) == pytest.approx(1, abs=1e-6) for row in taken.values())
    assert all(row["confidence"] == row[f"p_{row['class']}"] for row in taken.values())
    right = [taken[Path(name).name]["class"] == Path(name).parent.name for name in test]
    assert np.mean(right) == pytest.approx(measured(project, run_dir)["test"]["accuracy"], abs=1e-7)
    one = run_in(project, "reprise", "predict", run_dir.name, str(pictures / test[0]), "--json")
    [alone] = json.loads(one.stdout)
    assert alone["class"] == taken[Path(test[0]).name]["class"]
    assert alone["confidence"] == pytest.approx(float(taken[Path(test[0]).name]["confidence"]), abs=1e-5)


def test_predict_names_what_it_cannot_read_and_answers_for_the_rest(project: Path, run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    alone = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path))
    assert alone.returncode == 2
    assert alone.stderr == f"reprise: {tmp_path}: no picture that can be read: {tmp_path / 'empty.png'}: empty\n"
    Image.fromarray(np.zeros((40, 30, 3), np.uint8)).save(tmp_path / "photograph.jpg")
    told = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path), "--json")
    assert [Path(row["file"]).name for row in json.loads(told.stdout)] == ["photograph.jpg"]
    assert told.stderr == f"predict  left out: {tmp_path / 'empty.png'}: empty\n"
    for _ in range(2):  # what the first has drawn into the folder is no picture for the second
        done = run_in(project, "reprise", "predict", run_dir.name, str(tmp_path), "--out", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert f"left out: {tmp_path / 'empty.png'}: empty" in done.stdout
        assert len((tmp_path / "out" / "predictions.csv").read_text().splitlines()) == 2
    for path, said in ((tmp_path / "nowhere", "no such file or folder"), (tmp_path / "out" / "x", "no such file or folder")):
        wrong = run_in(project, "reprise", "predict", run_dir.name, str(path))
        assert (wrong.returncode, wrong.stderr) == (2, f"reprise: {path}: {said}\n")


def test_explain_draws_what_the_network_sees_in_a_picture(project: Path, run_dir: Path, pictures: Path) -> None:
    image = next((pictures / "3").glob("*.png"))
    done = run_in(project, "reprise", "explain", run_dir.name, "--image", str(image))
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
    wrong = run_in(project, "reprise", "explain", run_dir.name, "--image", str(project / "dvc.yaml"))
    assert (wrong.returncode, wrong.stderr) == (2, f"reprise: {project / 'dvc.yaml'}: no picture\n")
