"""A configurable convolutional network for images (2-D) and sequences (1-D).

Shapes: `B` batch, `H W` pixels, `T` time steps, `C` channels, `F` features.
"""

import math
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

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
    """Convolutions with the same number of filters, each with its activation, then pooling, then dropout."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 -- read by config.build, which rejects unknown keys

    filters: int
    kernel: int = 3
    convolutions: int = 1
    stride: int = 1
    padding: Padding = "valid"
    batch_norm: bool = False
    pool: int = 1
    """Kernel size and stride of the pooling; 1 for none."""
    pooling: Literal["max", "average"] = "max"
    dropout: float = 0.0


@dataclass(frozen=True)
class Dense:
    """A fully connected hidden layer."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    units: int
    dropout: float = 0.0


class ConvNet(nn.Module):
    """Convolutional blocks, optional global pooling, flatten, dense layers, and a linear output.

    Maps `float32 [B, H, W, C]` or `[B, T, C]` to `[B, outputs]`. Features are flattened channels last, as in Keras.

    Args:
        input_shape: shape of one sample, `[H, W, C]` or `[T, C]`.
        outputs: number of outputs per sample.
        blocks: convolutional blocks; see `Block`.
        dense: hidden layers of the head; see `Dense`.
        activation: relu, gelu, silu, tanh or elu.
        global_pool: none, or the max or average of each feature over all positions (Lin et al. 2013).
        tta_hflip: outside of training, average the outputs for the image and its horizontal mirror image.
        init: `torch`, or `glorot`: uniform weights (Glorot and Bengio 2010, eq. 16) and zero biases, as in Keras.

    Raises:
        ValueError: if a layer does not fit its input, with the name of the layer and the shape of the input.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        blocks: list[Block],
        dense: list[Dense],
        activation: str = "relu",
        global_pool: Literal["none", "max", "average"] = "none",
        tta_hflip: bool = False,
        init: Literal["torch", "glorot"] = "torch",
    ) -> None:
        super().__init__()
        if len(input_shape) not in {2, 3}:
            raise ValueError(f"reads images [H, W, C] or sequences [T, C], not inputs of shape {list(input_shape)}")
        if tta_hflip and len(input_shape) != 3:
            raise ValueError("tta_hflip: only images have a mirror image")
        self.tta_hflip = tta_hflip
        builder = _Builder(channels=input_shape[-1], space=list(input_shape[:-1]), activation=activation)
        for number, block in enumerate(blocks):
            builder.add_block(block, f"blocks.{number}")
        if global_pool != "none":
            builder.add_global_pool(global_pool)
        self.features = nn.Sequential(builder.layers)
        builder.flatten()
        for number, hidden in enumerate(dense):
            builder.add_dense(hidden, f"dense.{number}")
        builder.layers["output"] = nn.Linear(builder.channels, outputs)
        self.head = nn.Sequential(builder.layers)
        if init == "glorot":
            self.apply(_glorot)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, *input_shape]` to `[B, outputs]`."""
        if self.tta_hflip and not self.training:
            return (self._logits(inputs) + self._logits(inputs.flip(2))) / 2
        return self._logits(inputs)

    def _logits(self, inputs: Tensor) -> Tensor:
        features: Tensor = self.features(inputs.movedim(-1, 1))  # [B, C, *space], channels last in memory
        logits: Tensor = self.head(features.movedim(1, -1).flatten(1))
        return logits


@dataclass
class _Builder:
    """Collects layers by name (`conv1`, `pool1`, …) and tracks the shape `[C, *space]` of their output."""

    channels: int
    space: list[int]
    activation: str
    layers: OrderedDict[str, nn.Module] = field(default_factory=OrderedDict)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, kind: str, layer: nn.Module) -> None:
        self.counts[kind] += 1
        self.layers[f"{kind}{self.counts[kind]}"] = layer

    def add_block(self, block: Block, path: str) -> None:
        self._require_positive(block, ("filters", "kernel", "convolutions", "stride", "pool"), path)
        if block.padding == "same" and block.stride != 1:
            raise self._error(f"{path}.stride={block.stride}: padding=same needs stride 1")
        convolution, norm = (nn.Conv1d, nn.BatchNorm1d) if len(self.space) == 1 else (nn.Conv2d, nn.BatchNorm2d)
        for _ in range(block.convolutions):
            sizes = self.channels, block.filters, block.kernel, block.stride
            if block.padding == "valid":
                self._shrink(block.kernel, block.stride, f"{path}.kernel")
            self.add("conv", convolution(*sizes, padding=block.padding, bias=not block.batch_norm))
            self.channels = block.filters
            if block.batch_norm:
                self.add("norm", norm(block.filters))
            self._add_activation(path)
        if block.pool > 1:
            self._shrink(block.pool, block.pool, f"{path}.pool")
            self.add("pool", self._pooling(block.pooling)(block.pool))
        self._add_dropout(block.dropout, path)

    def add_global_pool(self, kind: str) -> None:
        size = self.space[0] if len(self.space) == 1 else tuple(self.space)
        self.add("pool", self._pooling(kind)(size))
        self.space = [1] * len(self.space)

    def flatten(self) -> None:
        """Flatten the shape to one feature vector per sample, and start collecting the layers of the head."""
        self.channels, self.space, self.layers = self.channels * math.prod(self.space), [], OrderedDict()

    def add_dense(self, hidden: Dense, path: str) -> None:
        self._require_positive(hidden, ("units",), path)
        self.add("dense", nn.Linear(self.channels, hidden.units))
        self.channels = hidden.units
        self._add_activation(path)
        self._add_dropout(hidden.dropout, path)

    def _pooling(self, kind: str) -> Any:
        is_1d = len(self.space) == 1
        return {"max": nn.MaxPool1d if is_1d else nn.MaxPool2d, "average": nn.AvgPool1d if is_1d else nn.AvgPool2d}[kind]

    def _add_activation(self, path: str) -> None:
        if self.activation not in ACTIVATIONS:
            raise self._error(f"{path}: activation={self.activation}: there are {', '.join(ACTIVATIONS)}")
        self.add(self.activation, ACTIVATIONS[self.activation]())

    def _add_dropout(self, rate: float, path: str) -> None:
        if not 0 <= rate < 1:
            raise self._error(f"{path}.dropout={rate}: must be at least 0 and below 1")
        if rate:
            self.add("dropout", nn.Dropout(rate))

    def _shrink(self, width: int, stride: int, key: str) -> None:
        """Shrink the shape as an unpadded sliding window does. `key` is the config key of its width."""
        if any(extent < width for extent in self.space):
            raise self._error(f"{key}={width}: too large")
        self.space = [(extent - width) // stride + 1 for extent in self.space]

    def _require_positive(self, layer: Block | Dense, names: Sequence[str], path: str) -> None:
        for name in names:
            if getattr(layer, name) < 1:
                raise self._error(f"{path}.{name}={getattr(layer, name)}: must be at least 1")

    def _error(self, message: str) -> ValueError:
        """Return an error with the message and the shape of the layer's input."""
        shape = [*self.space, self.channels]
        return ValueError(f"{message}; its input is {' x '.join(map(str, shape))}")


def _glorot(module: nn.Module) -> None:
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
