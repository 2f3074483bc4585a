"""A stack of seeds: each member is trained as if it were alone, but for rounding."""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from reprise.config import Config, compose
from reprise.data import store
from reprise.data.datasets import Batch
from reprise.data.loader import TrainLoader
from reprise.data.windows import Windows
from reprise.errors import UserError
from reprise.tasks.build import build_network, build_task
from reprise.tasks.task import Task
from reprise.tracking.run import recorded_config
from reprise.tracking.weights import load_weights
from reprise.training import stacked_fit
from reprise.training.fit import CHECKPOINTS, Fitted, Training
from reprise.training.optimizers import make_optimizer
from reprise.training.stack import Stack, StackedLoader, StackedTask
from reprise.training.stacked_fit import StackedTraining, check_stackable, stacks
from tests.pipeline.conftest import ROOT
from tests.training.conftest import CLASSES, SERIES, images, windows

SMALL = ["trainer.max_epochs=2", "trainer.batch_size=16", "trainer.threads=1", "trainer.precision=float32", "trainer.stacked=2"]
ON_IMAGES = ["experiment=digits_cnn", *SMALL]
ON_SERIES = ["experiment=temperature_lstm", "optimizer.lr=0.003", *SMALL]
CNN = ["model.blocks=[{filters: 4}]", "model.dense=[{units: 8}]", "augment.shift=1"]
BATCH_NORM = ["model.blocks=[{filters: 4, batch_norm: true}]", "model.dense=[]"]
DECAY = ["optimizer=adamw", "optimizer.weight_decay=0.3", "optimizer.no_weight_decay=[bias,norm]"]
NETWORKS: dict[str, tuple[list[str], float]] = {
    "nlinear": ([*ON_SERIES, "model=nlinear", "task.predict_delta=false"], 1e-6),
    "lstm": ([*ON_SERIES, "model.hidden=6"], 1e-6),
    "quantiles": ([*ON_SERIES, "model.hidden=6", "task.quantiles=[0.1,0.5,0.9]"], 1e-6),
    "gru": ([*ON_SERIES, "model=gru", "model.hidden=6", "model.layers=2", "trainer.accumulate=2"], 1e-6),
    "cnn": ([*ON_IMAGES, *CNN], 1e-4),
    "batch norm": ([*ON_IMAGES, *BATCH_NORM, *DECAY], 1e-4),
}
"""Overrides, and the relative tolerance of losses after ten steps: Adam divides small gradients by their own size, so that the
rounding of convolutions grows."""


def data_of(config: Config) -> Windows:
    """Return 70 samples for training and 45 for validation."""
    split, meta = (images, CLASSES) if config.data.kind == "images" else (windows, SERIES)
    return cast(Windows, SimpleNamespace(meta=meta, learning=lambda: (split(70, 1), split(45, 2))))


def train(config: Config, folder: Path, checkpoint: Path | None = None) -> list[Fitted]:
    """Train the only stack of a config."""
    [members] = stacks(config)
    folders = [folder / str(member.seed) for member in members]
    return StackedTraining(members, data_of(config)).fit(folders, checkpoint)


def train_alone(config: Config, seed: int, folder: Path) -> Fitted:
    trainer = config.trainer.model_copy(update={"stacked": None})
    return Training(config.model_copy(update={"seed": seed, "trainer": trainer}), data_of(config)).fit(folder)


@pytest.mark.parametrize(("overrides", "tolerance"), NETWORKS.values(), ids=NETWORKS)
def test_a_member_of_a_stack_is_trained_as_if_it_were_alone(overrides: list[str], tolerance: float, tmp_path: Path) -> None:
    config = compose(ROOT, [*overrides, "seeds=[3,5]"])
    check_stackable(config, data_of(config))
    for seed, member in zip((3, 5), train(config, tmp_path / "stack"), strict=True):
        alone = train_alone(config, seed, tmp_path / str(seed))
        weights, expected = load_weights(member.weights), load_weights(alone.weights)
        assert {name: weight.shape for name, weight in weights.items()} == {name: one.shape for name, one in expected.items()}
        assert member.fingerprints[0] == alone.fingerprints[0]
        assert [row.keys() for row in member.history] == [row.keys() for row in alone.history]
        for row, other in zip(member.history, alone.history, strict=True):
            for name in ("train/loss", "val/loss", "train/lr"):
                assert row[name] == pytest.approx(other[name], rel=tolerance), name
            assert row["train/samples_per_second"] * row["train/seconds"] == pytest.approx(2 * 70)  # those of both members
        same = ("best_epoch", "epochs", "parameters")
        assert [getattr(member, name) for name in same] == [getattr(alone, name) for name in same]
        if tolerance < 1e-5:
            assert all(torch.allclose(weights[name], expected[name], rtol=1e-3, atol=1e-5) for name in expected)


