"""A step whose batch is computed in parts takes the gradient of the whole batch."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn

from reprise.config import TrainerConfig, compose
from reprise.data.datasets import Batch
from reprise.data.loader import TrainLoader
from reprise.errors import UserError
from reprise.models.convnet import Block, ConvNet, Dense
from reprise.models.ensemble import Ensemble
from reprise.models.time_base import TimeBase
from reprise.tasks.classification import Classification
from reprise.tasks.forecasting import Forecasting
from reprise.tasks.task import Task
from reprise.training.accumulation import parts_of
from reprise.training.averaging import norm_inputs
from reprise.training.fit import preflight
from reprise.training.learner import Learner
from tests.config.conftest import ROOT, windows_for
from tests.training.conftest import CLASSES, CPU, SERIES, Trained, classify, images, trainer_config, windows

GAPS = SERIES.model_copy(update={"missing_targets": {"train": 6}})
LINEAR = {"_target_": "reprise.models.linear.DLinear", "kernel": 3}


@given(samples=st.integers(1, 40), per_rank=st.integers(1, 9), odd=st.integers(0, 3), world=st.integers(1, 4), data=st.data())
@settings(max_examples=60, deadline=None)
def test_every_sample_is_in_one_part_and_all_ranks_have_equally_many(
    samples: int, per_rank: int, odd: int, world: int, data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, per_rank))
    split, batch_size = images(samples, 1), per_rank * world + odd % world
    ranks = [TrainLoader(split, batch_size, 0, CPU, rank, world) for rank in range(world)]
    for batches in zip(*ranks, strict=True):
        parts = [parts_of(batch, count, batch_size // world) for batch in batches]
        for batch, own in zip(batches, parts, strict=True):
            assert torch.equal(torch.cat([part.inputs for part in own]), batch.inputs)
            assert torch.equal(torch.cat([part.targets for part in own]), batch.targets)
            sizes = [len(part.targets) for part in own]
            assert max(sizes) - min(sizes) <= 1
            assert min(sizes) >= min(2, batch_size // world // count, *(len(one.targets) for one in batches))
            assert max(sizes) <= math.ceil(math.ceil(batch_size / world) / count) + 1
        whole = sum(len(batch.targets) for batch in batches)
        assert len({len(own) for own in parts}) == 1
        assert len(parts[0]) == count or whole < batch_size
        for part in (part for own in parts for part in own):  # the mean over ranks is the mean over samples
            assert part.loss_weight / world == pytest.approx(len(part.targets) / whole)


def classifier() -> tuple[nn.Module, Task, Batch]:
    task = Classification(CLASSES, label_smoothing=0.1, class_weights=[0.5, 1.0, 3.0])
    return ConvNet([6, 6, 1], 3, [], [Dense(8, 0.0)]), task, images(17, 1).gather(torch.arange(17))


def forecaster(network: nn.Module) -> tuple[nn.Module, Task, Batch]:
    batch = windows(17, 1).gather(torch.arange(17))
    batch.targets[3:9, 0] = torch.nan
    return network, Forecasting(GAPS, loss="huber"), batch


class WeightPenalty(nn.Module):
    """A network with a penalty that does not depend on the samples."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(10, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.linear(inputs.flatten(1))
        return outputs

    def penalty(self) -> Tensor:
        return self.linear.weight.square().sum()


NETWORKS: dict[str, Callable[[], tuple[nn.Module, Task, Batch]]] = {
    "class weights": classifier,
    "penalty of the samples": lambda: forecaster(TimeBase([5, 2], 2, [1], season=2, basis=2, orthogonality=0.5)),
    "penalty of the weights": lambda: forecaster(WeightPenalty()),
    "separate losses": lambda: forecaster(Ensemble([5, 2], 2, [LINEAR, LINEAR], output_shape=[2, 1], target_positions=[1])),
}


def gradient(learner: Learner, batches: list[Batch]) -> list[Tensor]:
    learner.network.zero_grad()
    for number, batch in enumerate(batches):
        learner.training_step(batch, number).backward()  # type: ignore[no-untyped-call]
    return [weight.grad for weight in learner.network.parameters() if weight.grad is not None]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradients_of_the_parts_add_up_to_that_of_the_batch(name: str) -> None:
    torch.manual_seed(0)
    network, task, batch = NETWORKS[name]()
    learner = Learner(network, task, _unused, _unused, 0, _unused)
    batch = batch._replace(loss_weight=1.25)  # of a rank with more samples than others
    expected = [grad.clone() for grad in gradient(learner, [batch])]
    assert any(grad.abs().max() > 0.01 for grad in expected)
    for count in (2, 3, 5, 16):
        parts = gradient(learner, parts_of(batch, count, 16))
        for grad, whole in zip(parts, expected, strict=True):
            torch.testing.assert_close(grad, whole, rtol=1e-4, atol=1e-6)


