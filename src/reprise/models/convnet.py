"""One convolutional network for images (2-D) and sequences (1-D), described by its blocks.

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
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
    """The shape `[C, *space]` on its way through the layers; refuses what does not fit, naming the layer."""

    channels: int
    space: list[int]
    layer: str = field(default="input")

    def slide(self, layer: str, width: int, stride: int, padding: Padding) -> None:
        self.layer = layer
        if width < 1 or stride < 1:
            raise ValueError(f"{layer}: width {width} and stride {stride} must be at least 1")
        if padding == "same":
            if stride != 1:
                raise ValueError(f"{layer}: padding=same needs stride 1, not {stride}")
            return
        if any(extent < width for extent in self.space):
            raise ValueError(f"{layer}: width {width} is larger than its input of {' x '.join(map(str, self.space))}")
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
        ValueError: naming the layer and the shape at which it does not fit.

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
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation}: unknown; there are {', '.join(ACTIVATIONS)}")
        shape = _Shape(input_shape[-1], list(input_shape[:-1]))
        layers: list[nn.Module] = []
        for number, block in enumerate(blocks):
            layers += _block(block, shape, f"blocks.{number}", ACTIVATIONS[activation])
        self.features = nn.Sequential(*layers)
        width = shape.channels * math.prod(shape.space)
        head: list[nn.Module] = []
        for number, hidden in enumerate(dense):
            if hidden.units < 1:
                raise ValueError(f"dense.{number}: units={hidden.units} must be at least 1")
            head += [
                nn.Linear(width, hidden.units),
                ACTIVATIONS[activation](),
                *_dropout(hidden.dropout, nn.Dropout, f"dense.{number}"),
            ]
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
    flat = len(shape.space) == 1
    if block.filters < 1 or block.convolutions < 1:
        raise ValueError(f"{path}: filters={block.filters} and convolutions={block.convolutions} must be at least 1")
    layers: list[nn.Module] = []
    for _ in range(block.convolutions):
        shape.slide(f"{path} (convolution)", block.kernel, block.stride, block.padding)
        convolution = nn.Conv1d if flat else nn.Conv2d
        layers.append(
            convolution(
                shape.channels,
                block.filters,
                block.kernel,
                block.stride,
                padding=block.padding,
                bias=not block.batch_norm,
            )
        )
        if block.batch_norm:
            layers.append((nn.BatchNorm1d if flat else nn.BatchNorm2d)(block.filters))
        layers.append(activation())
        shape.channels = block.filters
    if block.pool > 1:
        shape.slide(f"{path} (pool)", block.pool, block.pool, "valid")
        maximum, average = (nn.MaxPool1d, nn.AvgPool1d) if flat else (nn.MaxPool2d, nn.AvgPool2d)
        layers.append((maximum if block.pooling == "max" else average)(block.pool))
    elif block.pool < 1:
        raise ValueError(f"{path} (pool): width {block.pool} must be at least 1")
    return layers + _dropout(block.dropout, nn.Dropout, path)


def _dropout(rate: float, layer: type[nn.Dropout], path: str) -> list[nn.Module]:
    if not 0 <= rate < 1:
        raise ValueError(f"{path}: dropout={rate} must be at least 0 and below 1")
    return [layer(rate)] if rate else []


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
