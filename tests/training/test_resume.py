"""A training resumed from any of its checkpoints ends with the bits of an undisturbed one."""

import errno
import math
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import safetensors.torch
import torch
from torch import Tensor

from reprise.config import CheckpointConfig
from reprise.data import store
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.errors import Stopped, UserError
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.recurrent import Recurrent
from reprise.tasks import metric_names
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tracking.weights import load_weights, save_weights
from reprise.training import checkpoint, schedules
from reprise.training.averaging import AveragedWeights
from reprise.training.best_weights import BestWeights
from reprise.training.checkpoint import Checkpoints
from reprise.training.learner import Learner
from reprise.training.trainer import make_trainer
from tests.training.conftest import CLASSES, CPU, SERIES, images, of_parameters, trainer_config, windows

EPOCHS = 3
STEPS = 5
"""Steps per epoch: 70 samples in batches of 16."""


class Outcome:
    def __init__(
        self, weights: dict[str, Tensor], best: dict[str, Tensor], rows: dict[int, dict[str, float]], epochs: int
    ) -> None:
        self.weights, self.best, self.rows, self.epochs = weights, best, rows, epochs


def train(
    kind: str,
    folder: Path,
    resume: Path | None = None,
    steps: int = 1,
    also: Sequence[pl.Callback] = (),
    grace: float = 25.0,
    **settings: Any,
) -> Outcome:
    """Train a small network with dropout, batch norm and a schedule, with a checkpoint every `steps` steps."""
    torch.manual_seed(0)
    task: Classification | Forecasting
    if kind == "images":
        network: torch.nn.Module = ConvNet([6, 6, 1], 3, [Block(4, batch_norm=True)], [Dense(8, 0.3)])
        task, train_split, val_split = Classification(CLASSES), images(70, 1), images(45, 2)
    else:
        network, task = Recurrent([5, 2], 2, hidden=6), Forecasting(SERIES)
        train_split, val_split = windows(70, 1), windows(45, 2)  # type: ignore[assignment]
    config = trainer_config(max_epochs=EPOCHS, **settings)
    trainer = make_trainer(config, task)
    best = BestWeights(folder / "best.safetensors", task.monitor, task.mode)
    saver = Checkpoints(folder / "checkpoints", CheckpointConfig(steps=steps, minutes=None, grace=grace), lambda: None, best.file)
    average = [AveragedWeights(config)] if config.average else []
    trainer.callbacks += [best, *average, saver, *also]  # type: ignore[attr-defined]
    rows: dict[int, dict[str, float]] = {}

    def record(metrics: dict[str, float], step: int) -> None:
        rows[step] = {key: value for key, value in metrics.items() if key not in metric_names.SPEED}

    optimizer = partial(of_parameters, torch.optim.Adam, lr=0.01)
    learner = Learner(network, task, optimizer, schedules.cosine, 0, record)
    loaders = TrainLoader(train_split, config.batch_size, 0, CPU), EvalLoader(val_split, config.eval_batch_size, CPU)
    with saver.deferring_signals():
        trainer.fit(learner, *loaders, ckpt_path=resume, weights_only=True)
    return Outcome(network.state_dict(), load_weights(folder / "best.safetensors"), rows, trainer.current_epoch)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def keep_every_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINTS", 1000)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("images", {}),
        ("series", {}),
        ("images", {"average": "ema"}),
        ("images", {"accumulate": 3}),
        pytest.param("images", {"average": "swa", "average_start": 0.3}, marks=pytest.mark.long),
    ],
    ids=["images", "series", "ema", "accumulate", "swa"],
)
def test_a_training_resumed_from_any_step_ends_with_the_same_bits(tmp_path: Path, kind: str, settings: dict[str, Any]) -> None:
    undisturbed = train(kind, tmp_path, **settings)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert [int(file.stem) for file in files] == list(range(1, EPOCHS * STEPS + 1))
    for file in files[1::3] if settings else files:  # of these, one at an end of an epoch and four within
        resumed = train(kind, tmp_path, file, **settings)
        assert same(resumed.weights, undisturbed.weights), file.name
        assert same(resumed.best, undisturbed.best), file.name
        assert resumed.epochs == EPOCHS
        done = int(file.stem) // STEPS
        assert resumed.rows == {step: row for step, row in undisturbed.rows.items() if step > done}, file.name


