"""A project, commands that train small networks in it, and readers of its tracking store."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from tests.cli_fork_server import CliForkServer
from tests.pipeline.conftest import make_project

SMALL = ["tracking.log_model=false", "trainer.threads=1", "trainer.progress=false", "checkpoint.steps=3"]
CNN = ["train", "experiment=digits_cnn", "window.limit=320", "trainer.max_epochs=3", "trainer.batch_size=32", *SMALL]
LSTM = ["train", "experiment=temperature_lstm", "window.limit=300", "trainer.max_epochs=3", "trainer.batch_size=32", *SMALL]
EPOCHS = 3


@pytest.fixture(scope="module")
def fork_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliForkServer]:
    """Run commands in a project of the test module."""
    started = CliForkServer(make_project(tmp_path_factory.mktemp("faults") / "project"))
    yield started
    started.end()


def client(project: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")


def runs(project: Path) -> dict[str, Run]:
    store = client(project)
    every = [experiment.experiment_id for experiment in store.search_experiments()]
    return {run.info.run_id: run for run in store.search_runs(every)}


def history(store: MlflowClient, run: Run) -> dict[str, list[tuple[int, float]]]:
    """Return the recorded points of a run, without the metrics that differ from run to run (times)."""
    return {
        key: sorted((point.step, point.value) for point in store.get_metric_history(run.info.run_id, key))
        for key in run.data.metrics
        if key not in {"train/seconds", "train/samples_per_second"}
    }
