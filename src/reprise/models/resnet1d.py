"""Residual network for sequences.

Shapes: `B` batch, `T` time steps, `C` channels, `F` filters.
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

from reprise.models.padding import channels_of, clear_padding, mean_over_time, split_mask, valid_steps


class ResNet1d(nn.Module):
    """ResNet for time series: residual blocks of three convolutions, global average pooling, and a linear output.

    Maps `float32 [B, T, C]` to `[B, outputs]`. Source: Wang, Yan and Oates 2017, section II-C: filters 64, 128, 128 and kernels
    8, 5, 3. A shortcut between equally many filters is batch norm alone; otherwise a convolution of width 1 precedes it.

    In training, the statistics of batch norm include padded steps. Outside of training, padding does not change the outputs.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample.
        filters: number of filters of each block.
        kernels: widths of the convolutions in each block.
        masked: whether the last input channel is the mask of the valid steps, as for sequences of unequal length.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        filters: Sequence[int] = (64, 128, 128),
        kernels: Sequence[int] = (8, 5, 3),
        masked: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        for name, sizes in (("filters", filters), ("kernels", kernels)):
            if not sizes or min(sizes) < 1:
                raise ValueError(f"{name}={list(sizes)}: needs one or more values of at least 1")
        widths = [channels_of(input_shape, masked), *filters]
        self.masked = masked
        self.blocks = nn.ModuleList(_Block(*pair, kernels) for pair in itertools.pairwise(widths))
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map `[B, T, C]` to `[B, outputs]`. `lengths` `int64 [B]`: steps of each sequence before its padding; by default all."""
        inputs, lengths = split_mask(inputs, lengths, self.masked)
        features = inputs.transpose(1, 2)  # [B, C, T]
        mask = valid_steps(features, lengths)
        for block in self.blocks:
            features = block(features, mask)
        outputs: Tensor = self.head(mean_over_time(features, mask))
        return outputs


class _Block(nn.Module):
    """Convolutions with batch norm, ReLU between them, and a shortcut around them."""

    def __init__(self, channels: int, filters: int, kernels: Sequence[int]) -> None:
        super().__init__()
        widths = [channels] + [filters] * (len(kernels) - 1)
        self.convolutions = nn.ModuleList(
            same_conv(width, filters, kernel) for width, kernel in zip(widths, kernels, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(filters) for _ in kernels)
        expand = [nn.Conv1d(channels, filters, 1)] if channels != filters else []
        self.shortcut = nn.Sequential(*expand, nn.BatchNorm1d(filters))

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        shortcut, last = self.shortcut(features), len(self.norms) - 1
        for number, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            features = norm(convolution(clear_padding(features, mask)))
            if number < last:
                features = F.relu(features)
        return F.relu(features + shortcut)


def same_conv(channels: int, filters: int, kernel: int, bias: bool = True) -> nn.Module:
    """Return a convolution whose output is as long as its input. For an even kernel, the end is padded by one more step."""
    return nn.Sequential(nn.ZeroPad1d(((kernel - 1) // 2, kernel // 2)), nn.Conv1d(channels, filters, kernel, bias=bias))
