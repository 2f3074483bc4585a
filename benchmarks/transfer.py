"""What training gains by starting from weights: test accuracy over seeds, each with its own split of the data.

`emoji`: 16 groups of 20 colour pictures, made from the emoji of an npm package (npm must be installed). EfficientNet-Lite0
trained on ImageNet, against the same network and that of `image_folder` from random weights. `digits`: a network trained on
55,000 clothes, fine-tuned on 200 digits, against the same network from random weights. The settings of `emoji` were chosen on
val with seed 100; those of `digits` were not tuned. Run by hand: half an hour on two processor cores for `emoji`, some minutes
for `digits`.

    python benchmarks/transfer.py emoji|digits [--seeds 5] [--first-seed 0] [--only NAME] [--split val] [--clothes FILE]
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from reprise import config as configs
from reprise.config import Config
from reprise.data import store
from reprise.data.windows import Windows
from reprise.inference.predictor import Predictor
from reprise.project_paths import ProjectPaths
from reprise.stages import initial_weights
from reprise.stages.prepare import prepare
from reprise.tasks.build import build_network, build_task, build_transform
from reprise.tracking.weights import save_weights
from reprise.training.fit import fit
from reprise.training.initial import InitialWeights, Source

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, PICTURES = "emoji-datasource-twitter@16.0.0", "img/twitter/64"
GROUPS = (
    *("animal-bird", "animal-mammal", "clothing", "drink", "face-concerned", "food-fruit", "food-prepared", "food-vegetable"),
    *("heart", "household", "person-sport", "place-building", "sky & weather", "sport", "tool", "transport-ground"),
)
A_CLASS = 20
"""Pictures of a group: the first in the order of Unicode."""
QUIET = Console(quiet=True)

EMOJI = ["data.path=pictures", "window.val_size=0.2", "window.test_size=0.3", "trainer.progress=false"]
LITE = ["experiment=image_folder_pretrained", "data.name=at128", *EMOJI]
DIGITS = ["experiment=fashion_mnist_cnn", "data=mnist", "data.limit=250", "window.val_size=50", "trainer.batch_size=32"]
DIGITS += ["trainer.progress=false", "trainer.max_epochs=40"]
VARIANTS: Mapping[str, Mapping[str, Sequence[str]]] = {
    "emoji": {
        "EfficientNet-Lite0 from ImageNet": LITE,
        "EfficientNet-Lite0 from random weights": [
            *LITE,
            *("init_from=null", "freeze=[]", "data.name=at64", "data.shape=[64,64,3]"),
            *("optimizer.lr=0.002", "trainer.max_epochs=40"),
        ],
        "network of image_folder from random weights": [
            *("experiment=image_folder", "data.name=at64", "data.shape=[64,64,3]", *EMOJI),
        ],
    },
    "digits": {
        "from 55,000 clothes": [*DIGITS, "init_from=clothes"],
        "from 55,000 clothes, convolutions frozen": [*DIGITS, "init_from=clothes", 'freeze=["features.*"]'],
        "from random weights": DIGITS,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", choices=VARIANTS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the names of the variants to run")
    parser.add_argument("--split", choices=["val", "test"], default="test")
    parser.add_argument("--clothes", type=Path, help="weights of fashion_mnist_cnn, in place of a training of 10 epochs")
    asked = parser.parse_args()
    if asked.clothes:
        asked.clothes = asked.clothes.resolve()
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        os.chdir(project)
        shutil.copytree(ROOT / "conf", project / "conf")
        paths = ProjectPaths(project)
        clothes = None
        if asked.benchmark == "emoji":
            write_emoji(project / "pictures")
        else:
            clothes = trained_on_clothes(paths, asked.clothes)
        for variant, overrides in VARIANTS[asked.benchmark].items():
            if asked.only in variant:
                seeds = range(asked.first_seed, asked.first_seed + asked.seeds)
                report(variant, [accuracy(paths, overrides, seed, asked.split, clothes) for seed in seeds])


def report(variant: str, outcomes: Sequence[tuple[float, float]]) -> None:
    accuracies = [one for one, _ in outcomes]
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
    seconds = statistics.mean(seconds for _, seconds in outcomes)
    each = ", ".join(f"{one:.4f}" for one in accuracies)
    print(f"{variant}: {statistics.mean(accuracies):.4f} ± {spread:.4f} ({each}), {seconds:.0f} s each", flush=True)


def write_emoji(folder: Path) -> None:
    """Write the pictures of each group to a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        subprocess.run(["npm", "pack", "--silent", PACKAGE], cwd=name, check=True, stdout=subprocess.DEVNULL)
        [archive] = Path(name).glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extractall(name, filter="data")
        package = Path(name) / "package"
        known = sorted(json.loads((package / "emoji.json").read_text()), key=lambda one: one["sort_order"])
        for group in GROUPS:
            target = folder / group.replace(" & ", "-")
            target.mkdir(parents=True)
            of_group = [one for one in known if one["subcategory"] == group and one["has_img_twitter"]]
            for one in of_group[:A_CLASS]:
                shutil.copy(package / PICTURES / one["image"], target / f"{one['short_name']}.png")


def trained_on_clothes(paths: ProjectPaths, file: Path | None) -> InitialWeights:
    config = configs.compose(paths.root, ["experiment=fashion_mnist_cnn", "trainer.progress=false"])
    windows = prepare(config, paths, QUIET)
    if file is None:
        started = time.perf_counter()
        weights, history = fit(config, windows)
        print(f"clothes: val accuracy {history[-1]['val/accuracy']:.4f}, {time.perf_counter() - started:.0f} s", flush=True)
        file = paths.root / "clothes.safetensors"
        save_weights(file, weights)
    return InitialWeights(Source(name="clothes", sha256=store.sha256(file), labels=windows.meta.labels()), file)


def accuracy(
    paths: ProjectPaths, overrides: Sequence[str], seed: int, split: str, clothes: InitialWeights | None
) -> tuple[float, float]:
    """Return the accuracy at the best epoch on val, and the seconds of the training. The seed is also that of the split."""
    config = configs.compose(paths.root, [*overrides, f"seed={seed}", f"window.seed={seed}"])
    windows = prepare(config, paths, QUIET)
    if clothes is not None:
        initial = clothes if config.init_from else None
    else:
        config, initial = initial_weights.find(config, windows, paths, QUIET)
    started = time.perf_counter()
    weights, history = fit(config, windows, initial)
    seconds = time.perf_counter() - started
    if split == "val":
        return max(row["val/accuracy"] for row in history), seconds
    return test_accuracy(config, windows, weights), seconds


def test_accuracy(config: Config, windows: Windows, weights: Mapping[str, torch.Tensor]) -> float:
    task = build_task(config, windows.meta)
    network = build_network(config, windows.meta, task)
    network.load_state_dict(weights)
    predictor, test, right = Predictor(build_transform(windows.meta), network, task), windows.test(), 0
    with torch.inference_mode():
        for rows in torch.arange(len(test)).split(256):
            right += int((predictor.predict(test.gather(rows).inputs).argmax(1) == test.gather(rows).targets).sum())
    return right / len(test)


if __name__ == "__main__":
    main()
