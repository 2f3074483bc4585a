"""Parameter groups by config: which parameters have weight decay."""

import pytest
import torch
from torch import nn

from reprise.config import compose
from reprise.errors import UserError
from reprise.models.recurrent import Recurrent
from reprise.training.optimizers import make_optimizer, parameter_groups
from tests.config.conftest import ROOT


def names_without_decay(network: nn.Module, *kinds: str) -> set[str]:
    groups = parameter_groups(network, kinds)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert len({id(one) for group in groups for one in group["params"]}) == len(names)
    return {names[id(one)] for one in groups[1]["params"]}


def test_biases_and_normalisation_layers_are_excluded_as_configured() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2), nn.LayerNorm(2))
    assert names_without_decay(network, "bias") == {"0.bias", "1.bias", "3.bias", "4.bias"}
    assert names_without_decay(network, "norm") == {"1.weight", "1.bias", "4.weight", "4.bias"}
    assert names_without_decay(network, "bias", "norm") == {"0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias"}


def test_the_biases_of_recurrent_layers_count_as_biases() -> None:
    network = Recurrent([5, 2], 1, hidden=3)
    assert {name for name, _ in network.named_parameters() if "bias" in name} == names_without_decay(network, "bias")


def test_a_step_without_gradient_decays_the_other_parameters_only() -> None:
    overrides = ["experiment=digits_cnn", "optimizer=adamw", "optimizer.no_weight_decay=[bias]", "optimizer.weight_decay=0.5"]
    config = compose(ROOT, [*overrides, "optimizer.lr=0.1"])
    network = nn.Linear(2, 2)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    optimizer = make_optimizer(config, network)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(network.weight, before["weight"] * (1 - 0.1 * 0.5))
    assert torch.equal(network.bias, before["bias"])


def test_excluding_parameters_from_no_decay_is_refused() -> None:
    with pytest.raises(UserError, match="no_weight_decay: the optimizer has no weight_decay"):
        compose(ROOT, ["experiment=digits_cnn", "optimizer=adam", "optimizer.no_weight_decay=[bias]"])
