"""`reprise revalidate`: a refactor is committed to DVC without a training; a change of what is computed is caught and named."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.pipeline.conftest import ROOT, run_in
from tests.pipeline.test_repro import stages_run


@pytest.fixture(scope="module")
def project(pipeline_project: Path) -> Path:
    """A project whose pipeline has run, with its own copy of the sources."""
    (pipeline_project / "src").unlink()
    shutil.copytree(ROOT / "src", pipeline_project / "src", ignore=shutil.ignore_patterns("__pycache__"))
    return pipeline_project


def revalidate(project: Path, *stages: str) -> subprocess.CompletedProcess[str]:
    command = ("python", "-m", "reprise", "revalidate", *stages)
    return run_in(project, *command, PYTHONPATH=str(project / "src"))


def edit(project: Path, file: str, old: str, new: str) -> None:
    path = project / "src" / "reprise" / file
    text = path.read_text()
    assert old in text, f"{file} no longer holds {old!r}"
    path.write_text(text.replace(old, new, 1))


@pytest.mark.long
def test_a_comment_in_training_code_costs_no_training(project: Path) -> None:
    edit(project, "training/randomness.py", "import ", "# A comment.\nimport ")
    stale = stages_run(run_in(project, "dvc", "repro", "--dry").stdout)
    assert "train@digits_cnn" in stale
    done = revalidate(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train@digits_cnn: same weights over the first 20 steps" in done.stdout
    assert "long/dvc.yaml:train@temperature_lstm: same weights over the first 20 steps" in done.stdout
    assert stages_run(run_in(project, "dvc", "repro", "--dry", "--all-pipelines").stdout) == set()


@pytest.mark.long
def test_a_changed_initialisation_is_caught_and_named(project: Path) -> None:
    before = (project / "dvc.lock").read_bytes()
    edit(project, "models/convnet.py", 'if init == "glorot":', "if init:")
    done = revalidate(project, "train@digits_cnn")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "train@digits_cnn: differs: seed 0: initial weights: " in done.stdout
    assert (project / "dvc.lock").read_bytes() == before


def test_a_changed_split_is_caught_by_its_file(project: Path) -> None:
    edit(project, "data/splits.py", "np.random.PCG64(seed)", "np.random.PCG64(seed + 1)")
    done = revalidate(project, "window@digits_cnn")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "window@digits_cnn: differs: digits_cnn/" in done.stdout
