"""Two processes: each sample counts once, one run is written, and the metrics equal those of one process."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from reprise.data import store
from tests.pipeline.conftest import clone, run_in

CASES = {"digits_cnn": ("digits", "window.test_size=361"), "temperature_lstm": ("seattle_weather", "window.test_size=221")}
"""Experiment: its MLflow experiment, and an override that makes the number of test samples odd."""


@pytest.mark.parametrize(
    ("experiment", "trainer"),
    [
        ("digits_cnn", "ddp_cpu"),
        pytest.param("temperature_lstm", "ddp_cpu", marks=pytest.mark.long),
        pytest.param("digits_cnn", "fsdp_cpu", marks=pytest.mark.long),
    ],
)
def test_two_processes_write_one_run_and_evaluate_exactly_as_one_process(tmp_path: Path, experiment: str, trainer: str) -> None:
    project = clone(tmp_path / "clone")
    mlflow_experiment, odd_test_size = CASES[experiment]
    done = run_in(
        project, "reprise", "train", f"experiment={experiment}", odd_test_size, f"trainer={trainer}", "tracking.log_model=false"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 2/2") == 1  # only the first rank prints
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name(mlflow_experiment).experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.tags["devices"] == "2"
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/loss")] == [1, 2]
    outputs = []
    for devices in ("trainer=cpu", f"trainer={trainer}"):
        run_dir = project / "mlruns" / "runs" / run.info.run_id
        evaluated = run_in(
            project,
            "reprise",
            "evaluate",
            "--json",
            run.info.run_id[:8],
            devices,
            "trainer.threads=1",
            "trainer.eval_batch_size=50",
        )
        assert evaluated.returncode == 0, evaluated.stderr
        outputs.append(evaluated.stdout)
        assert store.read_json(run_dir / "run.json")["run_id"] == run.info.run_id
    assert outputs[0] == outputs[1]
    # logged once, because both evaluations gave the same value
    assert len(client.get_metric_history(run.info.run_id, "test/loss")) == 1
