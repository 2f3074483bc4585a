"""Running means of weights: their values, the statistics of batch norm, and what is validated and saved."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from reprise.config import compose
from reprise.data.loader import EvalLoader, TrainLoader
from reprise.errors import UserError
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.tasks.classification import Classification
from reprise.tracking.weights import load_weights
from reprise.training import averaging, schedules
from reprise.training.averaging import AveragedWeights, norm_inputs, recompute_norms
from reprise.training.best_weights import BestWeights
from reprise.training.fit import preflight
from reprise.training.learner import Learner
from reprise.training.trainer import make_trainer
from tests.config.conftest import ROOT, windows_for
from tests.training.conftest import CLASSES, CPU, compute_metrics, images, of_parameters, trainer_config

EPOCHS, STEPS = 4, 5
"""70 samples in batches of 16."""


def small_network() -> ConvNet:
    torch.manual_seed(0)
    return ConvNet([6, 6, 1], 3, [Block(4, batch_norm=True)], [Dense(8, 0.3)])


def mean_of(kind: str, weights: list[float], **settings: float) -> list[float]:
    """Return the mean after each update of a network of one weight."""
    network = nn.Linear(1, 1, bias=False)
    average = AveragedWeights(trainer_config(average=kind, **settings))
    average.collect(network)
    means = []
    for weight in weights:
        nn.init.constant_(network.weight, weight)
        average.update()
        means.append(float(average.mean["weight"]))
    return means


def test_an_exponential_mean_forgets_by_its_decay_and_faster_in_the_first_steps() -> None:
    assert mean_of("ema", [1.0, 3.0, 5.0], average_decay=0.5) == pytest.approx(
        [1.0, 2 / 11 * 1 + 9 / 11 * 3, 3 / 12 * (2 / 11 + 27 / 11) + 9 / 12 * 5]
    )
    assert mean_of("ema", [0.0] * 1000 + [1.0], average_decay=0.9)[-1] == pytest.approx(0.1)


def test_swa_is_the_arithmetic_mean() -> None:
    assert mean_of("swa", [1.0, 3.0, 8.0]) == pytest.approx([1.0, 2.0, 4.0])


class Recorded(pl.Callback):
    """Keeps the weights of the network after each step, and during and after each validation."""

    def __init__(self) -> None:
        self.after_steps: list[dict[str, Tensor]] = []
        self.validated: list[dict[str, Tensor]] = []
        self.after_validation: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        self.after_steps.append(_copied(pl_module.network))

    def on_validation_batch_start(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if len(self.validated) == trainer.current_epoch:
            self.validated.append(_copied(pl_module.network))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.after_validation.append(_copied(pl_module.network))


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def train(folder: Path, **settings: Any) -> tuple[Recorded, dict[str, Tensor], list[dict[str, float]]]:
    """Return the recorded weights, the saved ones and the metrics of a training."""
    config = trainer_config(max_epochs=EPOCHS, **settings)
    network, task, recorded, rows = small_network(), Classification(CLASSES), Recorded(), list[dict[str, float]]()
    best = BestWeights(folder / "best.safetensors", task.monitor, task.mode)
    average = [AveragedWeights(config)] if config.average else []
    trainer = make_trainer(config, task, [best, *average, recorded])
    optimizer = partial(of_parameters, torch.optim.SGD, lr=0.01)
    learner = Learner(network, task, optimizer, schedules.constant, 0, lambda row, _: rows.append(row))
    trainer.fit(learner, TrainLoader(images(70, 1), 16, 0, CPU), EvalLoader(images(45, 2), 7, CPU))
    return recorded, load_weights(best.file), rows


def test_swa_validates_and_saves_the_mean_and_trains_on_from_the_last_step(tmp_path: Path) -> None:
    recorded, saved, rows = train(tmp_path, average="swa", average_start=0.25)
    plain, _, plain_rows = train(tmp_path / "plain")
    for one, other in zip(recorded.after_steps, plain.after_steps, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)  # the mean changes nothing of the training
    ends = plain.after_steps[STEPS - 1 :: STEPS]
    assert all(torch.equal(recorded.validated[0][name], ends[0][name]) for name in saved)  # before the start: the weights
    assert rows[0]["val/loss"] == plain_rows[0]["val/loss"]
    names = dict(small_network().named_parameters())
    for epoch in range(1, EPOCHS):
        for name in names:
            mean = torch.stack([end[name] for end in ends[1 : epoch + 1]]).mean(0)
            torch.testing.assert_close(recorded.validated[epoch][name], mean)
        assert all(torch.equal(recorded.after_validation[epoch][name], ends[epoch][name]) for name in saved)
    best = max(range(EPOCHS), key=lambda epoch: (rows[epoch]["val/accuracy"], -rows[epoch]["val/loss"]))
    assert best > 0
    assert all(torch.equal(saved[name], recorded.validated[best][name]) for name in saved)
    network = small_network().eval()
    network.load_state_dict(saved)
    val = images(45, 2).gather(torch.arange(45))
    with torch.no_grad():
        loss = compute_metrics(
            Classification(CLASSES), Classification(CLASSES).decode(network(val.inputs), val.inputs), val.targets
        )
    assert loss["loss"] == pytest.approx(rows[best]["val/loss"])


def test_statistics_of_batch_norm_are_those_of_pytorch_s_update_bn() -> None:
    network = small_network()
    network.head.dropout1 = nn.Identity()  # update_bn draws random numbers for dropout
    expected, loader = copy.deepcopy(network), TrainLoader(images(64, 1), 16, 0, CPU, epoch=3)
    update_bn(loader, expected)
    before = torch.get_rng_state()
    recompute_norms(network.eval(), norm_inputs(loader), torch.no_grad())
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in network.modules())
    assert network.features.norm1.momentum == 0.1
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name]), name


def test_frozen_batch_norm_keeps_its_statistics() -> None:
    network = small_network().eval()
    for parameter in network.features.norm1.parameters():
        parameter.requires_grad_(False)
    before = _copied(network)
    recompute_norms(network, norm_inputs(TrainLoader(images(64, 1), 16, 0, CPU)), torch.no_grad())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("samples", "batch_size", "world", "limit", "sizes"),
    [
        (70, 16, 1, 8192, [16] * 4),
        (70, 16, 2, 8192, [8] * 8),
        (70, 16, 1, 40, [16] * 2),
        (9, 16, 1, 8192, [9]),
        (70, 16, 1, 1, [16]),
    ],
)
def test_statistics_come_from_full_batches_of_a_limited_number_of_samples(
    monkeypatch: pytest.MonkeyPatch, samples: int, batch_size: int, world: int, limit: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(averaging, "NORM_SAMPLES", limit)
    by_rank = [[*norm_inputs(TrainLoader(images(samples, 1), batch_size, 0, CPU, rank, world))] for rank in range(world)]
    assert [len(batch) for batch in by_rank[0]] == sizes
    for other in by_rank[1:]:
        assert all(torch.equal(one, two) for one, two in zip(by_rank[0], other, strict=True))


def test_settings_of_a_mean_are_stated_in_the_resolved_config() -> None:
    def trainer(*overrides: str) -> dict[str, Any]:
        dumped = compose(ROOT, ["experiment=digits_cnn", *overrides]).trainer.model_dump()
        return {name: value for name, value in dumped.items() if "average" in name}

    assert trainer() == {}  # a config without a mean has the hash it had before
    assert trainer("trainer.average=ema") == {"average": "ema", "average_decay": 0.999, "average_start": 0.0}
    assert trainer("trainer.average=swa", "trainer.average_start=0.5") == {"average": "swa", "average_start": 0.5}


def test_a_model_in_closed_form_has_no_steps_to_average() -> None:
    config = compose(ROOT, ["experiment=etth1_96_ridge", "trainer.average=ema"])
    with pytest.raises(UserError, match=r"^trainer.average=ema: \w+ is computed in closed form, without steps; omit it$"):
        preflight(config, windows_for(config))
