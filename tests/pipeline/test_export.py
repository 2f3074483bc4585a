"""Exported models answer like the original, without PyTorch and reprise."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reprise.errors import UserError
from reprise.inference.trained_run import open_run
from reprise.project_paths import ProjectPaths
from reprise.tracking import registry
from tests.pipeline.conftest import run_in

WITHOUT = "import sys; sys.modules['torch'] = sys.modules['reprise'] = None\n"


EXPERIMENTS = ["digits_cnn", pytest.param("temperature_lstm", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def pulled(pipeline_project: Path) -> Path:
    """The project without mlruns/, as it is in a clone after `dvc pull`."""
    clone = pipeline_project.with_name("pulled")
    shutil.copytree(pipeline_project, clone, symlinks=True)
    shutil.rmtree(clone / "mlruns")
    return clone


def export(project: Path, name: str) -> Path:
    """Return the folder that `export` writes for an experiment; each is exported once."""
    folder = project / "exported" / name
    if not folder.is_dir():
        done = run_in(project, "reprise", "export", name, "--int8", f"--out=exported/{name}")
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_lines_of_the_readme_give_the_answer_of_the_example(pulled: Path, name: str) -> None:
    folder = export(pulled, name)
    (lines,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert len(lines.splitlines()) <= 10
    done = subprocess.run([sys.executable, "-c", WITHOUT + lines], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 1e-4


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_report_compares_on_the_whole_val_split(pulled: Path, name: str) -> None:
    metric = {"digits_cnn": "accuracy", "temperature_lstm": "mae"}[name]
    report = json.loads((export(pulled, name) / "report.json").read_text())
    recorded = json.loads((pulled / "data" / "results" / name / "metrics.json").read_text())["val"][metric]
    assert list(report) == ["torch", "onnx", "int8"]
    for one in report.values():
        assert one["metric"] == metric
        assert one["samples_per_second"] > 0
    assert report["torch"]["value"] == pytest.approx(recorded, rel=1e-4)
    assert report["onnx"]["largest_difference"] < 1e-5
    assert report["int8"]["bytes"] < report["onnx"]["bytes"]


def test_pictures_get_the_probabilities_that_predict_gives_them(pulled: Path, tmp_path: Path) -> None:
    folder = export(pulled, "digits_cnn")
    rng = np.random.default_rng(0)
    files = []
    for number, size in enumerate([(8, 8), (20, 31), (3, 9)]):
        files.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(files[-1])
    program = WITHOUT + f"sys.argv[1:] = {[str(file) for file in files]}\n" + (folder / "predict.py").read_text()
    script = folder / "without.py"
    script.write_text(program)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line)["probabilities"] for line in done.stdout.splitlines()]
    predicted = json.loads(run_in(pulled, "reprise", "predict", "digits_cnn", str(tmp_path), "--json").stdout)
    expected = {Path(row["file"]).name: row["probabilities"] for row in predicted}
    for file, answer in zip(files, answers, strict=True):
        assert answer == pytest.approx(expected[file.name], abs=1e-5)


def test_a_run_of_the_store_is_opened_from_the_weights_of_the_pipeline(pulled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a registered model of a shared store, in a clone after `dvc pull`."""
    weights = pulled / "data" / "models" / "digits_cnn" / "seed0.safetensors"
    tags = {"experiment": "digits_cnn", "sha256.weights": hashlib.sha256(weights.read_bytes()).hexdigest()}
    found: list[tuple[str, dict[str, str]] | None] = [("digits", tags), ("digits", tags | {"sha256.weights": "0"}), None]
    monkeypatch.setattr(registry, "run_name_and_tags", lambda *_: found.pop(0))
    assert open_run(ProjectPaths(pulled), "a" * 32).weights == weights
    with pytest.raises(UserError, match=r"digits: neither its run directory nor its weights are in this project; .*dvc pull"):
        open_run(ProjectPaths(pulled), "a" * 32)
    with pytest.raises(UserError, match="0 runs are called"):
        open_run(ProjectPaths(pulled), "a" * 32)


@pytest.mark.long
def test_a_forecast_of_values_with_time_stamps(pulled: Path) -> None:
    folder = export(pulled, "temperature_lstm")
    signature, example = json.loads((folder / "signature.json").read_text()), np.load(folder / "example.npz")
    rows = [[*signature["table"]["time"], *signature["channels"]]]
    stamps = example["time"][0].astype("datetime64[ns]").astype(str)
    rows += [[stamp, *map(repr, map(float, values))] for stamp, values in zip(stamps, example["values"][0], strict=True)]
    (folder / "rows.csv").write_text("\n".join(",".join(row) for row in rows))
    done = subprocess.run([sys.executable, "predict.py", "rows.csv"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"step": 1, "temp_max": pytest.approx(float(example["answer"][0, 0, 0]), abs=1e-4)}


@pytest.mark.long
def test_a_graph_for_pytorch_and_what_is_refused(pulled: Path) -> None:
    project = pulled
    done = run_in(project, "reprise", "export", "digits_cnn", "--to=pt2", "--out=graph")
    assert done.returncode == 0, done.stderr
    (lines,) = re.findall(r"```python\n(.*?)```", (project / "graph" / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", lines], cwd=project / "graph", capture_output=True, text=True)
    assert float(done.stdout) < 1e-5
    for arguments, message in ((["--to=pt2", "--int8", "--out=new"], "--int8"), (["--out=graph"], "exists already")):
        refused = run_in(project, "reprise", "export", "digits_cnn", *arguments)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert message in refused.stderr
    assert not (project / "new").exists()
