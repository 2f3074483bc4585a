"""MultiRocket: four statistics of many fixed convolutions, of a series and of its first difference.

Shapes: `B` batch, `T` time steps, `C` channels, `K` kernels (84), `Q` biases of each kernel at one dilation, `P` features.
"""

import itertools
import math
from collections import Counter
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

WIDTH, HEAVY = 9, 3
"""Width of the kernels, and how many of their weights are 2; the others are -1."""
KERNELS = math.comb(WIDTH, HEAVY)
MOST_DILATIONS, MOST_CHANNELS = 32, 9
POOLINGS = 4
VALUES_AT_ONCE = 2**24
"""Comparisons with biases held in memory at a time."""


class MultiRocket(nn.Module):
    """Features of fixed convolutions compared with biases, `[B, T, C]` to `[B, P]`.

    Source: Tan et al. 2022, section 3: kernels, dilations, paddings and biases of MiniRocket (Dempster, Schmidt and Webb
    2021) on the series and on its first difference. Four statistics of the response minus the bias: the proportion of positive
    values, the mean of positive values (0 if there are none), the mean of their indices (-1 if there are none), and the longest
    stretch of positive values. With several channels, each kernel reads the sum of some of them, a different choice at each
    dilation.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        features: number of biases of all kernels together, on the series and on the difference each; a multiple of 84 below it
            is used. There are four times as many features for each of the two.
        seed: seed of the training samples that give the biases, and of the choice of channels.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(self, input_shape: Sequence[int], features: int = 6250, seed: int = 0) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        if features < KERNELS:
            raise ValueError(f"features={features}: must be at least {KERNELS}")
        steps, channels = (int(size) for size in input_shape)
        if steps < WIDTH + 1:
            raise ValueError(f"reads sequences of at least {WIDTH + 1} steps, not {steps}")
        generator = torch.Generator().manual_seed(seed)
        self.parts = nn.ModuleList(_Convolutions(length, channels, features, generator) for length in (steps, steps - 1))
        self.features = 2 * POOLINGS * KERNELS * (features // KERNELS)
        self.seed = seed

    def fit(self, inputs: Tensor) -> None:
        """Set the biases to quantiles of the responses to random samples of `inputs` `[N, T, C]`."""
        series = inputs.transpose(1, 2)
        generator = torch.Generator().manual_seed(self.seed + 1)
        for part, source in zip(self.parts, (series, series.diff()), strict=True):
            assert isinstance(part, _Convolutions)
            part.fit(source, generator)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the statistics `float32 [B, P]`."""
        series = inputs.transpose(1, 2)  # [B, C, T]
        return torch.cat([part(source) for part, source in zip(self.parts, (series, series.diff()), strict=True)], dim=1)


