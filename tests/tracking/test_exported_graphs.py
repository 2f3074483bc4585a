"""A graph of torch.export is traced again only for a network of another structure."""

import io
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reprise.tracking import exported_graphs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*were assigned during export"),  # as in `logged_model.save`
    pytest.mark.filterwarnings("ignore:No complete tensor found in the group"),
]
EXAMPLE = (torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)),)
SHAPES = [{0: torch.export.Dim.AUTO}]


class Network(nn.Module):
    """A recurrent network with constants of all kinds in its attributes."""

    def __init__(self, scale: float = 2.0, shift: float = 0.5, power: int = 1, width: int = 4) -> None:
        super().__init__()
        self.layers = nn.GRU(3, width, batch_first=True)
        self.head = nn.Linear(width, 1)
        self.scale = scale
        self.register_buffer("shift", torch.tensor([shift]), persistent=False)
        self.function = partial(torch.pow, exponent=power)

    def forward(self, inputs: Tensor) -> Tensor:
        shift: Any = self.shift
        return torch.as_tensor(self.function(self.head(self.layers(inputs)[0][:, -1]) * self.scale + shift))


def loaded(network: nn.Module) -> Tensor:
    """Return what the saved graph of a network computes."""
    buffer = io.BytesIO()
    torch.export.save(exported_graphs.export(network, EXAMPLE, SHAPES), buffer)
    buffer.seek(0)
    module = torch.export.load(buffer).module()
    return torch.as_tensor(module(torch.cat(EXAMPLE * 2)))


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that were traced."""
    networks: list[nn.Module] = []
    export = torch.export.export

    def record(network: nn.Module, *arguments: Any, **options: Any) -> Any:
        networks.append(network)
        return export(network, *arguments, **options)

    monkeypatch.setattr(torch.export, "export", record)
    monkeypatch.setattr(exported_graphs, "_kept", {})
    return networks


@torch.no_grad()
def test_networks_that_differ_in_their_weights_share_a_graph(traced: list[nn.Module]) -> None:
    networks = [Network().eval() for _ in range(3)]
    weights = [{name: weight.clone() for name, weight in one.state_dict().items()} for one in networks]
    for network in networks:
        torch.testing.assert_close(loaded(network), network(torch.cat(EXAMPLE * 2)), rtol=0, atol=0)
    assert len(traced) == 1
    for network, before in zip(networks, weights, strict=True):
        assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())


@torch.no_grad()
def test_networks_that_differ_in_anything_else_are_traced_again(traced: list[nn.Module]) -> None:
    for number, changes in enumerate(({}, {"scale": 2.5}, {"shift": 0.25}, {"power": 3}, {"width": 5}), start=1):
        network = Network(**changes).eval()
        torch.testing.assert_close(loaded(network), network(torch.cat(EXAMPLE * 2)), rtol=0, atol=0)
        assert len(traced) == number, changes
