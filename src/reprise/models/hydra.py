"""Hydra: counts of which random convolution fits best, at each step, within its group.

Shapes: `B` batch, `T` time steps, `C` channels, `G` groups, `K` kernels of a group, `P` features.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

WIDTH = 9
"""Width of the kernels."""


class Hydra(nn.Module):
    """Features of competing random convolutions, `[B, T, C]` to `[B, P]`.

    Source: Dempster, Schmidt and Webb 2023, section 3. Half of the groups read the series, half its first difference, for every
    dilation 1, 2, 4, … at which a kernel fits into the series. At each step, the kernel of a group with the largest response adds
    its response to its feature (soft count), and the one with the smallest adds 1 to another (hard count). With several channels,
    each group reads the sum of some of them, as in the paper's repository.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        groups: number of groups `G` for each dilation; even.
        kernels: number of kernels `K` of a group.
        seed: seed of the kernels and of the choice of channels.

    Raises:
        ValueError: if an argument is invalid.

    """

    kernels: Tensor
    channels: Tensor

    def __init__(self, input_shape: Sequence[int], groups: int = 64, kernels: int = 8, seed: int = 0) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        if groups < 2 or groups % 2:
            raise ValueError(f"groups={groups}: must be even and at least 2")
        if kernels < 1:
            raise ValueError(f"kernels={kernels}: must be at least 1")
        steps, channels = (int(size) for size in input_shape)
        if steps < WIDTH + 1:
            raise ValueError(f"reads sequences of at least {WIDTH + 1} steps, not {steps}")
        self.dilations = [2**power for power in range(int(math.log2((steps - 1) / (WIDTH - 1))) + 1)]
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(len(self.dilations), 2, groups // 2, kernels, WIDTH, generator=generator)
        weights -= weights.mean(-1, keepdim=True)
        self.register_buffer("kernels", weights / weights.abs().sum(-1, keepdim=True))
        mixed = 1 if channels == 1 else min(max(channels // 2, 2), 8)
        shape = len(self.dilations), 2, groups // 2, mixed
        self.register_buffer("channels", torch.randint(channels, shape, generator=generator))
        self.features = len(self.dilations) * 2 * groups * kernels

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the counts `float32 [B, P]`: for each dilation, of the series and its difference, soft and hard counts."""
        series = inputs.transpose(1, 2)  # [B, C, T]
        features = []
        for number, dilation in enumerate(self.dilations):
            for order, source in enumerate((series, series.diff())):
                mixed = source[:, self.channels[number, order]].sum(2)  # [B, G, T]
                features.append(_counts(mixed, self.kernels[number, order], dilation))
        return torch.cat(features, dim=1)


def _counts(series: Tensor, kernels: Tensor, dilation: int) -> Tensor:
    """Return soft counts of the largest and hard counts of the smallest responses of `[B, G, T]`, `[B, 2 * G * K]`."""
    groups, count, width = kernels.shape
    weights = kernels.reshape(groups * count, 1, width)
    responses = F.conv1d(series, weights, dilation=dilation, padding=(width - 1) * dilation // 2, groups=groups)
    responses = torch.unflatten(responses, 1, (groups, count))  # [B, G, K, T]
    (largest, winners), losers = responses.max(2), responses.argmin(2)
    empty = torch.zeros_like(largest[..., :1]).expand(-1, -1, count)
    soft = empty.scatter_add(-1, winners, largest)
    hard = empty.scatter_add(-1, losers, torch.ones_like(largest))
    return torch.cat([soft, hard], dim=1).flatten(1)


class SparseScaler(nn.Module):
    """Square root, then standardisation of the values that are not 0 (Dempster, Schmidt and Webb 2023, section 3).

    A feature that is often 0 is divided by more: the share of zeros to the fourth power is added to its standard deviation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    def fit(self, features: Tensor) -> None:
        """Compute mean and standard deviation of the columns of `[N, P]`."""
        roots = features.clamp(min=0).sqrt()
        zeros = (roots == 0).float().mean(0)
        self.mean.copy_(roots.mean(0))
        self.std.copy_(roots.std(0, correction=min(1, len(roots) - 1)) + zeros**4 + 1e-8)

    def forward(self, features: Tensor) -> Tensor:
        """Return the scaled features `[N, P]`."""
        roots = features.clamp(min=0).sqrt()
        return (roots - self.mean) * (roots != 0) / self.std
