"""No leakage: training cannot read the test split."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from rich.console import Console

from reprise import config as configs
from reprise.data import store
from reprise.errors import UserError
from reprise.project_paths import ProjectPaths
from reprise.stages import download, preprocess, window
from reprise.stages.prepare import prepare
from reprise.tracking.weights import load_weights
from tests.pipeline.conftest import make_project, run_in

QUIET = Console(quiet=True)


def prepare_data(folder: Path, experiment: str, change: str = "") -> ProjectPaths:
    """Make the arrays and windows of an experiment. With `change`, test rows are altered before the windows are made."""
    paths = ProjectPaths(make_project(folder))
    config = configs.compose(paths.root, [f"experiment={experiment}"])
    download.run(config.data, paths, QUIET)
    arrays = preprocess.run(config.data, paths, QUIET)
    if change:
        with store.publish(paths.root / "changed") as draft:
            shutil.copytree(arrays, draft, dirs_exist_ok=True)
            (draft / store.MANIFEST).unlink()
            values = np.array(store.open_array(draft / "values.npy"))
            values[-100:] = 99.0  # all of them test rows
            store.write_array(draft / "values.npy", values)
        shutil.rmtree(arrays)
        (paths.root / "changed").rename(arrays)
    window.run(config, paths, QUIET)
    return paths


def trained_weights(paths: ProjectPaths, experiment: str) -> dict[str, bytes]:
    done = run_in(paths.root, "reprise", "train", f"experiment={experiment}", "trainer.threads=1", "tracking.log_model=false")
    assert done.returncode == 0, done.stderr
    (run_dir,) = (paths.store / "runs").iterdir()
    return {name: tensor.numpy().tobytes() for name, tensor in load_weights(run_dir / "best.safetensors").items()}


def test_the_test_rows_do_not_change_the_trained_weights(tmp_path: Path) -> None:
    before = trained_weights(prepare_data(tmp_path / "as_published", "temperature_lstm"), "temperature_lstm")
    after = trained_weights(prepare_data(tmp_path / "changed", "temperature_lstm", change="test rows"), "temperature_lstm")
    assert before == after


TRAIN_EVALUATE_AND_LIST_FILES = """
import sys
from pathlib import Path
opened = set()
sys.addaudithook(lambda event, args: opened.add(str(args[0])) if event == "open" else None)
from reprise.__main__ import main
try:
    main(["train", "--evaluate", "experiment=published_test", "tracking.log_model=false"])
except SystemExit as end:
    assert end.code == 0, end.code
