"""The Trainer: precision, refused settings, exit codes of processes, and that it writes no files itself."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from reprise.config import CheckpointConfig, compose
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.stages.run_key import run_key
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.training.devices import threads
from reprise.training.trainer import _exit_as, make_trainer, relaunch
from tests.training.conftest import CLASSES, SERIES, classify, trainer_config

ROOT = Path(__file__).resolve().parents[2]
TASK = Classification(CLASSES)
CHECKPOINTS = CheckpointConfig(steps=None, minutes=None)
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


@without_gpu
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"accelerator": "gpu"}, "trainer.devices=1: this machine has 0 GPUs; use trainer=cpu or trainer=ddp_cpu"),
        ({"precision": "fp16"}, "trainer.precision=fp16 needs a GPU; use bf16 or float32"),
        ({"precision": "tf32"}, "trainer.precision=tf32 needs a GPU; use bf16 or float32"),
    ],
)
def test_missing_devices_are_reported(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as refused:
        make_trainer(trainer_config(**settings), TASK)
    assert str(refused.value) == message


def test_several_nodes_are_started_by_the_user() -> None:
    with pytest.raises(UserError, match=r"^trainer.num_nodes=2: each node starts its own processes; on each, run `torchrun"):
        relaunch(trainer_config(strategy="ddp", num_nodes=2), CHECKPOINTS)


@without_gpu
def test_no_processes_are_started_for_missing_devices() -> None:
    with pytest.raises(UserError, match=r"^trainer.devices=2: this machine has 0 GPUs"):
        relaunch(trainer_config(accelerator="gpu", strategy="ddp", devices=2), CHECKPOINTS)


def test_threads_are_divided_among_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reprise.cpus.available", lambda *_: 8)
    assert threads(trainer_config(threads=None)) == 8
    assert threads(trainer_config(threads=None, devices=3, strategy="ddp")) == 2
    assert threads(trainer_config(threads=None, devices=16, strategy="ddp", batch_size=64)) == 1
    assert threads(trainer_config(threads=5)) == 5


def test_precision_reaches_lightning() -> None:
    assert make_trainer(trainer_config(precision="bf16"), TASK).precision == "bf16-mixed"
    assert make_trainer(trainer_config(precision="auto"), Forecasting(SERIES)).precision == "32-true"


def test_training_writes_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No lightning_logs and no checkpoints: the train stage writes its own."""
    monkeypatch.chdir(tmp_path)
    classify()
    assert list(tmp_path.iterdir()) == []


RELAUNCH = """
import sys
from reprise.config import CheckpointConfig
from reprise.training.trainer import relaunch
from tests.training.conftest import trainer_config
sys.argv = ["reprise", "compose", "experiment=digts_cnn"]
relaunch(trainer_config(strategy="ddp", devices=2), CheckpointConfig(steps=None, minutes=None))
"""


def test_an_error_of_several_processes_is_reported_once(tmp_path: Path) -> None:
    """Both fail without printing anything, the parent raises the error of one, and the temporary folder is empty afterwards."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", RELAUNCH], cwd=ROOT, env=environment, capture_output=True, text=True)
    message = "experiment=digts_cnn: no conf/experiment/digts_cnn.yaml; the nearest is digits_cnn"
    assert done.stderr.splitlines()[-1] == f"reprise.errors.UserError: {message}"
    assert (done.stdout + done.stderr).count(message) == 1
    assert list(tmp_path.iterdir()) == []


USER_ERROR, CRASHED, STOPPED, KILLED, LOST = 2, 1, -signal.SIGTERM, -signal.SIGKILL, 1
"""Exit codes of a process: a user error, a bug, stopped by the agent, killed, connection lost."""


@pytest.mark.parametrize(
    ("exit_codes", "kind", "outcome"),
    [
        ([USER_ERROR, USER_ERROR], UserError, "training diverged"),
        ([STOPPED, USER_ERROR], UserError, "training diverged"),
        ([LOST, USER_ERROR], UserError, "training diverged"),
        ([LOST, KILLED], UserError, "process 1 was killed by SIGKILL; is there memory enough?"),
        ([STOPPED, CRASHED], SystemExit, "1"),
        ([STOPPED, 3], SystemExit, "3"),
    ],
)
def test_a_group_ends_with_the_error_of_the_process_that_failed_by_itself(
    exit_codes: list[int], kind: type[BaseException], outcome: str, tmp_path: Path
) -> None:
    report = tmp_path / "error.json"
    report.write_text('{"message": "training diverged", "timestamp": 1}')
    failures = {
        rank: ProcessFailure(rank, 100 + rank, code, str(report) if code == USER_ERROR else "")
        for rank, code in enumerate(exit_codes)
    }
    with pytest.raises(kind) as ended:
        _exit_as(ChildFailedError("reprise", failures))
    assert str(ended.value) == outcome


def test_the_number_of_available_cpus_is_part_of_the_resume_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread counts change bits, so a training does not resume in a container with other limits."""
    config = compose(ROOT, ["experiment=digits_cnn"])
    monkeypatch.setattr("reprise.data.store.digest", lambda folder: str(folder))
    windows = Windows(Path("windows"), Path("arrays"), {})

    def scope(available: int, threads: int | None = None) -> str:
        monkeypatch.setattr("reprise.cpus.available", lambda *_: available)
        return run_key(config.model_copy(update={"trainer": config.trainer.model_copy(update={"threads": threads})}), windows)

    assert scope(2) == scope(2) != scope(3)
    assert scope(2, threads=2) == scope(3, threads=2)
