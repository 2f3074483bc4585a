"""Inception network for sequences.

Shapes: `B` batch, `T` time steps, `C` channels, `F` filters.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

from reprise.models.padding import channels_of, clear_padding, mean_over_time, split_mask, valid_steps
from reprise.models.resnet1d import same_conv

RESIDUAL_EVERY = 3
"""Modules between two shortcuts."""


class InceptionTime(nn.Module):
    """One network of InceptionTime: inception modules with shortcuts, global average pooling, and a linear output.

    Maps `float32 [B, T, C]` to `[B, outputs]`. Source: Ismail Fawaz et al. 2020, section 3 and figure 1: six modules with
    kernels 10, 20 and 40, 32 filters, bottleneck 32, and a shortcut around every third module. InceptionTime itself is the mean
    of five such networks trained from different seeds.

    In training, the statistics of batch norm include padded steps. Outside of training, padding does not change the outputs.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample.
        depth: number of inception modules.
        filters: number of filters of each of the four branches of a module.
        bottleneck: number of channels that a module with several input channels reduces them to.
        kernels: widths of the parallel convolutions.
        masked: whether the last input channel is the mask of the valid steps, as for sequences of unequal length.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        depth: int = 6,
        filters: int = 32,
        bottleneck: int = 32,
        kernels: Sequence[int] = (40, 20, 10),
        masked: bool = False,
    ) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        for name, size in (("depth", depth), ("filters", filters), ("bottleneck", bottleneck)):
            if size < 1:
                raise ValueError(f"{name}={size}: must be at least 1")
        if not kernels or min(kernels) < 1:
            raise ValueError(f"kernels={list(kernels)}: needs one or more values of at least 1")
        width = filters * (len(kernels) + 1)
        widths = [channels_of(input_shape, masked)] + [width] * depth
        self.masked = masked
        self.blocks = nn.ModuleList(_Inception(channels, filters, bottleneck, kernels) for channels in widths[:depth])
        self.shortcuts = nn.ModuleList(
            nn.Sequential(nn.Conv1d(channels, width, 1, bias=False), nn.BatchNorm1d(width))
            for channels in widths[: depth - RESIDUAL_EVERY + 1 : RESIDUAL_EVERY]
        )
        self.head = nn.Linear(width, outputs)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map `[B, T, C]` to `[B, outputs]`. `lengths` `int64 [B]`: steps of each sequence before its padding; by default all."""
        inputs, lengths = split_mask(inputs, lengths, self.masked)
        features = inputs.transpose(1, 2)  # [B, C, T]
        mask = valid_steps(features, lengths)
        shortcuts, residual = iter(self.shortcuts), features
        for number, block in enumerate(self.blocks, 1):
            features = block(features, mask)
            if number % RESIDUAL_EVERY == 0:
                residual = features = F.relu(features + next(shortcuts)(residual))
        outputs: Tensor = self.head(mean_over_time(features, mask))
        return outputs


class _Inception(nn.Module):
    """Parallel convolutions after a bottleneck, and one of width 1 after max pooling; concatenated, batch norm, ReLU."""

    def __init__(self, channels: int, filters: int, bottleneck: int, kernels: Sequence[int]) -> None:
        super().__init__()
        self.bottleneck = nn.Conv1d(channels, bottleneck, 1, bias=False) if channels > 1 else nn.Identity()
        width = bottleneck if channels > 1 else channels
        self.convolutions = nn.ModuleList(same_conv(width, filters, kernel, bias=False) for kernel in kernels)
        self.pool = nn.MaxPool1d(3, stride=1, padding=1)
        self.after_pool = nn.Conv1d(channels, filters, 1, bias=False)
        self.norm = nn.BatchNorm1d(filters * (len(kernels) + 1))

    def forward(self, features: Tensor, mask: Tensor | None) -> Tensor:
        narrow = self.bottleneck(clear_padding(features, mask))
        pooled = clear_padding(self.pool(clear_padding(features, mask, float("-inf"))), mask)
        branches = [convolution(narrow) for convolution in self.convolutions]
        return F.relu(self.norm(torch.cat([*branches, self.after_pool(pooled)], dim=1)))