class _Convolutions(nn.Module):
    """All kernels at all dilations of a series `[B, C, T]`, with their biases."""

    kernels: Tensor
    biases: Tensor
    mixing: Tensor

    def __init__(self, steps: int, channels: int, features: int, generator: torch.Generator) -> None:
        super().__init__()
        self.counts = bias_counts(steps, features // KERNELS)
        self.register_buffer("kernels", fixed_kernels(), persistent=False)
        self.register_buffer("mixing", _mixing(len(self.counts), channels, generator))  # [dilations, K, C]
        self.register_buffer("biases", torch.zeros(KERNELS, features // KERNELS))

    def fit(self, series: Tensor, generator: torch.Generator) -> None:
        quantiles = _low_discrepancy(self.biases.numel()).to(series.device)
        start = 0
        for number, (dilation, count) in enumerate(self.counts.items()):
            samples = torch.randint(len(series), (KERNELS,), generator=generator).to(series.device)
            responses = self._respond(series[samples], number, dilation).diagonal(dim1=0, dim2=1).T.contiguous()  # [K, T]
            levels = quantiles[KERNELS * start : KERNELS * (start + count)].reshape(KERNELS, count)
            self.biases[:, start : start + count] = _row_quantiles(responses, levels)
            start += count

    def forward(self, series: Tensor) -> Tensor:
        """Return the statistics `[B, 4 * K * biases]`."""
        if torch.compiler.is_exporting():  # blocks would fix the batch size
            return self._transform(series)
        per_sample = KERNELS * max(self.counts.values()) * series.shape[-1]
        blocks = torch.split(series, max(1, VALUES_AT_ONCE // per_sample))
        return torch.cat([self._transform(block) for block in blocks])

    def _transform(self, series: Tensor) -> Tensor:
        features, start = [], 0
        for number, (dilation, count) in enumerate(self.counts.items()):
            responses = self._respond(series, number, dilation)  # [B, K, T]
            biases, start = self.biases[:, start : start + count], start + count
            margin = (WIDTH - 1) * dilation // 2
            for parity, crop in ((0, 0), (1, margin)):  # every other kernel reads no padding
                own = slice((number + parity) % 2, None, 2)
                valid = responses[:, own, crop : responses.shape[-1] - crop]
                features.append(pool(valid, biases[own]).flatten(1))
        return torch.cat(features, dim=1)

    def _respond(self, series: Tensor, number: int, dilation: int) -> Tensor:
        """Return the responses of all kernels at one dilation `[B, K, T]`; beyond its ends, the series is 0."""
        weights = self.mixing[number].unsqueeze(-1) * self.kernels.unsqueeze(1)  # [K, C, width]
        return F.conv1d(series, weights, dilation=dilation, padding=(WIDTH - 1) * dilation // 2)


def fixed_kernels() -> Tensor:
    """Return the 84 kernels `[K, width]` of MiniRocket: six weights of -1 and three of 2."""
    kernels = torch.full((KERNELS, WIDTH), -1.0)
    for row, heavy in enumerate(itertools.combinations(range(WIDTH), HEAVY)):
        kernels[row, list(heavy)] = 2.0
    return kernels


def bias_counts(steps: int, total: int) -> dict[int, int]:
    """Return the dilations, and how many of the `total` biases of a kernel each has.

    Dilations are powers of 2 with equally spaced exponents, rounded down, up to the longest kernel that fits into the series
    (Dempster, Schmidt and Webb 2021, section 3.1). Equal ones share their biases; a remainder goes to the smallest dilations.
    """
    spaced = min(total, MOST_DILATIONS)
    exponents = torch.linspace(0, math.log2((steps - 1) / (WIDTH - 1)), spaced, dtype=torch.float64)
    counts = Counter(int(2 ** (exponent + 1e-12)) for exponent in exponents.tolist())
    shared = {dilation: int(count * total / spaced) for dilation, count in sorted(counts.items())}
    for dilation in itertools.islice(itertools.cycle(shared), total - sum(shared.values())):
        shared[dilation] += 1
    return shared


def pool(responses: Tensor, biases: Tensor) -> Tensor:
    """Return the four statistics of `[B, K, T]` minus each bias of `[K, Q]`, `[B, 4, K, Q]` (Tan et al. 2022, section 3.2)."""
    steps = responses.shape[-1]
    excess = responses.movedim(-1, 0).unsqueeze(-1) - biases  # [T, B, K, Q]
    positive = (excess > 0).to(excess.dtype)
    count = positive.sum(0)
    divisor = count.clamp(min=1)
    mean = excess.clamp(min=0).sum(0) / divisor
    indices = torch.arange(steps, device=excess.device, dtype=excess.dtype)
    index = torch.tensordot(indices, positive, dims=1) / divisor - (count == 0).to(excess.dtype)
    return torch.stack([count / steps, mean, index, _longest_stretch(positive)], dim=1)


def _longest_stretch(positive: Tensor) -> Tensor:
    """Return the largest number of consecutive ones along the first dimension."""
    if torch.compiler.is_exporting():  # one operation instead of three a step; 100 times slower on a CPU
        steps = torch.arange(len(positive), dtype=positive.dtype, device=positive.device).view(-1, 1, 1, 1)
        last_zero = torch.where(positive > 0, -1.0, steps).cummax(0).values
        return (steps - last_zero).amax(0)
    stretch, longest = torch.zeros_like(positive[0]), torch.zeros_like(positive[0])
    for step in positive:
        stretch = (stretch + 1) * step
        longest = torch.maximum(longest, stretch)
    return longest


def _low_discrepancy(count: int) -> Tensor:
    """Return multiples of the golden ratio modulo 1: quantiles spread evenly over kernels and dilations."""
    golden = (math.sqrt(5) + 1) / 2
    return (torch.arange(1, count + 1, dtype=torch.float64) * golden % 1).float()


def _row_quantiles(values: Tensor, levels: Tensor) -> Tensor:
    """Return the quantiles of each row of `[K, T]` at its own levels `[K, Q]`, linearly interpolated."""
    ordered = values.sort(dim=1).values
    position = levels * (values.shape[1] - 1)
    below = position.floor().long()
    above = (below + 1).clamp(max=values.shape[1] - 1)
    return torch.lerp(ordered.gather(1, below), ordered.gather(1, above), position - below)


def _mixing(dilations: int, channels: int, generator: torch.Generator) -> Tensor:
    """Return which channels each kernel reads at each dilation, ones and zeros `[dilations, K, C]`.

    Their number is a power of 2 with an exponent drawn uniformly, rounded down, and at most 9 (MiniRocket's multivariate form).
    """
    exponent = math.log2(min(channels, MOST_CHANNELS) + 1)
    counts = (2 ** (torch.rand(dilations, KERNELS, generator=generator) * exponent)).int().clamp(max=min(channels, MOST_CHANNELS))
    ranks = torch.rand(dilations, KERNELS, channels, generator=generator).argsort(-1).argsort(-1)
    return (ranks < counts.unsqueeze(-1)).float()
