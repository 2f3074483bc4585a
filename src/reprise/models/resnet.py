"""Residual networks for small pictures (CIFAR, 32 x 32), deep and wide.

Shapes: `B` batch, `H W` pixels, `C` channels, `F` filters.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

FILTERS = (16, 32, 64)
"""Filters of the three stages. The second and the third halve height and width in their first block."""


class ResNet(nn.Module):
    """ResNet for small pictures: a convolution, three stages of residual blocks, global average pooling, a linear output.

    Maps `float32 [B, H, W, C]` to `[B, outputs]`. Source: He et al. 2016, Deep residual learning for image recognition, section
    4.2. Shortcuts have no parameters: where a stage halves the picture, every other pixel is taken, and the new channels are
    zero (option A). Convolutions are initialised as in He et al. 2015.

    Args:
        input_shape: shape of one picture, `[H, W, C]`.
        outputs: number of outputs per sample.
        depth: number of layers with weights, 6n + 2: 20, 32, 44 or 56 in the paper.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(self, input_shape: Sequence[int], outputs: int, depth: int = 20) -> None:
        super().__init__()
        self.stem = _conv(_channels(input_shape), FILTERS[0])
        self.norm = nn.BatchNorm2d(FILTERS[0])
        self.blocks = _stages(FILTERS[0], FILTERS, _blocks_per_stage(depth, 2), _Block)
        self.head = nn.Linear(FILTERS[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        features = F.relu(self.norm(self.stem(inputs.movedim(-1, 1))))  # [B, F, H, W]
        for block in self.blocks:
            features = block(features)
        outputs: Tensor = self.head(features.mean((2, 3)))
        return outputs


class WideResNet(nn.Module):
    """Wide ResNet for small pictures: fewer layers than `ResNet`, with more filters.

    Maps `float32 [B, H, W, C]` to `[B, outputs]`. Source: Zagoruyko and Komodakis 2016, Wide residual networks, section 2: batch
    norm and ReLU precede each convolution, and a shortcut between different shapes is a convolution of width 1.

    Args:
        input_shape: shape of one picture, `[H, W, C]`.
        outputs: number of outputs per sample.
        depth: number of layers with weights, 6n + 4: 16, 22, 28 or 40 in the paper.
        width: multiple of the filters of `ResNet`.
        dropout: rate of dropout between the two convolutions of a block.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(self, input_shape: Sequence[int], outputs: int, depth: int = 28, width: int = 10, dropout: float = 0.0) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width={width}: must be at least 1")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be at least 0 and below 1")
        widths = [filters * width for filters in FILTERS]
        self.stem = _conv(_channels(input_shape), FILTERS[0])
        self.blocks = _stages(FILTERS[0], widths, _blocks_per_stage(depth, 4), partial(_PreactivationBlock, dropout=dropout))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, H, W, C]` to `[B, outputs]`."""
        features = self.stem(inputs.movedim(-1, 1))  # [B, F, H, W]
        for block in self.blocks:
            features = block(features)
        outputs: Tensor = self.head(F.relu(self.norm(features)).mean((2, 3)))
        return outputs


class _Block(nn.Module):
    """Two convolutions with batch norm, ReLU between them and after the sum with the shortcut."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = _conv(channels, filters, stride=stride), nn.BatchNorm2d(filters)
        self.conv2, self.norm2 = _conv(filters, filters), nn.BatchNorm2d(filters)
        self.stride, self.new_channels = stride, filters - channels

    def forward(self, features: Tensor) -> Tensor:
        shortcut = F.pad(features[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        features = F.relu(self.norm1(self.conv1(features)))
        return F.relu(self.norm2(self.conv2(features)) + shortcut)


class _PreactivationBlock(nn.Module):
    """Batch norm, ReLU, convolution, twice; a shortcut of the input, or of its activation where shapes differ."""

    def __init__(self, channels: int, filters: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(channels), _conv(channels, filters, stride=stride)
        self.norm2, self.conv2 = nn.BatchNorm2d(filters), _conv(filters, filters)
        self.dropout = nn.Dropout(dropout)
        self.shortcut = _conv(channels, filters, 1, stride) if stride > 1 or channels != filters else None

    def forward(self, features: Tensor) -> Tensor:
        activated = F.relu(self.norm1(features))
        shortcut = features if self.shortcut is None else self.shortcut(activated)
        hidden = self.dropout(F.relu(self.norm2(self.conv1(activated))))
        outputs: Tensor = self.conv2(hidden) + shortcut
        return outputs


def _stages(channels: int, widths: Sequence[int], blocks: int, make: Callable[[int, int, int], nn.Module]) -> nn.ModuleList:
    """Return the blocks of all stages in order; `make` gets channels, filters and stride."""
    made = nn.ModuleList()
    for stage, filters in enumerate(widths):
        for number in range(blocks):
            made.append(make(channels, filters, 2 if stage and not number else 1))
            channels = filters
    return made


def _blocks_per_stage(depth: int, other_layers: int) -> int:
    blocks, rest = divmod(depth - other_layers, 2 * len(FILTERS))
    if blocks < 1 or rest:
        depths = [other_layers + 2 * len(FILTERS) * count for count in (1, 2, 3, 4)]
        raise ValueError(f"depth={depth}: must be 6n + {other_layers}: {', '.join(map(str, depths))}, …")
    return blocks


def _channels(input_shape: Sequence[int]) -> int:
    if len(input_shape) != 3:
        raise ValueError(f"reads pictures [H, W, C], not inputs of shape {list(input_shape)}")
    return input_shape[-1]


def _conv(channels: int, filters: int, kernel: int = 3, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    return convolution
