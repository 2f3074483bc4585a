"""Linear forecasts of each target channel from its own lookback.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon).

All networks of this module map `float32 [B, T, C]` to `[B, S * Y]` and share these arguments: `input_shape`, `[T, C]`; `outputs`,
`S * Y`; `target_positions`, the positions of the target channels among the inputs (by default all); `individual`, whether each
channel has weights of its own.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from reprise.models.channels import TargetChannels, TimeLinear, flatten_forecast
from reprise.models.revin import RevIN


class Linear(nn.Module):
    """One linear map from the lookback to the horizon (Zeng et al. 2023, section 4, LTSF-Linear)."""

    def __init__(
        self, input_shape: Sequence[int], outputs: int, target_positions: Sequence[int] | None = None, individual: bool = False
    ) -> None:
        super().__init__()
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.linear = TimeLinear(self.targets.lookback, self.targets.horizon, self.targets.channels, individual)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        return flatten_forecast(self.linear(self.targets(inputs)))


class NLinear(nn.Module):
    """Linear on the difference from the last value of the lookback, which is added back (Zeng et al. 2023, section 4)."""

    def __init__(
        self, input_shape: Sequence[int], outputs: int, target_positions: Sequence[int] | None = None, individual: bool = False
    ) -> None:
        super().__init__()
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.linear = TimeLinear(self.targets.lookback, self.targets.horizon, self.targets.channels, individual)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series = self.targets(inputs)
        last = series[..., -1:].detach()
        return flatten_forecast(self.linear(series - last) + last)


class DLinear(nn.Module):
    """The sum of a linear map of the trend and one of the remainder (Zeng et al. 2023, section 4).

    The trend is the moving average over `kernel` steps, with the first and the last value repeated beyond the lookback.

    Raises:
        ValueError: if `kernel` is even or below 1.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        individual: bool = False,
        kernel: int = 25,
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel={kernel}: must be odd and at least 1")
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.average = nn.Sequential(nn.ReplicationPad1d(kernel // 2), nn.AvgPool1d(kernel, stride=1))
        sizes = self.targets.lookback, self.targets.horizon, self.targets.channels, individual
        self.trend, self.remainder = TimeLinear(*sizes), TimeLinear(*sizes)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series = self.targets(inputs)
        trend = self.average(series)
        return flatten_forecast(self.trend(trend) + self.remainder(series - trend))


class RLinear(nn.Module):
    """Linear between reversible instance normalization and its inverse (Li et al. 2023; `RevIN`).

    Args:
        affine: whether RevIN has a learned scale and shift of each channel.
        dropout: probability with which a normalized input value is set to 0 in training.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        individual: bool = False,
        affine: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout}: must be at least 0 and below 1")
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.revin = RevIN(self.targets.channels, affine)
        self.dropout = nn.Dropout(dropout)
        self.linear = TimeLinear(self.targets.lookback, self.targets.horizon, self.targets.channels, individual)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        series, mean, std = self.revin.normalize(self.targets(inputs))
        forecast: Tensor = self.revin.denormalize(self.linear(self.dropout(series)), mean, std)
        return flatten_forecast(forecast)
