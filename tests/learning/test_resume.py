"""A training resumed from any of its checkpoints ends with the bits it would have had."""

import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from reprise.config import CheckpointConfig
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.errors import Stopped, UserError
from reprise.learning import checkpoint, schedules
from reprise.learning.checkpoint import BestWeights, Checkpoints, load_weights
from reprise.learning.learner import SPEED, Learner
from reprise.learning.tasks import Classification, Forecasting
from reprise.learning.trainer import make_trainer
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.recurrent import Recurrent
from tests.learning.conftest import CLASSES, CPU, SERIES, images, trainer_config, windows

EPOCHS = 3
STEPS = 5
"""Of an epoch: 70 samples in batches of 16."""


class Outcome:
    def __init__(
        self, weights: dict[str, Tensor], best: dict[str, Tensor], rows: dict[int, dict[str, float]], epochs: int
    ) -> None:
        self.weights, self.best, self.rows, self.epochs = weights, best, rows, epochs


def train(
    kind: str, folder: Path, resume: Path | None = None, steps: int = 1, also: Sequence[pl.Callback] = (), **settings: Any
) -> Outcome:
    """A small network with dropout, batch norm and a schedule, a checkpoint after every so many steps."""
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
    saver = Checkpoints(folder / "checkpoints", CheckpointConfig(steps=steps, minutes=None), lambda: None)
    trainer.callbacks += [best, saver, *also]  # type: ignore[attr-defined]
    rows: dict[int, dict[str, float]] = {}

    def record(metrics: dict[str, float], step: int) -> None:
        rows[step] = {key: value for key, value in metrics.items() if key not in SPEED}

    optimizer = partial(torch.optim.Adam, lr=0.01)
    learner = Learner(network, task, optimizer, schedules.cosine, 0, record)
    loaders = TrainLoader(train_split, config.batch_size, 0, CPU), EvalLoader(val_split, config.eval_batch_size, CPU)
    with saver.deferring_signals():
        trainer.fit(learner, *loaders, ckpt_path=resume, weights_only=True)
    return Outcome(network.state_dict(), load_weights(folder / "best.safetensors"), rows, trainer.current_epoch)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(autouse=True)
def every_checkpoint_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "KEPT", 1000)


@pytest.mark.parametrize("kind", ["images", "series"])
def test_a_training_resumed_from_any_step_ends_with_the_same_bits(tmp_path: Path, kind: str) -> None:
    undisturbed = train(kind, tmp_path)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert [int(file.stem) for file in files] == list(range(1, EPOCHS * STEPS + 1))
    for file in files:
        resumed = train(kind, tmp_path, file)
        assert same(resumed.weights, undisturbed.weights), file.name
        assert same(resumed.best, undisturbed.best), file.name
        assert resumed.epochs == EPOCHS
        done = int(file.stem) // STEPS
        assert resumed.rows == {step: row for step, row in undisturbed.rows.items() if step > done}, file.name


def test_a_training_that_was_to_stop_early_does_so_when_it_is_resumed(tmp_path: Path) -> None:
    """Patience 1 and a learning rate that ruins the network: it stops before its last epoch, and is resumed at that very end."""
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
def test_a_signal_at_any_place_waits_for_a_checkpoint(tmp_path: Path, number: signal.Signals, when: str, steps: int) -> None:
    """In the second step of the second epoch; in the validation after the first, of which batches are left; at its end."""
    undisturbed = train("images", tmp_path)
    folder = tmp_path / "stopped"

    sent: list[int] = []

    def send(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == min(steps, 6) and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    hearer = pl.Callback()
    setattr(hearer, when, send)
    with pytest.raises(Stopped):
        train("images", folder, steps=1000, also=[hearer], eval_batch_size=16)
    file = max((folder / "checkpoints").glob("*.pt"))
    assert int(file.stem) == steps
    assert same(train("images", folder, file).weights, undisturbed.weights)


def test_a_checkpoint_holds_plain_containers_and_tensors_alone(tmp_path: Path) -> None:
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


def test_a_checkpoint_without_running_metrics_is_refused_and_not_resumed_from_silently(tmp_path: Path) -> None:
    """As one of a version that kept predictions is, and one of a task with other metrics."""
    train("images", tmp_path)
    file = max((tmp_path / "checkpoints").glob("*.pt"))
    content = torch.load(file, weights_only=True)
    del content["ranks"][0]["metrics"]["loss.limbs"]
    checkpoint.AtomicIO().save_checkpoint(content, file)
    with pytest.raises(UserError, match=r"^the checkpoint holds no running metrics of this task; start anew with fresh=true$"):
        train("images", tmp_path, file)
    del content["ranks"][0]["metrics"]
    checkpoint.AtomicIO().save_checkpoint(content, file)
    with pytest.raises(UserError, match=r"^the checkpoint holds no running metrics"):
        train("images", tmp_path, file)


def test_a_checkpoint_in_mid_epoch_does_not_grow_with_the_predictions(tmp_path: Path) -> None:
    """Of 1,000 classes and many samples, it would be gigabytes: it holds counts and sums."""
    train("images", tmp_path)
    files = sorted((tmp_path / "checkpoints").glob("*.pt"))
    states = [torch.load(file, weights_only=True)["ranks"][0]["metrics"] for file in files[:4]]
    assert [int(state["count"]) for state in states] == [16, 32, 48, 64]
    assert {sum(tensor.numel() for tensor in state.values()) for state in states} == {sum(map(torch.numel, states[0].values()))}