def test_early_stopping_also_happens_after_a_resume(tmp_path: Path) -> None:
    """With patience 1, training stops before its last epoch; it is resumed from the last checkpoints before that."""
    undisturbed = train("images", tmp_path, patience=1)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    for file in files[-2:]:
        resumed = train("images", tmp_path, file, patience=1)
        assert resumed.epochs == undisturbed.epochs
        assert same(resumed.best, undisturbed.best)


@pytest.mark.parametrize(
    ("when", "steps"), [("on_train_batch_start", 7), ("on_validation_batch_start", 5), ("on_validation_end", 5)]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_any_point_leads_to_a_checkpoint(tmp_path: Path, number: signal.Signals, when: str, steps: int) -> None:
    """In the second step of the second epoch, within the validation after the first epoch, and at its end."""
    undisturbed = train("images", tmp_path)
    folder = tmp_path / "stopped"

    sent: list[int] = []

    def send(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == min(steps, 6) and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    callback = pl.Callback()
    setattr(callback, when, send)
    with pytest.raises(Stopped):
        train("images", folder, steps=1000, also=[callback], eval_batch_size=16)
    file = max((folder / "checkpoints").glob("*.pt"))
    assert int(file.stem) == steps
    assert same(train("images", folder, file).weights, undisturbed.weights)


def test_a_checkpoint_holds_plain_containers_and_tensors_only(tmp_path: Path) -> None:
    train("images", tmp_path)
    file = max((tmp_path / "checkpoints").glob("*.pt"))
    loaded = torch.load(file, weights_only=True)
    plain = (dict, list, tuple, int, float, str, bool, type(None), Tensor)

    def look(value: Any, path: str) -> None:
        assert isinstance(value, plain), f"{path} is a {type(value)}"
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        for key, child in children:
            look(child, f"{path}.{key}")

    look(loaded, "checkpoint")


def test_a_checkpoint_without_running_metrics_is_refused(tmp_path: Path) -> None:
    """Such checkpoints come from an older version, or from a task with other metrics."""
    train("images", tmp_path)
    file = max((tmp_path / "checkpoints").glob("*.pt"))
    content = torch.load(file, weights_only=True)
    del content["ranks"][0]["metrics"]["loss.limbs"]
    checkpoint.AtomicIO().save_checkpoint(content, file)
    with pytest.raises(
        UserError, match=r"^the checkpoint holds no running metrics of this task; start a new run with resume=false$"
    ):
        train("images", tmp_path, file)
    del content["ranks"][0]["metrics"]
    checkpoint.AtomicIO().save_checkpoint(content, file)
    with pytest.raises(UserError, match=r"^the checkpoint holds no running metrics"):
        train("images", tmp_path, file)


def test_a_checkpoint_within_an_epoch_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """It contains counts and sums. The predictions of many samples and 1,000 classes would be gigabytes."""
    train("images", tmp_path)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    states = [torch.load(file, weights_only=True)["ranks"][0]["metrics"] for file in files[:4]]
    assert [int(state["count"]) for state in states] == [16, 32, 48, 64]
    assert {sum(tensor.numel() for tensor in state.values()) for state in states} == {sum(map(torch.numel, states[0].values()))}


@pytest.mark.parametrize("hard_links", [True, False])
def test_the_best_weights_are_those_of_the_resumed_training_not_of_the_killed_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    """Without deterministic algorithms, epochs that are trained again need not be as good as they were the first time."""
    if not hard_links:
        monkeypatch.setattr("os.link", _no_links)
    train("images", tmp_path)
    checkpoints = {int(file.stem): file for file in (tmp_path / "checkpoints").glob("*.pt")}
    best_file, after_first = tmp_path / "best.safetensors", tmp_path / "checkpoints" / f"{2 * STEPS - 1:010}.best"
    of_first_epoch = load_weights_of(after_first)
    train("images", tmp_path / "killed", also=[Changed()])  # what the killed process saved after its checkpoint
    for file in (best_file, best_file.with_suffix(".sha256")):
        file.write_bytes((tmp_path / "killed" / file.name).read_bytes())
    assert not same(load_weights(best_file), of_first_epoch)
    ruined = train("images", tmp_path, checkpoints[2 * STEPS - 1], also=[Ruined()])
    assert same(ruined.best, of_first_epoch)
    assert best_file.with_suffix(".sha256").read_text().split()[0] == store.sha256(best_file)


def test_damaged_best_weights_of_a_checkpoint_are_reported(tmp_path: Path) -> None:
    train("images", tmp_path)
    step = 2 * STEPS
    kept = tmp_path / "checkpoints" / f"{step:010}.best"
    kept.unlink()
    save_weights(tmp_path / "best.safetensors", {"other": torch.zeros(1)})
    with pytest.raises(
        UserError, match=rf"{kept.name}: the best weights of this checkpoint are missing or damaged; start a new run"
    ):
        train("images", tmp_path, tmp_path / "checkpoints" / f"{step:010}.pt")


def test_there_are_no_best_weights_before_the_end_of_the_first_epoch(tmp_path: Path) -> None:
    train("images", tmp_path)
    with pytest.raises(UserError, match="diverged"):
        train("images", tmp_path, tmp_path / "checkpoints" / f"{STEPS - 1:010}.pt", also=[Ruined(math.nan)])
    assert not (tmp_path / "best.safetensors").exists()


def test_deleting_a_checkpoint_deletes_its_best_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "MAX_CHECKPOINTS", 2)
    train("images", tmp_path)
    names = sorted(file.name for file in (tmp_path / "checkpoints").iterdir())
    assert names == [f"{step:010}{suffix}" for step in (14, 15) for suffix in (".best", ".pt", ".sha256")]


def test_a_stopped_training_ends_after_the_grace_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that does not end: after `checkpoint.grace` seconds the training ends without it."""

    def hang(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        while True:
            time.sleep(1)

    callback = pl.Callback()
    callback.on_train_batch_start = hang  # type: ignore[method-assign]
    began = time.monotonic()
    with pytest.raises(Stopped):
        train("images", tmp_path, also=[callback], grace=0.3)
    assert 0.3 < time.monotonic() - began < CheckpointConfig(steps=None, minutes=None).grace


@pytest.mark.parametrize(("seconds", "expected"), [(1e-5, [1, 2, 18, 34]), (0.25, [1, *range(2, 41, 4)]), (5.0, [*range(1, 41)])])
def test_ranks_agree_to_stop_about_once_per_second(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seconds: float, expected: list[int]
) -> None:
    """A signal then takes effect within about a second, or one step."""
    now, checks = [0.0], []
    monkeypatch.setattr("torch.distributed.all_reduce", lambda *_, **__: None)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    saver = Checkpoints(tmp_path, CheckpointConfig(steps=None, minutes=None), lambda: None, tmp_path / "best.safetensors")
    agree = saver._any_rank
    monkeypatch.setattr(saver, "_any_rank", lambda trainer, *flags: checks.append(trainer.global_step) or agree(trainer, *flags))
    for step in range(1, 41):
        now[0] += seconds
        trainer = SimpleNamespace(global_step=step, world_size=2, is_last_batch=False, strategy=SimpleNamespace(root_device=CPU))
        saver.on_train_batch_end(trainer)  # type: ignore[arg-type]
    assert checks == expected


def _no_links(*_: Any) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def load_weights_of(kept: Path) -> dict[str, Tensor]:
    return safetensors.torch.load_file(kept)


class Changed(pl.Callback):
    """Adds to the weights after each step, so that other weights are the best."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        with torch.no_grad():
            for weight in pl_module.network.parameters():  # type: ignore[union-attr, operator]
                weight += 1e-3


class Ruined(pl.Callback):
    """Sets the weights to one value after each step, so that no later epoch is better."""

    def __init__(self, value: float = 0.0) -> None:
        self.value = value

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        with torch.no_grad():
            for weight in pl_module.network.parameters():  # type: ignore[union-attr, operator]
                weight.fill_(self.value)
