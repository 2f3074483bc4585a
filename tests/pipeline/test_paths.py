"""A project whose path holds what means something in an address: everything stays in it."""

import sqlite3
from contextlib import closing
from pathlib import Path

import mlflow
import optuna
import pytest
from mlflow import MlflowClient

from reprise.sweeps import study
from reprise.tracking.address import local_address
from tests.pipeline.conftest import clone, run_in
from tests.pipeline.test_sweep import QUICK, sweep, write

NASTY = "a%20b?c#d&e+f=g, h~'ü日{i}"


@pytest.mark.long
def test_train_evaluate_reproduce_and_sweep_work_in_a_folder_of_any_name(tmp_path: Path) -> None:
    project = clone(tmp_path / NASTY)
    trained = run_in(project, "reprise", "train", "experiment=digits_cnn", "window.limit=320", "trainer.max_epochs=1")
    assert trained.returncode == 0, trained.stderr
    assert "sync" not in trained.stderr  # nothing waits for the store
    (run_dir,) = (project / "mlruns" / "runs").iterdir()
    for command in ("evaluate", "reproduce"):
        done = run_in(project, "reprise", command, run_dir.name)
        assert done.returncode == 0, done.stderr
    assert "identical: weights bit for bit" in done.stdout
    write(project, "odd", space={"optimizer.lr": {"kind": "choice", "values": [0.003, 0.001]}}, n_trials=2)
    sweep(project, "sweep=odd", "workers=2", "trainer.max_epochs=1", *QUICK)
    trials = optuna.load_study(study_name="odd", storage=study.address(project / "mlruns", None)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    assert [found.name for found in tmp_path.iterdir()] == [NASTY]
    assert list((project / "mlruns" / "outbox").iterdir()) == []
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as store:
        assert store.execute("SELECT count(*) FROM runs WHERE status = 'FINISHED'").fetchone() == (5,)  # a sweep is one too
    client = MlflowClient(local_address(project / "mlruns"))
    (model,) = client.get_run(run_dir.name).outputs.model_outputs
    folder = Path(client.download_artifacts(run_dir.name, "figures"))
    assert (folder / "confusion_matrix.png").is_file()
    mlflow.set_tracking_uri(local_address(project / "mlruns"))
    assert mlflow.artifacts.list_artifacts(f"models:/{model.model_id}")
