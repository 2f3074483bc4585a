"""A multilayer perceptron."""

from collections.abc import Sequence

from torch import Tensor, nn


class Perceptron(nn.Module):
    """Two linear layers. Maps `float32 [B, C]` to `[B, outputs]`."""

    def __init__(self, input_shape: Sequence[int], outputs: int, units: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(input_shape[0], units), nn.ReLU(), nn.Linear(units, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.layers(inputs)
        return outputs
