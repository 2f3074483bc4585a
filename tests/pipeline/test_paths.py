"""A project whose path contains characters that have a meaning in URLs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import optuna
import pytest
from mlflow import MlflowClient

from reprise.sweeps import studies
from reprise.tracking.address import local_address
from tests.pipeline.conftest import clone, run_in
from tests.pipeline.test_sweep import QUICK, sweep, write_sweep

UNUSUAL_NAME = "a%20b?c#d&e+f=g, h~'ü日{i}"


@pytest.mark.long
def test_train_evaluate_reproduce_and_sweep_work_in_a_folder_with_an_unusual_name(tmp_path: Path) -> None:
    project = clone(tmp_path / UNUSUAL_NAME)
    trained = run_in(project, "reprise", "train", "experiment=digits_cnn", "window.limit=320", "trainer.max_epochs=1")
    assert trained.returncode == 0, trained.stderr
    assert "sync" not in trained.stderr  # every entry has been sent
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    for command in ("evaluate", "reproduce"):
        done = run_in(project, "reprise", command, run_dir.name)
        assert done.returncode == 0, done.stderr
    assert "identical: weights bit for bit" in done.stdout
    write_sweep(project, "odd", space={"optimizer.lr": {"kind": "choice", "values": [0.003, 0.001]}}, n_trials=2)
    sweep(project, "sweep=odd", "workers=2", "trainer.max_epochs=1", *QUICK)
    trials = optuna.load_study(study_name="odd", storage=studies.address(project / "mlruns", None)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert [path.name for path in tmp_path.iterdir()] == [UNUSUAL_NAME]
    assert list((project / "mlruns" / "outbox").iterdir()) == []
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as store:
        # train, reproduce, two trials and the parent run of the sweep
        assert store.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (5,)
    client = MlflowClient(local_address(project / "mlruns"))
    (model,) = client.get_run(run_dir.name).outputs.model_outputs
    folder = Path(client.download_artifacts(run_dir.name, "figures"))
    assert (folder / "confusion_matrix.png").is_file()
    mlflow.set_tracking_uri(local_address(project / "mlruns"))
    assert mlflow.artifacts.list_artifacts(f"models:/{model.model_id}")
