"""A modality, a task and a model are added by the files that CONTRIBUTING.md names, and by no other."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np

from tests.cli_fork_server import CliForkServer
from tests.pipeline.conftest import ROOT

FILES = Path(__file__).with_name("files")
MODALITY = {
    "src/reprise/config/modalities/vectors.py",
    "src/reprise/data/modalities/vectors/__init__.py",
    "src/reprise/data/modalities/vectors/arrays.py",
    "src/reprise/data/modalities/vectors/tensors.py",
    "conf/window/vectors.yaml",
}
TASK = {"src/reprise/tasks/margin.py", "src/reprise/reports/margin.py", "conf/task/margin.yaml"}
MODEL = {"src/reprise/models/perceptron.py", "conf/model/perceptron.yaml"}


def test_the_table_of_files_in_contributing_names_the_files_that_are_added() -> None:
    added = {str(file.relative_to(FILES)) for file in FILES.rglob("*") if file.is_file() and "__pycache__" not in file.parts}
    assert added == MODALITY | TASK | MODEL
    table = (ROOT / "CONTRIBUTING.md").read_text()
    for file in added:
        name = "vectors" if file in MODALITY else "margin" if file in TASK else "perceptron"
        general = str(Path(file).parent) if file.startswith("src/reprise/data/modalities") else file
        assert general.replace(name, "NAME") in table, file


def test_an_added_modality_task_and_model_train_and_evaluate(tmp_path: Path) -> None:
    for part in ("src", "conf"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    shutil.copytree(FILES, tmp_path, dirs_exist_ok=True)
    assert all(file.read_bytes() == content for file, content in before.items()), "an existing file was changed"
    labels = np.arange(300) % 3
    values = np.random.default_rng(0).normal(size=(300, 4)) + 3 * np.eye(3, 4)[labels]
    (tmp_path / "rows").mkdir()
    np.savetxt(tmp_path / "rows" / "rows.csv", np.column_stack([values, labels]), delimiter=",", fmt="%.4f")
    sha256 = hashlib.sha256((tmp_path / "rows" / "rows.csv").read_bytes()).hexdigest()
    (tmp_path / "conf" / "data" / "rows.yaml").write_text(
        f"name: rows\ntitle: Rows\nkind: vectors\nhomepage: ''\ncitation: ''\nlicence: ''\nmirror: rows\n"
        f"sources: [{tmp_path}/rows/]\nfiles:\n  - {{fetch: rows.csv, sha256: {sha256}}}\n"
        "classes: [a, b, c]\nlimit: null\n"
    )
    (tmp_path / "conf" / "experiment" / "rows.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: rows\n  - override /window: vectors\n  - override /task: margin\n"
        "  - override /model: perceptron\nname: rows\ntrainer:\n  max_epochs: 20\n  batch_size: 16\noptimizer:\n  lr: 0.01\n"
    )
    fork_server = CliForkServer(tmp_path, source=str(tmp_path / "src"))
    try:
        fork_server.run("train", "experiment=rows", "trainer.threads=1")
        (run,) = (tmp_path / "mlruns" / "runs").iterdir()
        evaluated = fork_server.run("evaluate", run.name, "--json").out.read_text()
    finally:
        fork_server.end()
    assert json.loads(evaluated)["test"]["hits"] > 0.9
