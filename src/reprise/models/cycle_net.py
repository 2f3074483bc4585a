"""CycleNet: a learned cycle, and a network that forecasts the remainder.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reprise.models.channels import TargetChannels, flatten_forecast
from reprise.models.revin import RevIN


class CycleNet(nn.Module):
    """A learned cycle of each channel is subtracted from the lookback, the remainder is forecast, and the cycle is added back.

    Maps `float32 [B, T, C]` to `[B, S * Y]`. Source: Lin et al. 2024 (NeurIPS), section 3; linear, or with one hidden layer. As
    in its repository, windows are normalized by their own mean and standard deviation before the cycle is subtracted.

    The network must know at which phase of the cycle a window starts, and reads it from the first step of input channels.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all but the phase.
        cycle: steps of a cycle.
        phase_channels: position of the channel that holds the phase as a number of steps, not standardised; or positions of two
            channels that hold sine and cosine of the phase (a calendar feature of the same period). Negative positions count from
            the last channel. By default the last two channels.
        hidden: features of the hidden layer; 0 for a linear map.
        normalize: whether windows are normalized by their own mean and standard deviation.

    Raises:
        ValueError: if an argument is invalid.

    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        target_positions: Sequence[int] | None = None,
        cycle: int = 24,
        phase_channels: Sequence[int] = (-2, -1),
        hidden: int = 0,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        if cycle < 1:
            raise ValueError(f"cycle={cycle}: must be at least 1")
        if hidden < 0:
            raise ValueError(f"hidden={hidden}: must be at least 0")
        self.cycle, self.phase_channels = cycle, _positions(phase_channels, input_shape[1])
        if target_positions is None:
            target_positions = [channel for channel in range(input_shape[1]) if channel not in self.phase_channels]
        self.targets = TargetChannels(input_shape, outputs, target_positions)
        self.revin = RevIN(self.targets.channels, affine=False) if normalize else None
        self.pattern = nn.Parameter(torch.zeros(self.targets.channels, cycle))
        sizes = self.targets.lookback, self.targets.horizon
        self.map: nn.Module = nn.Linear(*sizes)
        if hidden:
            self.map = nn.Sequential(nn.Linear(sizes[0], hidden), nn.ReLU(), nn.Linear(hidden, sizes[1]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Map `[B, T, C]` to `[B, S * Y]`."""
        phase = self._phase(inputs[:, 0])
        past, future = (
            self._pattern(phase, self.targets.lookback),
            self._pattern(phase + self.targets.lookback, self.targets.horizon),
        )
        series = self.targets(inputs)  # [B, Y, T]
        if self.revin is None:
            return flatten_forecast(self.map(series - past) + future)
        series, mean, std = self.revin.normalize(series)
        return flatten_forecast(self.revin.denormalize(self.map(series - past) + future, mean, std))

    def _phase(self, first: Tensor) -> Tensor:
        """Return the phase of the first step `[B, C]`, `int64 [B]`."""
        channels = [first[:, channel] for channel in self.phase_channels]
        steps = channels[0] if len(channels) == 1 else torch.atan2(*channels) * (self.cycle / math.tau)
        return steps.round().long()

    def _pattern(self, phase: Tensor, steps: int) -> Tensor:
        """Return the cycle of each channel from `phase` on, `[B, Y, steps]`."""
        index = (phase[:, None] + torch.arange(steps, device=phase.device)) % self.cycle
        return self.pattern[:, index].transpose(0, 1)


def _positions(channels: Sequence[int], count: int) -> list[int]:
    positions = [channel + count if channel < 0 else channel for channel in channels]
    if len(positions) not in {1, 2} or min(positions) < 0 or max(positions) >= count:
        raise ValueError(f"phase_channels={list(channels)}: needs one or two positions among the {count} input channels")
    return positions
