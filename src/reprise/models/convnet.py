"""One convolutional network for images (2-D) and sequences (1-D), described by its blocks.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
}
Padding = Literal["valid", "same"]


@dataclass(frozen=True)
class Block:
    """Convolutions of one width, each with its activation, then pooling, then dropout."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 -- read by config.build, which refuses unknown keys

    filters: int
    kernel: int = 3
    convolutions: int = 1
    stride: int = 1
    padding: Padding = "valid"
    batch_norm: bool = False
    pool: int = 1
    """Width and stride of the pooling; 1: none."""
    pooling: Literal["max", "average"] = "max"
    dropout: float = 0.0


@dataclass(frozen=True)
class Dense:
    """A fully connected hidden layer."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    units: int
    dropout: float = 0.0


@dataclass
class _Shape:
    """The shape `[C, *space]` on its way through the layers."""

    channels: int
    space: list[int]

    def slide(self, width: int, stride: int, named: str) -> None:
        """Shrink as an unpadded window does; `named` is the key that says its width."""
        if any(extent < width for extent in self.space):
            raise ValueError(f"{named}={width}: larger than its input of {' x '.join(map(str, self.space))}")
        self.space = [(extent - width) // stride + 1 for extent in self.space]


class ConvNet(nn.Module):
    """`blocks`, then flatten, then `dense` layers, then a linear output.

    `float32 [B, H, W, C]` or `[B, T, C]` to `[B, outputs]`. Features are flattened channels last, as Keras does.

    Args:
        input_shape: of one sample, `[H, W, C]` or `[T, C]`.
        outputs: numbers given a sample.
        blocks: see `Block`.
        dense: hidden layers of the head; see `Dense`.
        activation: relu, gelu, silu, tanh or elu.
        init: `torch`, or `glorot`: uniform weights (Glorot and Bengio 2010, eq. 16) and zero biases, as Keras does.

    Raises:
        ValueError: naming the layer, and the shape which it does not fit.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        blocks: list[Block],
        dense: list[Dense],
        activation: str = "relu",
        init: Literal["torch", "glorot"] = "torch",
    ) -> None:
        super().__init__()
        if len(input_shape) not in {2, 3}:
            raise ValueError(f"reads images [H, W, C] or sequences [T, C], not inputs of shape {list(input_shape)}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation}: there are {', '.join(ACTIVATIONS)}")
        shape = _Shape(input_shape[-1], list(input_shape[:-1]))
        layers: list[nn.Module] = []
        for number, block in enumerate(blocks):
            layers += _block(block, shape, f"blocks.{number}", ACTIVATIONS[activation])
        self.features = nn.Sequential(*layers)
        width = shape.channels * math.prod(shape.space)
        head: list[nn.Module] = []
        for number, hidden in enumerate(dense):
            _positive(hidden, ("units",), f"dense.{number}")
            head += [nn.Linear(width, hidden.units), ACTIVATIONS[activation](), *_dropout(hidden.dropout, f"dense.{number}")]
            width = hidden.units
        self.head = nn.Sequential(*head, nn.Linear(width, outputs))
        if init == "glorot":
            self.apply(_glorot)

    def forward(self, inputs: Tensor) -> Tensor:
        """`[B, *input_shape]` to `[B, outputs]`."""
        features: Tensor = self.features(inputs.movedim(-1, 1))  # [B, C, *space], in memory still channels last
        logits: Tensor = self.head(features.movedim(1, -1).flatten(1))
        return logits


def _block(block: Block, shape: _Shape, path: str, activation: type[nn.Module]) -> list[nn.Module]:
    _positive(block, ("filters", "kernel", "convolutions", "stride", "pool"), path)
    if block.padding == "same" and block.stride != 1:
        raise ValueError(f"{path}.stride={block.stride}: padding=same needs stride 1")
    flat = len(shape.space) == 1
    convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if flat else (nn.Conv2d, nn.BatchNorm2d)
    maximum, average = (nn.MaxPool1d, nn.AvgPool1d) if flat else (nn.MaxPool2d, nn.AvgPool2d)
    layers: list[nn.Module] = []
    for _ in range(block.convolutions):
        if block.padding == "valid":
            shape.slide(block.kernel, block.stride, f"{path}.kernel")
        sizes = shape.channels, block.filters, block.kernel, block.stride
        layers.append(convolution(*sizes, padding=block.padding, bias=not block.batch_norm))
        if block.batch_norm:
            layers.append(norm(block.filters))
        layers.append(activation())
        shape.channels = block.filters
    if block.pool > 1:
        shape.slide(block.pool, block.pool, f"{path}.pool")
        layers.append({"max": maximum, "average": average}[block.pooling](block.pool))
    return layers + _dropout(block.dropout, path)


def _positive(layer: Block | Dense, names: Sequence[str], path: str) -> None:
    for name in names:
        if getattr(layer, name) < 1:
            raise ValueError(f"{path}.{name}={getattr(layer, name)}: must be at least 1")


def _dropout(rate: float, path: str) -> list[nn.Module]:
    if not 0 <= rate < 1:
        raise ValueError(f"{path}.dropout={rate}: must be at least 0 and below 1")
    return [nn.Dropout(rate)] if rate else []


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
