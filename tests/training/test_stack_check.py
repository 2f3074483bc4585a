"""Before a training, the first steps of a stack are compared with those of its networks alone."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from reprise.config import Config, compose
from reprise.data.datasets import Batch
from reprise.errors import UserError
from reprise.tasks.build import build_task
from reprise.training import stacked_fit
from reprise.training.stack import Stack
from reprise.training.stack_check import difference
from reprise.training.stacked_fit import check_stackable, stacked_optimizer
from tests.pipeline.conftest import ROOT
from tests.training.test_stack import ON_IMAGES, ON_SERIES, data_of

FEATURES = 36


class Flat(nn.Module):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(FEATURES, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(self.change(inputs.flatten(1)))  # type: ignore[no-any-return]

    def change(self, inputs: Tensor) -> Tensor:
        return inputs


class Reassigned(Flat):
    """Assigns a buffer anew."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(FEATURES))

    def change(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.detach().mean(0)
        return inputs - self.mean


class InPlace(Reassigned):
    """Changes a buffer in place."""

    def change(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.mean.mul_(0.9).add_(0.1 * inputs.detach().mean(0))
        return inputs - self.mean


class OwnTensor(Flat):
    """Has a tensor that is neither a parameter nor a buffer, other for each member."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.rand(FEATURES)

    def change(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale


class OnlyInTraining(OwnTensor):
    """Uses such a tensor in training only."""

    def change(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale if self.training else inputs


class Drops(Flat):
    """Drops inputs by a function, and draws other random numbers."""

    def change(self, inputs: Tensor) -> Tensor:
        if not self.training:
            return inputs
        return functional.dropout(inputs, 0.5) * (torch.rand(len(inputs), 1, device=inputs.device) > 0.3)


class Single(Flat):
    """Computes in float32 whatever its precision is."""

    def forward(self, inputs: Tensor) -> Tensor:
        return functional.linear(inputs.flatten(1), self.linear.weight, self.linear.bias.float())


class OwnGRU(nn.GRU):
    """A GRU that doubles its inputs."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Any:  # type: ignore[override]  # noqa: A002
        return super().forward(2 * input, hx)


class OfRows(nn.Module):
    """A GRU of the rows of an image."""

    def __init__(self, layer: type[nn.GRU]) -> None:
        super().__init__()
        self.layer, self.head = layer(6, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.layer(inputs.flatten(2))[0][:, -1])  # type: ignore[no-any-return]


def forward_hook() -> nn.Module:
    network = Flat()
    network.linear.register_forward_pre_hook(lambda _, inputs: 2 * inputs[0])
    return network


def parameter_hook() -> nn.Module:
    network = Flat()
    network.linear.weight.register_hook(lambda gradient: 2 * gradient)
    return network


def backward_hook() -> nn.Module:
    network = Flat()
    network.linear.register_full_backward_hook(lambda *_: None)
    return network


def refusal(config: Config) -> str | None:
    """Return why a network is not stacked, or None if it is."""
    try:
        check_stackable(config, data_of(config))
    except UserError as error:
        return str(error)
    return None


def check(made: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch, overrides: Iterable[str] = ON_IMAGES) -> str | None:
    def make(config: Config, *_: Any) -> nn.Module:
        torch.manual_seed(config.seed)
        return made()

    monkeypatch.setattr(stacked_fit, "make_network", make)
    return refusal(compose(ROOT, [*overrides]))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "an assigned buffer": (Reassigned, r"Reassigned computes other buffers \(mean\) in a stack than alone"),
    "another tensor": (OwnTensor, "OwnTensor computes other outputs in training in a stack than alone"),
    "in training only": (OnlyInTraining, "OnlyInTraining computes other outputs in training in a stack than alone"),
    "a recurrent layer with another forward": (lambda: OfRows(OwnGRU), "OfRows cannot be stacked: "),
    "a forward hook": (forward_hook, "Flat has hooks"),
    "a backward hook": (backward_hook, "Flat has hooks"),
    "a hook of a parameter": (parameter_hook, "Flat has hooks"),
}


@pytest.mark.parametrize(("made", "message"), REFUSED.values(), ids=REFUSED)
def test_a_network_that_a_stack_would_train_differently_is_refused(
    made: Callable[[], nn.Module], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = check(made, monkeypatch)
    assert refused
    assert re.match(f"trainer.stacked=2: {message}", refused)
    assert "\n" not in refused


@pytest.mark.parametrize("made", [InPlace, Drops, Single, lambda: OfRows(nn.GRU)], ids=["in place", "drops", "single", "gru"])
def test_what_a_stack_trains_as_alone_is_accepted(made: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(made, monkeypatch) is None


DROPOUT = ["model=gru", "model.hidden=4", "model.layers=2", "model.dropout=0.5"]


@pytest.mark.parametrize(
    "overrides",
    [
        *([*ON_SERIES, "model=nlinear", "task.predict_delta=false", f"optimizer={name}"] for name in ("adam", "adamw", "sgd")),
        [*ON_SERIES, *DROPOUT],
        [*ON_IMAGES, "model.blocks=[{filters: 4, batch_norm: true}]", "model.dense=[{units: 8, dropout: 0.5}]"],
    ],
    ids=["adam", "adamw", "sgd", "gru", "cnn"],
)
def test_dropout_and_optimizers_of_the_shipped_configs_are_accepted(overrides: list[str]) -> None:
    assert refusal(compose(ROOT, overrides)) is None


def by_shape(_: Config, network: nn.Module) -> torch.optim.Optimizer:
    """Return an optimizer without weight decay of vectors."""
    parameters = [*network.parameters()]
    groups = [{"params": [one for one in parameters if one.ndim > 1]}, {"params": [one for one in parameters if one.ndim < 2]}]
    groups[1] |= {"weight_decay": 0.0}
    return torch.optim.Adagrad(groups, lr=0.01, weight_decay=0.1)


def test_an_optimizer_that_groups_parameters_by_shape_has_the_same_groups_for_a_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked_fit, "make_optimizer", by_shape)
    assert check(Flat, monkeypatch) is None
    members, config = [Flat(), Flat()], compose(ROOT, ON_IMAGES)
    stack = Stack(members)
    groups = stacked_optimizer(config, members[0], stack).param_groups
    assert [[tuple(one.shape) for one in group["params"]] for group in groups] == [[(2, 3, FEATURES)], [(2, 3)]]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]


def test_a_step_with_other_groups_is_found() -> None:
    config = compose(ROOT, ON_IMAGES)
    data = data_of(config)
    task, (split, _) = build_task(config, data.meta), data.learning()
    batch: Batch = split.gather(torch.arange(4))

    def alone(network: nn.Module) -> torch.optim.Optimizer:
        return by_shape(config, network)

    found = difference([Flat(), Flat()], task, batch, alone, alone, torch.float64)
    assert found == "weights after a step (linear.bias)"