here = Path.cwd()
inside = {Path(name).resolve().relative_to(here).as_posix() for name in opened if name.endswith(".npy") and str(here) in str(Path(name).resolve())}
print("opened:", *sorted(inside))
"""


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(extent.to_bytes(4, "big") for extent in array.shape) + array.tobytes()


def test_training_opens_no_file_of_a_published_test_set(tmp_path: Path) -> None:
    """An audit hook of the interpreter records the files that the training process opens, and the process that evaluates its run."""
    root = make_project(tmp_path / "clone")
    (root / "published").mkdir()
    generator = np.random.default_rng(0)
    files = []
    for part, count in (("train", 300), ("test", 101)):
        for name, array in (
            ("images", generator.integers(0, 256, (count, 8, 8), np.uint8)),
            ("labels", np.arange(count, dtype=np.uint8) % 2),
        ):
            (root / "published" / f"{part}-{name}").write_bytes(idx_bytes(array))
            digest = hashlib.sha256(idx_bytes(array)).hexdigest()
            files.append({"fetch": f"{part}-{name}", "array": f"{part}/{name}", "sha256": digest})
    data = yaml.safe_load((root / "conf" / "data" / "digits.yaml").read_text())
    data |= {"name": "published", "reader": "idx", "sources": [f"{root}/published/"], "files": files, "classes": ["0", "1"]}
    (root / "conf" / "data" / "published.yaml").write_text(yaml.safe_dump(data))
    experiment = yaml.safe_load((root / "conf" / "experiment" / "digits_cnn.yaml").read_text())
    experiment["defaults"][0] = {"override /data": "published"}
    experiment |= {"name": "published_test", "window": {"val_size": 50, "test_size": None}}
    (root / "conf" / "experiment" / "published_test.yaml").write_text(
        "# @package _global_\n" + yaml.safe_dump(experiment, sort_keys=False)
    )
    for stage in ("download", "preprocess"):
        assert run_in(root, "reprise", stage, "data=published").returncode == 0
    assert run_in(root, "reprise", "window", "experiment=published_test").returncode == 0
    done = run_in(root, sys.executable, "-c", TRAIN_EVALUATE_AND_LIST_FILES)
    assert done.returncode == 0, done.stderr
    evaluating, training = (line.split()[1:] for line in done.stdout.splitlines() if line.startswith("opened:"))
    assert "data/processed/published/test/images.npy" in evaluating
    assert "data/processed/published/train/images.npy" in training
    assert [name for name in training if "test" in name] == []


def test_a_process_that_trains_cannot_open_the_test_split(tmp_path: Path) -> None:
    paths = prepare_data(tmp_path / "clone", "digits_cnn")
    code = (
        "from pathlib import Path; from reprise.data import windows as datasets\n"
        f"w = datasets.open_windows(Path({str(paths.windows('digits_cnn'))!r}), Path({str(paths.processed('digits'))!r}))\n"
        "print(len(w.test())); datasets.lock_test_split()\n"
        "try: w.test()\n"
        "except datasets.UserError as error: print('refused:', error)\n"
    )
    done = run_in(tmp_path, sys.executable, "-c", code)
    assert done.stdout.splitlines() == [
        "359",
        "refused: the test split is locked in a process that trains; only `reprise evaluate` can read it",
    ]


@pytest.mark.parametrize("path", ["src/reprise/stages/train.py", "src/reprise/training/learner.py"])
def test_the_training_code_never_requests_the_test_split(path: str) -> None:
    source = (Path(__file__).resolve().parents[2] / path).read_text()
    assert ".test()" not in source


def test_a_model_that_reads_the_test_split_fails_its_run(tmp_path: Path) -> None:
    """A network from a plugin package opens the windows folder itself, inside the training process."""
    paths = prepare_data(tmp_path / "clone", "digits_cnn")
    plugin = tmp_path / "plugin" / "peeking"
    plugin.mkdir(parents=True)
    (plugin / "__init__.py").write_text(
        "from pathlib import Path\nimport torch\nfrom reprise.data.windows import open_windows\n"
        "class Peek(torch.nn.Module):\n"
        "    def __init__(self, input_shape: list[int], outputs: int) -> None:\n"
        "        super().__init__()\n"
        "        self.layer = torch.nn.Linear(64, outputs)\n"
        "    def forward(self, x):\n"
        "        open_windows(Path('data/windows/digits_cnn'), Path('data/processed/digits')).test()\n"
        "        return self.layer(x.flatten(1))\n"
    )
    (paths.root / "conf" / "model" / "peek.yaml").write_text("_target_: peeking.Peek\n")
    (paths.root / "conf" / "experiment" / "digits_cnn.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: digits\n  - override /model: peek\n\n"
        "name: digits_cnn\nwindow:\n  val_size: 0.2\n  test_size: 0.2\n"
    )
    done = run_in(paths.root, "reprise", "train", "experiment=digits_cnn", "plugins=[peeking]", PYTHONPATH=str(plugin.parent))
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("reprise: the test split is locked")


def test_an_array_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    paths = prepare_data(tmp_path / "clone", "digits_cnn")
    file = paths.processed("digits") / "train" / "images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    config = configs.compose(paths.root, ["experiment=digits_cnn"])

    with pytest.raises(UserError, match=r"images\.npy is not what was written"):
        prepare(config, paths, QUIET).learning()
