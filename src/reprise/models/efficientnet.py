"""EfficientNet-Lite for pictures, and its weights as published.

Shapes: `B` batch, `H W` pixels, `C` channels, `F` filters.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn


class _Stage(NamedTuple):
    """Blocks of equal shape; the first one has the stride."""

    expansion: int
    kernel: int
    stride: int
    filters: int
    blocks: int


STAGES = (
    _Stage(1, 3, 1, 16, 1),
    _Stage(6, 3, 2, 24, 2),
    _Stage(6, 5, 2, 40, 2),
    _Stage(6, 3, 2, 80, 3),
    _Stage(6, 5, 1, 112, 3),
    _Stage(6, 5, 2, 192, 4),
    _Stage(6, 3, 1, 320, 1),
)
"""EfficientNet-B0. Source: Tan and Le 2019, table 1."""
SCALES = {0: (1.0, 1.0, 0.2), 1: (1.0, 1.1, 0.2), 2: (1.1, 1.2, 0.3)}
"""Multiples of filters and of blocks, and rate of dropout, by version."""
STEM, TOP = 32, 1280
"""Filters of the first and of the last convolution. They are the same in all versions of Lite."""
PIXEL_MEAN, PIXEL_STD = 127.0, 128.0
"""The published networks read pixels (0 to 255) as (pixel - mean) / std."""
MOMENTUM, EPSILON = 0.01, 1e-3
"""Of batch norm, as published."""


class EfficientNetLite(nn.Module):
    """EfficientNet-Lite 0 to 2: inverted residual blocks with depthwise convolutions, ReLU6, and no squeeze-and-excitation.

    Maps `float32 [B, H, W, C]` to `[B, outputs]`; one channel (grey) is read as three equal ones. Source: Tan and Le 2019,
    EfficientNet; Lite: the TensorFlow authors' variant of 2020, whose first and last convolutions are not scaled. Start from the
    weights of ImageNet by `init_from=imagenet/efficientnet_lite0` (1, 2).

    The network reads standardised pixels, and maps them to the range of the published weights: pixel values minus 127, divided
    by 128.

    Args:
        input_shape: shape of one picture, `[H, W, C]` with 1 or 3 channels. Published: 224, 240 and 260 pixels for 0, 1 and 2.
        outputs: number of outputs per sample.
        version: 0, 1 or 2.
        dropout: rate of dropout before the output layer; by default as published.
        drop_connect: rate at which the last block is skipped in training; it rises linearly from 0 (Huang et al. 2016).
        pixel_mean: mean of each channel that was subtracted from the pixels; by default the inputs have the published range.
        pixel_std: standard deviation of each channel that they were divided by.

    Raises:
        ValueError: if an argument is invalid.

    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        version: Literal[0, 1, 2] = 0,
        dropout: float | None = None,
        drop_connect: float = 0.2,
        pixel_mean: Sequence[float] | None = None,
        pixel_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or input_shape[-1] not in {1, 3}:
            raise ValueError(f"reads pictures [H, W, C] of 1 or 3 channels, not inputs of shape {list(input_shape)}")
        width, depth, usual_dropout = SCALES[version]
        dropout = usual_dropout if dropout is None else dropout
        for name, rate in (("dropout", dropout), ("drop_connect", drop_connect)):
            if not 0 <= rate < 1:
                raise ValueError(f"{name}={rate}: must be at least 0 and below 1")
        self._read_as_published(input_shape[-1], pixel_mean, pixel_std)
        size = (input_shape[0], input_shape[1])
        self.stem = _ConvNorm(3, STEM, 3, size, stride=2)
        self.blocks = _blocks(width, depth, self.stem.out_size, drop_connect)
        self.top = _ConvNorm(self.blocks[-1].filters, TOP, 1, self.blocks[-1].out_size)  # type: ignore[arg-type]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(TOP, outputs)

    def _read_as_published(self, channels: int, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        """Set scale and shift from standardised inputs to the published range. They belong to the data, not to the weights."""
        means = torch.tensor([PIXEL_MEAN] * channels if mean is None else list(mean))
        stds = torch.tensor([PIXEL_STD] * channels if std is None else list(std))
        self.register_buffer("scale", stds / PIXEL_STD, persistent=False)
        self.register_buffer("shift", (means - PIXEL_MEAN) / PIXEL_STD, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        pixels = (inputs * self.scale + self.shift).movedim(-1, 1)  # [B, C, H, W]
        features = self.stem(pixels.expand(-1, 3, -1, -1))
        for block in self.blocks:
            features = block(features)
        outputs: Tensor = self.head(self.dropout(self.top(features).mean((2, 3))))
        return outputs


class _ConvNorm(nn.Module):
    """Convolution, batch norm and, if `activation`, ReLU6. The output has `ceil(size / stride)` pixels, as TensorFlow pads."""

    def __init__(
        self,
        channels: int,
        filters: int,
        kernel: int,
        size: tuple[int, int],
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        self.out_size = (math.ceil(size[0] / stride), math.ceil(size[1] / stride))
        pads = [max((count - 1) * stride + kernel - pixels, 0) for count, pixels in zip(self.out_size, size, strict=True)]
        top, left = (pad // 2 for pad in pads)
        self.pad = nn.ZeroPad2d((left, pads[1] - left, top, pads[0] - top)) if any(pads) else nn.Identity()
        self.conv = nn.Conv2d(channels, filters, kernel, stride, groups=groups, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        self.norm = nn.BatchNorm2d(filters, EPSILON, MOMENTUM)
        self.activation = nn.ReLU6() if activation else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.norm(self.conv(self.pad(features))))
        return activated


class _Block(nn.Module):
    """Inverted residual block (Sandler et al. 2018): expand, convolve each channel, project; a shortcut between equal shapes."""

    def __init__(self, channels: int, stage: _Stage, size: tuple[int, int], drop: float) -> None:
        super().__init__()
        hidden = channels * stage.expansion
        self.expand = _ConvNorm(channels, hidden, 1, size) if stage.expansion > 1 else nn.Identity()
        self.depthwise = _ConvNorm(hidden, hidden, stage.kernel, size, stage.stride, groups=hidden)
        self.project = _ConvNorm(hidden, stage.filters, 1, self.depthwise.out_size, activation=False)
        self.filters, self.out_size = stage.filters, self.depthwise.out_size
        self.has_shortcut, self.drop = stage.stride == 1 and channels == stage.filters, drop

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.project(self.depthwise(self.expand(features)))
        return features + self._skip(outputs) if self.has_shortcut else outputs

    def _skip(self, outputs: Tensor) -> Tensor:
        """Set the block's outputs for some samples to zero in training, and enlarge the others so that the mean stays."""
        if not self.training or not self.drop:
            return outputs
        kept = torch.rand(len(outputs), 1, 1, 1, device=outputs.device) >= self.drop
        return outputs * kept / (1 - self.drop)


def _blocks(width: float, depth: float, size: tuple[int, int], drop_connect: float) -> nn.ModuleList:
    """Return the blocks of all stages. The first and the last stage are not repeated in any version."""
    stages = [
        stage._replace(
            filters=_scaled(stage.filters, width),
            blocks=stage.blocks if number in {0, len(STAGES) - 1} else math.ceil(stage.blocks * depth),
        )
        for number, stage in enumerate(STAGES)
    ]
    total, channels = sum(stage.blocks for stage in stages), STEM
    made = nn.ModuleList()
    for stage in stages:
        for number in range(stage.blocks):
            block = _Block(channels, stage._replace(stride=1 if number else stage.stride), size, drop_connect * len(made) / total)
            channels, size = block.filters, block.out_size
            made.append(block)
    return made


def _scaled(filters: int, width: float) -> int:
    """Return a scaled number of filters: a multiple of 8, and at least 90 % of the exact number."""
    exact = filters * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


_PARTS = {"expand_conv": "expand.conv", "depthwise_conv": "depthwise.conv", "project_conv": "project.conv"}
_OUTER = {"_conv_stem": "stem.conv", "_bn0": "stem.norm", "_conv_head": "top.conv", "_bn1": "top.norm", "_fc": "head"}
_NORMS = {"bn0": "expand.norm", "bn1": "depthwise.norm", "bn2": "project.norm"}


def from_published(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return published weights under the names of `EfficientNetLite`."""
    return {_own_name(name): tensor for name, tensor in weights.items()}


def _own_name(published: str) -> str:
    layer, _, tensor = published.rpartition(".")
    if match := re.fullmatch(r"_blocks\.(\d+)\._(\w+)", layer):
        return f"blocks.{match[1]}.{(_PARTS | _NORMS)[match[2]]}.{tensor}"
    return f"{_OUTER[layer]}.{tensor}"
