"""The 10,000 MNIST test images as PNG files in class folders: what a training learns from the files and from the same arrays.

Prints the test accuracy of a training from the folder, of the same training from the arrays, and of `predict` on the files of the
test images, and how many of 20 truncated files are reported. Run by hand: some minutes.

    python benchmarks/image_folder.py [--epochs 3]
"""

import argparse
import csv
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from reprise.data import store

ROOT = Path(__file__).resolve().parents[1]
BROKEN = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=3)
    epochs = parser.parse_args().epochs
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        shutil.copytree(ROOT / "conf", project / "conf")
        reprise(project, "download", "data=mnist")
        reprise(project, "preprocess", "data=mnist")
        write_images(project)
        settings = ["experiment=image_folder", f"trainer.max_epochs={epochs}", "tracking.log_model=false"]
        files = train(project, *settings, "data.path=pictures", "data.name=files")
        arrays = train(project, *settings, "data=arrays", REPRISE_MIRROR=str(project / "mirror"))
        for label, run_dir in (("files", files), ("arrays", arrays)):
            metrics = json.loads(reprise(project, "evaluate", run_dir.name, "--json").stdout)
            print(f"test accuracy of a training from the {label}: {metrics['test']['accuracy']:.6f}")
        print(f"predict, on the same test images:             {predict_accuracy(project, files):.6f}")
        print(f"truncated files reported:                     {count_reported(project)} of {BROKEN}")


def reprise(project: Path, *words: str, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = os.environ | {"COLUMNS": "200"} | environment
    done = subprocess.run([sys.executable, "-m", "reprise", *words], cwd=project, env=settings, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def write_images(project: Path) -> None:
    """Write the test images as files, and, in the order in which a folder is read, as a data set `arrays`."""
    mnist = project / "data" / "processed" / "mnist" / "test"
    images, labels = (np.load(mnist / f"{name}.npy") for name in ("images", "labels"))
    order = np.argsort(labels, kind="stable")
    rows = []
    for number, (image, label) in enumerate(zip(images[order], labels[order], strict=True)):
        folder = project / "pictures" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{number:05}.png")
        rows.append(",".join(map(str, [*image.ravel(), label])))
    (project / "mirror" / "arrays").mkdir(parents=True)
    content = "\n".join(rows).encode()
    (project / "table.csv").write_bytes(content)
    (project / "mirror" / "arrays" / "table.csv.gz").write_bytes(gzip.compress(content))
    tree = yaml.safe_load((project / "conf" / "data" / "digits.yaml").read_text())
    files = [{"fetch": "table.csv.gz", "sha256": store.sha256(project / "table.csv")}]
    tree |= {"name": "arrays", "mirror": "arrays", "files": files, "shape": [28, 28, 1]}
    (project / "conf" / "data" / "arrays.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))


def train(project: Path, *words: str, **environment: str) -> Path:
    """Train, and return the run directory."""
    runs = project / "mlruns" / "runs"
    before = set(runs.glob("*"))
    reprise(project, "train", *words, code=0, **environment)
    (run_dir,) = set(runs.glob("*")) - before
    return run_dir


def predict_accuracy(project: Path, run_dir: Path) -> float:
    """Return the share of the test images that `predict` classifies correctly."""
    reprise(project, "predict", run_dir.name, "pictures", "--out", "answers")
    with (project / "answers" / "predictions.csv").open() as stream:
        predictions = {Path(row["file"]).name: row["class"] for row in csv.DictReader(stream)}
    names = list(store.read_json(project / "data" / "processed" / "files" / "files.json")["train"])
    test = np.load(project / store.read_json(run_dir / "trained.json")["windows"] / "test.npy")
    return float(np.mean([predictions[Path(names[row]).name] == Path(names[row]).parent.name for row in test]))


def count_reported(project: Path) -> int:
    """Truncate some files, and return how many of them `preprocess` reports."""
    files = sorted((project / "pictures").rglob("*.png"))[:: 10_000 // BROKEN][:BROKEN]
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])
    output = reprise(project, "preprocess", "data=image_folder", "data.path=pictures", "data.name=broken", code=2).stdout
    return sum(f"broken: {file.relative_to(project / 'pictures')}: " in output for file in files)


if __name__ == "__main__":
    main()
