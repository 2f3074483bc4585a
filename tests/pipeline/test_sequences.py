"""A user's .ts files, from training to evaluation, figures and predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from reprise.errors import UserError
from reprise.inference import explain_sequences
from reprise.inference.trained_run import open_run
from reprise.project_paths import ProjectPaths
from tests.pipeline.conftest import run_in

HEADER = "@problemName waves\n@timeStamps false\n@univariate false\n@equalLength false\n@classLabel true slow fast\n@data\n"
TRAIN = ["experiment=ucr", "trainer.max_epochs=20", "trainer.threads=1", "seed=1"]


def write_waves(file: Path, count: int, seed: int) -> list[str]:
    """Write sine waves of two channels and 8 to 20 steps, slow or fast. Return their classes."""
    random, labels, lines = np.random.default_rng(seed), [], []
    for number in range(count):
        time = np.arange(random.integers(8, 21)) + random.uniform(0, 6)
        labels.append(["slow", "fast"][number % 2])
        channels = [scale * np.sin(time * (0.4 if number % 2 == 0 else 2)) for scale in (1, 5)]
        lines.append(":".join([*(",".join(f"{value:.4f}" for value in channel) for channel in channels), labels[-1]]))
    file.write_text(HEADER + "\n".join(lines) + "\n")
    return labels


@pytest.fixture(scope="module")
def run_dir(project: Path) -> Path:
    """The run directory of a training on a pair of files."""
    (project / "waves").mkdir()
    write_waves(project / "waves" / "waves_TRAIN.ts", 60, 0)
    write_waves(project / "waves" / "waves_TEST.ts", 20, 1)
    done = run_in(project, "reprise", "train", *TRAIN, "data.path=waves", "window.test_size=null")
    assert done.returncode == 0, done.stderr
    assert "60 sequences of train and 20 of test, 8 to 20 steps, 2 channels, 2 classes" in done.stdout
    (folder,) = (project / "mlruns" / "runs").iterdir()
    return folder


def test_a_run_on_sequences_is_evaluated_beside_its_baselines_and_drawn(project: Path, run_dir: Path) -> None:
    done = run_in(project, "reprise", "evaluate", run_dir.name, "--json")
    assert done.returncode == 0, done.stderr
    assert "could not be made" not in done.stderr
    metrics = json.loads(done.stdout)
    assert metrics["majority_class"]["accuracy"] == 0.5
    assert metrics["nearest_neighbour"]["accuracy"] > 0.5
    assert metrics["test"]["accuracy"] > 0.8
    figures = {file.name for file in (run_dir / "figures").iterdir()}
    assert {"samples.png", "predictions.png", "confusion_matrix.png", "classification_report.txt"} <= figures


def test_predict_agrees_with_evaluate_and_knows_the_training_sequences(project: Path, run_dir: Path) -> None:
    accuracy = json.loads(run_in(project, "reprise", "evaluate", run_dir.name, "--json").stdout)["test"]["accuracy"]
    for name, splits in (("TEST", {"test"}), ("TRAIN", {"train", "val"})):
        file = project / "waves" / f"waves_{name}.ts"
        done = run_in(project, "reprise", "predict", run_dir.name, str(file), "--out", str(project / name))
        assert done.returncode == 0, done.stderr
        with (project / name / "predictions.csv").open() as stream:
            rows = list(csv.DictReader(stream))
        assert {row["split"] for row in rows} == splits
        assert [row["sequence"] for row in rows] == [str(number) for number in range(1, len(rows) + 1)]
        assert all(float(row["p_slow"]) + float(row["p_fast"]) == pytest.approx(1, abs=1e-6) for row in rows)
        if name == "TEST":
            assert np.mean([row["class"] == row["true"] for row in rows]) == pytest.approx(accuracy)
        assert (project / name / "predictions.png").stat().st_size > 10_000


def test_explain_writes_attributions_of_a_sequence_without_its_padding(project: Path, run_dir: Path) -> None:
    opened, file, out = open_run(ProjectPaths(project), run_dir.name), project / "waves" / "waves_TEST.ts", project / "explained"
    result = explain_sequences.run(opened, file, out, Console(quiet=True), "2", None)
    steps = len(file.read_text().splitlines()[-19].split(":")[0].split(","))
    with (out / "attribution.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert sum(row["attribution"] != "" for row in rows) == 2 * steps
    assert result.described()["samples"] == 20
    assert {file.name for file in out.iterdir()} == {"attribution.csv", "attribution.png", "importance.png"}
    with pytest.raises(
        UserError, match=r"^--sample 21: waves_TEST.ts has the sequences 1 to 20; give the number of one of them$"
    ):
        explain_sequences.run(opened, file, out, Console(quiet=True), "21", None)


def test_a_longer_sequence_than_in_training_is_refused_in_one_line(project: Path, run_dir: Path) -> None:
    steps = ",".join("1" * 21)
    (project / "long.ts").write_text(f"{HEADER}{steps}:{steps}:slow\n")
    done = run_in(project, "reprise", "predict", run_dir.name, "long.ts")
    assert done.returncode == 2
    assert "long.ts: sequence 1 has 21 steps; the run reads at most 20" in done.stderr
