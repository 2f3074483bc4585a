"""What a run records and how it ends, with real processes and a real database."""

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.validation import _validate_metric_name

from reprise.data import store
from reprise.data.windows import open_windows
from reprise.tasks.forecasting import metric_suffixes
from reprise.tracking import event_log
from reprise.tracking.weights import load_weights
from tests.pipeline.conftest import fork_server, make_project, run_in
from tests.tracking.server import Server

SECRET = "hunter2-do-not-tell"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with one uncommitted change to its code and one to something else."""
    folder = make_project(tmp_path_factory.mktemp("tracking") / "clone")
    (folder / ".gitignore").write_text("mlruns\ndata\n")
    identity = {f"GIT_{who}_{what}": "a@b.c" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for command in (["git", "init", "-q"], ["git", "add", "-A"], ["git", "commit", "-qm", "start"]):
        assert run_in(folder, *command, **identity).returncode == 0
    (folder / "conf" / "experiment" / "mine.yaml").write_text((folder / "conf" / "experiment" / "digits_cnn.yaml").read_text())
    (folder / "notes.txt").write_text(SECRET)
    return folder


@pytest.fixture(scope="module")
def run(project: Path) -> Run:
    """A finished run and its evaluation, made with a secret in the environment."""
    settings = {"AWS_SECRET_ACCESS_KEY": SECRET, "MLFLOW_TRACKING_PASSWORD": SECRET}
    done = run_in(project, "reprise", "train", "experiment=mine", "name=mine", **settings)
    assert done.returncode == 0, done.stderr
    (run,) = runs(project)
    done = run_in(project, "reprise", "evaluate", run.info.run_id[:10], **settings)
    assert done.returncode == 0, done.stderr
    return runs(project)[0]


def runs(project: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    every = client.search_experiments()
    return list(client.search_runs([experiment.experiment_id for experiment in every]))


def statuses(project: Path) -> dict[str, str]:
    """Return the status of every run."""
    with closing(sqlite3.connect(project / "mlruns" / "mlflow.db")) as database:
        return dict(database.execute("SELECT run_uuid, status FROM runs"))


def artifact(run: Run, name: str) -> Path:
    return Path(run.info.artifact_uri.removeprefix("file://")) / name


def test_a_run_records_config_code_packages_machine_and_data(project: Path, run: Run) -> None:
    config = json.loads(artifact(run, "lineage/config.json").read_text())
    assert config["optimizer"]["lr"] == 0.001
    assert run.data.params["optimizer.lr"] == "0.001"
    assert run.data.params["model.blocks.0.filters"] == "16"
    tags = run.data.tags
    assert tags["git.commit"] == run_in(project, "git", "rev-parse", "HEAD").stdout.strip()
    assert tags["seed"] == "0"
    assert tags["precision"] in {"bf16-mixed", "32-true"}
    assert int(tags["threads"]) >= 1
    assert tags["processor"]
    assert tags["mlflow.source.name"] == "reprise train experiment=mine name=mine"
    assert tags["version.torch"] == __import__("torch").__version__
    assert "torch==" in artifact(run, "lineage/packages.txt").read_text()
    assert tags["sha256.processed"] == store.digest(project / "data" / "processed" / "digits")
    assert len(tags["sha256.windows"]) == 64
    assert {one.dataset.name for one in run.inputs.dataset_inputs} == {"digits (processed)", "digits (windows)"}


def test_a_run_with_uncommitted_changes_records_the_patch_of_the_code_only(run: Run) -> None:
    assert run.data.tags["git.dirty"] == "true"
    patch = artifact(run, "lineage/uncommitted.patch").read_text()
    assert "conf/experiment/mine.yaml" in patch
    assert SECRET not in patch


def test_metrics_of_training_and_test_are_in_the_same_run(project: Path, run: Run) -> None:
    assert run.info.status == "FINISHED"
    assert {"train/loss", "val/accuracy", "test/accuracy", "test/f1_macro", "train/lr"} <= set(run.data.metrics)
    client = MlflowClient(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    assert [point.step for point in client.get_metric_history(run.info.run_id, "val/accuracy")] == [1, 2]
    assert artifact(run, "figures/curves.png").stat().st_size > 5000
    assert artifact(run, "figures/confusion_matrix.png").stat().st_size > 5000


def test_the_logged_model_predicts_from_raw_pixels_as_evaluate_does(project: Path, run: Run) -> None:
    mlflow.set_tracking_uri(f"sqlite:///{project / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model")
    (windows,) = (project / "mlruns" / "windows").iterdir()
    test = open_windows(windows, project / "data" / "processed" / "digits").test()
    import torch

    everything = torch.arange(len(test))
    predictions = model.predict(test.raw(everything)[0].numpy())
    assert predictions.shape == (len(test), 10)
    accuracy = (predictions.argmax(1) == test.gather(everything).targets.numpy()).mean()
    assert accuracy == pytest.approx(run.data.metrics["test/accuracy"], abs=1e-6)
    assert model.metadata.signature is not None
    assert np.allclose(predictions.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_run_has_the_status_killed(project: Path, number: signal.Signals, code: int) -> None:
    before = statuses(project)
    seed = f"seed={number.value}"  # different seeds, so that the second does not resume the first
    words = ["train", "experiment=digits_cnn", "tracking.log_model=false", "trainer.max_epochs=100000", seed]
    training = fork_server().start(*words, folder=project)
    while "epoch 3/" not in training.out.read_text():
        assert not training.has_ended(), training.output
        time.sleep(0.05)
    training.kill(number)
    assert training.wait() == code
    assert training.err.read_text().splitlines()[-1] == f"reprise: stopped by {number.name}"
    ((new, status),) = statuses(project).items() - before.items()
    assert status == "KILLED"
    assert len(event_log.read_history(project / "mlruns" / "runs" / new / event_log.FILE)["val/loss"]) >= 3
    assert (project / "mlruns" / "runs" / new / event_log.MARK).read_text() != "0"


def test_a_diverged_run_has_the_status_failed_and_a_reason(project: Path) -> None:
    before = statuses(project)
    done = run_in(project, "reprise", "train", "experiment=temperature_lstm", "optimizer.lr=1e30", "trainer.precision=float32")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("reprise: training diverged: ")
    ((_, status),) = statuses(project).items() - before.items()
    assert status == "FAILED"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A real MLflow server on loopback."""
    running = Server(tmp_path)
    running.start()
    yield running.address
    running.stop()


def test_a_shared_server_is_one_setting(project: Path, server: str) -> None:
    done = run_in(project, "reprise", "train", "experiment=digits_cnn", f"tracking.uri={server}")
    assert done.returncode == 0, done.stderr
    client = MlflowClient(server)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert len(client.get_metric_history(run.info.run_id, "val/accuracy")) == 2
    assert server not in json.dumps(run.data.params)
    run_dir = project / "mlruns" / "runs" / run.info.run_id
    assert load_weights(run_dir / "best.safetensors")
    assert "tracking" not in store.read_json(run_dir / "config.json")
    assert yaml.safe_load((project / "conf" / "tracking" / "local.yaml").read_text())["uri"] is None


@settings(max_examples=50)
@given(st.lists(st.text(min_size=1), min_size=2, max_size=5, unique=True))
def test_targets_of_any_name_have_metric_names_that_mlflow_accepts(targets: list[str]) -> None:
    suffixes = metric_suffixes(targets)
    assert len(set(suffixes)) == len(targets)
    for suffix in suffixes:
        _validate_metric_name(f"best/val/mae/{suffix}")