DEEP = {"inception_time": ON_SERIES, "resnet1d": ON_SERIES, "resnet": ON_IMAGES}


@pytest.mark.parametrize("model", DEEP)
def test_members_of_a_deep_stack_differ_from_networks_alone_by_rounding_only(model: str) -> None:
    """In float64, so that five steps of Adam do not enlarge the rounding beyond the tolerance."""
    config = compose(ROOT, [*DEEP[model], f"model={model}"])
    data = data_of(config)
    task, (split, _) = build_task(config, data.meta), data.learning()
    networks = [build_network(config.model_copy(update={"seed": seed}), data.meta, task).double() for seed in (3, 5)]
    loaders = [TrainLoader(split, 16, seed, torch.device("cpu")) for seed in (3, 5)]
    stack = Stack(networks)
    take_steps(config, stack, StackedTask(task, 2), StackedLoader(loaders))
    for member, network, loader in zip(stack.states(), networks, loaders, strict=True):
        take_steps(config, network, task, loader)
        for name, expected in network.state_dict().items():
            assert torch.allclose(member[name], expected, rtol=1e-8, atol=1e-8), name


def take_steps(config: Config, network: nn.Module, task: Task | StackedTask, batches: Iterable[Batch]) -> None:
    """Train a network, or a stack, in float64 for an epoch."""
    optimizer = make_optimizer(config, network.train())
    for inputs, targets, *_ in batches:
        exact = inputs.double()
        loss = task.loss(task.decode(network(exact), exact), targets.double() if targets.is_floating_point() else targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_a_resumed_stack_ends_with_the_same_bits(tmp_path: Path) -> None:
    dropout = "model.dense=[{units: 8, dropout: 0.3}]"
    config = compose(ROOT, [*ON_IMAGES, *CNN, dropout, "seeds=2", "checkpoint.steps=4"])
    undisturbed = train(config, tmp_path)
    hashes = [store.sha256(member.weights) for member in undisturbed]
    for file in sorted((tmp_path / "0" / CHECKPOINTS).glob("*.pt")):
        copied = shutil.copytree(tmp_path, tmp_path.with_name(f"from_{file.stem}"))
        resumed = train(config, copied, copied / "0" / CHECKPOINTS / file.name)
        assert [store.sha256(member.weights) for member in resumed] == hashes, file
        assert [member.fingerprints for member in resumed] == [member.fingerprints for member in undisturbed]
        assert [member.best_epoch for member in resumed] == [member.best_epoch for member in undisturbed]
    assert hashes[0] != hashes[1]


def test_the_config_of_a_member_names_its_stack_and_only_stacks_have_the_key() -> None:
    config = compose(ROOT, [*ON_SERIES, "seed=7", "seeds=3"])
    assert [[member.seed for member in stack] for stack in stacks(config)] == [[7, 8], [9]]
    for stack in stacks(config):
        for member in stack:
            assert stacks(member) == [[member.model_copy(update={"seed": one.seed}) for one in stack]]
    unstacked = compose(ROOT, [*ON_SERIES, "trainer.stacked=null"])
    assert "stacked" in recorded_config(config)["trainer"]
    assert "stacked" not in recorded_config(unstacked)["trainer"]


def check(overrides: list[str]) -> None:
    config = compose(ROOT, overrides)
    check_stackable(config, data_of(config))


MEMBERS = ["model.weights=null", "model.members=[{_target_:reprise.models.linear.NLinear}]"]
BIDIRECTIONAL = "Recurrent cannot be stacked: LSTM: only layers of one direction"
REFUSED = {
    "closed form": ([*ON_SERIES, "model=ridge", "task.predict_delta=false"], "RidgeForecaster is computed in closed form"),
    "several losses": ([*ON_SERIES, "model=ensemble", "task.predict_delta=false", *MEMBERS], "Ensemble has several losses"),
    "bidirectional": ([*ON_SERIES, "+model.bidirectional=true"], BIDIRECTIONAL),
    "patience": ([*ON_SERIES, "trainer.patience=3"], "stacked=2 does not support patience=3"),
    "average": ([*ON_SERIES, "trainer.average=ema"], "stacked=2 does not support average=ema"),
    "clipping": ([*ON_SERIES, "trainer.gradient_clip=1"], "stacked=2 does not support gradient_clip=1"),
    "devices": ([*ON_SERIES, "trainer=ddp_cpu"], "stacked=2 does not support devices=2"),
    "one": ([*ON_SERIES, "trainer.stacked=1"], "trainer.stacked"),
}


@pytest.mark.parametrize(("overrides", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_stacked_is_refused_in_one_line(overrides: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        check(overrides)
    assert "\n" not in str(caught.value)


class Branching(nn.Linear):
    """Decides by the values of its inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the name of the base class
        return super().forward(input.flatten(1)) if input.sum() > 0 else input.new_zeros(len(input), self.out_features)


class Noisy(nn.Linear):
    """Has other outputs at each call."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 -- the name of the base class
        return super().forward(input.flatten(1)) + torch.rand(len(input), 1)


@pytest.mark.parametrize(
    ("made", "message"),
    [(Branching, "Branching cannot be stacked: vmap"), (Noisy, "Noisy computes other outputs in a stack than alone")],
)
def test_a_network_that_a_stack_cannot_compute_is_refused(
    made: Callable[..., nn.Module], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacked_fit, "make_network", lambda *_: made(36, 3))
    config = compose(ROOT, ON_IMAGES)
    with pytest.raises(UserError, match=message):
        check_stackable(config, data_of(config))


def test_an_optimizer_that_combines_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_fit, "make_optimizer", lambda _, network: torch.optim.LBFGS(network.parameters()))
    config = compose(ROOT, ON_IMAGES)
    with pytest.raises(UserError, match="LBFGS may combine the gradients of several weights"):
        check_stackable(config, data_of(config))


def test_a_stack_that_diverges_names_the_seeds(tmp_path: Path) -> None:
    config = compose(ROOT, [*NETWORKS["nlinear"][0], "optimizer=sgd", "optimizer.lr=1e30", "seeds=[3,5]"])
    with pytest.raises(UserError, match=r"^seed 3, 5: training diverged") as caught:
        train(config, tmp_path)
    assert caught.value.hint == "try a smaller optimizer.lr"  # a stack refuses gradient_clip
    training = StackedTraining(*stacks(config), data_of(config))
    for split in ("train", "val"):
        row = {"train/0/loss": 1.0, "train/1/loss": 1.0, "val/0/loss": 1.0, "val/1/loss": 1.0, f"{split}/1/loss": float("nan")}
        assert training._of_member(UserError("training diverged"), row).what == "seed 5: training diverged"


@dataclass
class Tied:
    """Two layers with the same weight."""

    seed: int

    def __call__(self) -> nn.Module:
        torch.manual_seed(self.seed)
        network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        network[2].weight = network[0].weight
        network[0].bias.requires_grad_(False)
        return network


def test_tied_and_frozen_parameters_stay_so() -> None:
    members: Sequence[Any] = [Tied(seed)() for seed in range(3)]
    stack = Stack(members)
    inputs = torch.randn(5, 3, 3)
    for number, member in enumerate(members):
        assert torch.allclose(stack(inputs)[:, number], member(inputs[:, number]), atol=1e-6)
        assert stack.states()[number].keys() == member.state_dict().keys()
    assert len([*stack.parameters()]) == 3
    assert sum(parameter.requires_grad for parameter in stack.parameters()) == 2
    assert stack.parameters_alone == 15
