"""Forecasts of each target channel from its own past: selection of the channels, and linear maps over time.

Shapes: `B` batch, `T` time steps of the lookback, `C` channels, `Y` target channels, `S` forecast steps (horizon). Inside these
networks, time is the last dimension: `[B, Y, T]`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class TargetChannels(nn.Module):
    """The past of the target channels: `[B, T, C]` to `[B, Y, T]`. Other channels are not read.

    Args:
        input_shape: shape of one sample, `[T, C]`.
        outputs: number of outputs per sample, `S * Y`.
        target_positions: positions of the target channels among the inputs; by default all channels, in order.

    Raises:
        ValueError: if the shape, the positions and the number of outputs do not fit each other.

    """

    positions: Tensor

    def __init__(self, input_shape: Sequence[int], outputs: int, target_positions: Sequence[int] | None = None) -> None:
        super().__init__()
        if len(input_shape) != 2:
            raise ValueError(f"reads sequences [T, C], not inputs of shape {list(input_shape)}")
        self.lookback, channels = (int(size) for size in input_shape)
        positions = list(range(channels)) if target_positions is None else list(target_positions)
        if not positions or min(positions) < 0 or max(positions) >= channels:
            raise ValueError(f"target_positions={positions}: needs positions of channels, 0 to {channels - 1}")
        if outputs % len(positions):
            raise ValueError(f"forecasts {len(positions)} channels, so {outputs} outputs are not a whole number of steps")
        self.channels, self.horizon = len(positions), outputs // len(positions)
        self.register_buffer("positions", torch.tensor(positions), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the past of the target channels `[B, Y, T]`."""
        return inputs.index_select(2, self.positions).transpose(1, 2)


def flatten_forecast(forecast: Tensor) -> Tensor:
    """Map a forecast `[B, Y, S]` to the outputs `[B, S * Y]`, as `[B, S, Y]` flattened."""
    return forecast.transpose(1, 2).flatten(1)


class TimeLinear(nn.Module):
    """A linear map over time, `[B, Y, T]` to `[B, Y, S]`: one for all channels, or an individual one for each.

    Weights and biases are drawn as by `torch.nn.Linear`.
    """

    def __init__(self, steps_in: int, steps_out: int, channels: int, individual: bool = False) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(steps_in, steps_out) for _ in range(channels if individual else 1))
        self.individual = individual

    def forward(self, series: Tensor) -> Tensor:
        """Return the mapped series `[B, Y, S]`."""
        if not self.individual:
            mapped: Tensor = self.maps[0](series)
            return mapped
        return torch.stack([channel_map(series[:, channel]) for channel, channel_map in enumerate(self.maps)], dim=1)


class Segments:
    """Sizes of a lookback and a horizon cut into segments of one period.

    The last `T // period` whole periods of the lookback are read. The horizon has `ceil(S / period)` segments; the steps of the
    last one beyond the horizon are dropped.

    Raises:
        ValueError: if the period is below 1 or longer than the lookback.

    """

    def __init__(self, lookback: int, horizon: int, period: int, name: str = "season") -> None:
        if not 1 <= period <= lookback:
            raise ValueError(f"{name}={period}: must be at least 1 and at most the lookback of {lookback} steps")
        self.period, self.horizon = period, horizon
        self.inputs, self.outputs = lookback // period, -(-horizon // period)

    def crop(self, series: Tensor) -> Tensor:
        """Return the last whole periods of `[B, Y, T]`."""
        return series[..., series.shape[-1] - self.inputs * self.period :]

    def split(self, series: Tensor) -> Tensor:
        """Return the values of each phase of the period, `[B, Y, period, inputs]`, of the cropped series `[B, Y, T]`."""
        return self.crop(series).reshape(*series.shape[:2], self.inputs, self.period).transpose(-1, -2)

    def join(self, segments: Tensor) -> Tensor:
        """Return the forecast `[B, Y, S]` of segments `[B, Y, period, outputs]`."""
        return segments.transpose(-1, -2).flatten(-2)[..., : self.horizon]


def steps_of_lookbacks(lookbacks: Sequence[int | float], longest: int, shortest: int) -> list[int]:
    """Return the number of steps of each lookback, from `shortest` to `longest`.

    A float is a fraction of the longest, rounded, and not below the shortest. Of equal lookbacks, one is kept.

    Raises:
        ValueError: if there is none, or one is not from `shortest` to `longest`.

    """
    if shortest > longest:
        raise ValueError(f"season={shortest}: must be at most the lookback of {longest} steps")
    counts = [max(round(one * longest), shortest) if isinstance(one, float) else one for one in lookbacks]
    if not counts or not shortest <= min(counts) <= max(counts) <= longest:
        raise ValueError(f"lookbacks={list(lookbacks)}: each must be from {shortest} to the window's lookback of {longest}")
    return list(dict.fromkeys(counts))
