"""Windows of a series as tensors: the dataset and the input transform.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.modalities.series.arrays import CALENDAR_SECONDS, Meta
from reprise.data.windows import Windows

NANOSECONDS = 10**9
"""Nanoseconds per second."""


class StandardizeWithCalendar(InputTransform):
    """Standardize values by channel and append calendar features: sine and cosine of the phase of each period.

    Args:
        mean: mean of each channel in the train split, float64 if float32 would lose differences between values.
        std: standard deviation of each channel.
        periods: lengths of the periods in seconds.

    """

    raw_inputs: ClassVar[tuple[str, ...]] = ("values", "time")
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, periods: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.periods = periods

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        """Return `float32 [B, T, C + 2 * periods]` of values `[B, T, C]` and time `int64 [B, T]`, nanoseconds since 1970."""
        # float64 resolves current dates only to 256 ns, so seconds and their fraction are converted separately
        seconds = torch.div(time, NANOSECONDS, rounding_mode="floor").double()
        fraction = torch.remainder(time, NANOSECONDS).double() / NANOSECONDS
        features = [standardize(values, self.mean, self.std)]
        for period in self.periods:
            phase = 2 * math.pi * (torch.remainder(seconds, period) + fraction) / period
            features.append(torch.stack([phase.sin(), phase.cos()], dim=-1).float())
        return torch.cat(features, dim=-1)


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of a series: `lookback` input steps, then `horizon` steps to forecast. Windows are views, never copies."""

    inputs: Tensor
    """The transformed series, `float32 [time, C]`."""
    starts: Tensor
    lookback: int
    horizon: int
    targets: list[int]
    """Positions of the target channels among the inputs."""
    values: Tensor
    """The series in its own units, float32 or float64 as stored, on the host."""
    time: Tensor
    """Time stamps `int64 [time]`, nanoseconds since 1970, on the host."""

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return values `[B, lookback, C]` and time stamps `[B, lookback]` of the input steps."""
        starts = self.starts[rows].cpu()
        values = self.values.unfold(0, self.lookback, 1)[starts].transpose(1, 2).contiguous()
        return values, self.time.unfold(0, self.lookback, 1)[starts]

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the input steps `[B, lookback, C]` and the target channels of the steps to forecast `[B, horizon, target]`."""
        assert augment is None, "a series is not augmented: the config refuses it"
        views = self.inputs.unfold(0, self.lookback + self.horizon, 1)  # [start, C, T], a view
        windows = views[self.starts[rows]].transpose(1, 2)
        return Batch(windows[:, : self.lookback].contiguous(), windows[:, self.lookback :, self.targets].contiguous())

    def to(self, device: torch.device) -> "SeriesWindows":
        """Return the split on a device."""
        return replace(self, inputs=self.inputs.to(device), starts=self.starts.to(device))

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return self.inputs.device

    @property
    def nbytes(self) -> int:
        """Size of the inputs in bytes."""
        return self.inputs.nbytes


def open_split(windows: Windows, split: str) -> SeriesWindows:
    """Return the windows of a split. Rows after the split are not read."""
    meta = windows.meta
    assert isinstance(meta, Meta)
    end = meta.borders[split]
    values = torch.from_numpy(np.array(windows.array("values")[:end, meta.input_columns]))
    time = torch.from_numpy(np.array(windows.array("time")[:end]))
    inputs = input_transform(meta)(values, time)
    starts = torch.from_numpy(windows.indices(split))
    return SeriesWindows(inputs, starts, meta.lookback, meta.horizon, meta.target_positions, values, time)


def input_transform(meta: WindowsMeta) -> StandardizeWithCalendar:
    """Return the standardization with the statistics of the train split, and the calendar features of the windows."""
    assert isinstance(meta, Meta)
    dtype = torch.float64 if meta.dtype == "float64" else torch.float32
    channels = len(meta.input_columns)  # the statistics of the calendar features, 0 and 1, follow
    mean, std = (torch.tensor(meta.statistics[key][:channels], dtype=dtype) for key in ("mean", "std"))
    return StandardizeWithCalendar(mean, std, [CALENDAR_SECONDS[feature] for feature in meta.calendar])


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    """Return the names of the channels, the window, and the units of the forecast."""
    assert isinstance(meta, Meta)
    return {
        "kind": meta.kind,
        "channels": meta.inputs[: len(meta.input_columns)],
        "calendar": list(meta.calendar),
        "lookback": meta.lookback,
        "horizon": meta.horizon,
        "frequency": meta.frequency,
        "targets": list(meta.targets),
        "units": dict(zip(meta.targets, meta.units, strict=True)),
    }
