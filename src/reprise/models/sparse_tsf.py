"""SparseTSF: a forecast of each phase of the period from its own past.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 -- the name everybody uses
from torch import Tensor, nn

from reprise.models.channels import Segments, TargetChannels, flatten_forecast


class SparseTSF(nn.Module):
    """One small map from past to future periods, shared by all phases of the period and all channels.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. Source: Lin et al. 2024 (ICML, section 3) and, with a hidden layer, Lin et al. 2025
    (TPAMI, SparseTSF/MLP): the mean of the lookback is subtracted and added back, and a convolution over about one period is
    added to the series before it is cut into periods.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all.
        season: steps of a period.
        hidden: features of the hidden layer; 0 for a linear map.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        season: int = 24,
        hidden: int = 0,
    ) -> None:
        super().__init__()
        if hidden < 0:
            raise ValueError(f"hidden={hidden}: must be at least 0")
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.segments = Segments(self.targets.lookback, self.targets.horizon, season)
        self.aggregate = _SeasonConv(season)
        sizes = self.segments.inputs, self.segments.outputs
        self.map: nn.Module = nn.Linear(*sizes, bias=False)
        if hidden:
            self.map = nn.Sequential(nn.Linear(sizes[0], hidden), nn.ReLU(), nn.Linear(hidden, sizes[1]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series = self.segments.crop(self.targets(inputs))  # [B, Y, T]
        mean = series.mean(-1, keepdim=True)
        series = series - mean
        return flatten_forecast(self.segments.join(self.map(self.segments.split(series + self.aggregate(series)))) + mean)


class _SeasonConv(nn.Module):
    """A convolution over about one period of `[B, Y, T]`, where `T` is a multiple of the period; beyond its ends the series is 0.

    It is computed for a whole period at a time, as a product with the matrix of shifted kernels: on a CPU, several times faster
    than a convolution of one channel.
    """

    index: Tensor

    def __init__(self, period: int) -> None:
        super().__init__()
        self.period, self.margin = period, period // 2
        width = 1 + 2 * self.margin
        self.weight = nn.Parameter(nn.Conv1d(1, 1, width, bias=False).weight.detach().flatten())
        shift = torch.arange(period + 2 * self.margin)[:, None] - torch.arange(period)
        self.register_buffer("index", torch.where((shift >= 0) & (shift < width), shift, width), persistent=False)

    def forward(self, series: Tensor) -> Tensor:
        # [period + 2 * margin, period]: the kernel in each column, one row lower than in the column before
        kernels = F.pad(self.weight, (0, 1))[self.index]
        blocks = F.pad(series, (self.margin, self.margin)).unfold(-1, self.period + 2 * self.margin, self.period)
        return (blocks @ kernels).flatten(-2)