class Sizes(pl.Callback):
    """Records the number of samples of each forward pass of a training."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        pl_module.network.register_forward_pre_hook(self.look)

    def look(self, network: nn.Module, inputs: tuple[Tensor]) -> None:
        if network.training:
            self.sizes.append(len(inputs[0]))


def trained(*callbacks: pl.Callback, **settings: Any) -> Trained:
    return classify(dropout=0.0, optimizer=torch.optim.SGD, lr=0.1, callbacks=callbacks, **settings)


def test_a_training_in_parts_ends_with_the_weights_of_one_in_whole_batches() -> None:
    sizes = Sizes()
    parts, whole = trained(sizes, accumulate=5), trained()
    assert sizes.sizes == [*[4, 3, 3, 3, 3] * 4, 3, 3] * 2  # 70 samples in batches of 16, two epochs
    for name, weight in whole.weights[-1].items():
        torch.testing.assert_close(parts.weights[-1][name], weight, rtol=1e-4, atol=1e-6)
    for mine, other in zip(parts.rows, whole.rows, strict=True):
        assert mine["train/lr"] == other["train/lr"]
        assert mine["train/loss"] == pytest.approx(other["train/loss"], rel=1e-5)
        assert mine["val/accuracy"] == other["val/accuracy"]


class Live:
    """Bytes that are saved for backward passes: now, and at most so far."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def saved(self, tensor: Tensor) -> "Held":
        return Held(self, tensor)


class Held:
    """A tensor that is saved for a backward pass, until it is freed."""

    def __init__(self, live: Live, tensor: Tensor) -> None:
        self.live, self.tensor = live, tensor
        live.now += tensor.nbytes
        live.most = max(live.most, live.now)

    def __del__(self) -> None:
        self.live.now -= self.tensor.nbytes


def most_saved(**settings: Any) -> int:
    live = Live()
    with torch.autograd.graph.saved_tensors_hooks(live.saved, lambda held: held.tensor):
        trained(max_epochs=1, **settings)
    assert live.now == 0
    return live.most


def test_activations_need_the_memory_of_one_part() -> None:
    weights = sum(weight.nbytes for weight in ConvNet([6, 6, 1], 3, [Block(4)], [Dense(8, 0.0)]).parameters())
    parts, whole = (most_saved(accumulate=count) - weights for count in (4, 1))
    assert whole / 5 < parts < whole / 3


class Scaled(pl.Callback):
    """Trains with a scaled loss, as fp16 does, which needs a GPU."""

    def __init__(self) -> None:
        self.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        plugin = MixedPrecision("bf16-mixed", "cpu")
        plugin.scaler = self.scaler
        trainer.strategy._precision_plugin = plugin


def test_a_scaled_loss_is_accumulated() -> None:
    scaled = Scaled()
    parts, whole = trained(scaled, accumulate=3, gradient_clip=0.5), trained(precision="bf16", gradient_clip=0.5)
    assert scaled.scaler.state_dict()["_growth_tracker"] == 10  # steps
    for name, weight in whole.weights[-1].items():
        torch.testing.assert_close(parts.weights[-1][name], weight, rtol=0.02, atol=0.002)


def test_accumulate_is_left_out_of_a_config_that_does_not_set_it() -> None:
    assert "accumulate" not in trainer_config().model_dump()
    assert trainer_config(accumulate=4).model_dump()["accumulate"] == 4
    with pytest.raises(ValueError, match="accumulate=9: a device has only 8 samples of batch_size=16"):
        TrainerConfig(**trainer_config().model_dump() | {"strategy": "ddp", "devices": 2, "accumulate": 9})


def test_a_model_in_closed_form_has_no_steps_to_divide() -> None:
    config = compose(ROOT, ["experiment=etth1_96_ridge", "trainer.accumulate=2"])
    with pytest.raises(UserError, match=r"^trainer.accumulate=2: \w+ is computed in closed form, without steps; omit it$"):
        preflight(config, windows_for(config))


def test_statistics_of_averaged_weights_come_from_batches_of_the_size_of_a_part() -> None:
    loader = TrainLoader(images(70, 1), 16, 0, CPU)
    assert [len(inputs) for inputs in norm_inputs(loader, 4)] == [4] * 17


def _unused(*_: Any, **__: Any) -> Any:
    raise AssertionError("a step alone makes no optimizer and records nothing")


def test_parts_of_one_sample_are_refused_with_batch_norm() -> None:
    words = ["experiment=digits_cnn", "trainer.batch_size=8", "model.blocks=[{filters: 4, batch_norm: true}]"]
    windows = windows_for(compose(ROOT, words))
    preflight(compose(ROOT, [*words, "trainer.accumulate=4"]), windows)
    with pytest.raises(UserError, match=r"^trainer.accumulate=5: batch norm .* parts of one sample; use at most 4$"):
        preflight(compose(ROOT, [*words, "trainer.accumulate=5"]), windows)
