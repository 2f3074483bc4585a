"""Windows of a series as tensors: the dataset and the input transform.

Shapes: `B` batch, `T` time steps, `C` channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from reprise.data import store
from reprise.data.contracts import WindowsMeta
from reprise.data.datasets import Augmentation, Batch, InputTransform, standardize
from reprise.data.modalities.series.arrays import BLOCK, Meta
from reprise.data.modalities.series.calendar import Calendar
from reprise.data.modalities.series.filled import ARRAY
from reprise.data.windows import Windows


class StandardizeWithCalendar(InputTransform):
    """Standardize values by channel and append calendar features.

    Args:
        mean: mean of each channel in the train split, float64 if float32 would lose differences between values.
        std: standard deviation of each channel.
        calendar: names of the calendar features, see `Calendar`.

    """

    raw_inputs: ClassVar[tuple[str, ...]] = ("values", "time")
    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, calendar: Sequence[str]) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.calendar = Calendar(list(calendar))

    def forward(self, values: Tensor, time: Tensor) -> Tensor:
        """Return `float32 [B, T, C + 2 * features]` of values `[B, T, C]` and time `int64 [B, T]`, nanoseconds since 1970."""
        scaled = standardize(values, self.mean, self.std)
        return torch.cat([scaled, self.calendar(time)], dim=-1) if self.calendar.features else scaled


class KnownAhead(InputTransform):
    """Inputs over lookback and horizon, for channels known in advance.

    At the steps of the horizon, channels that are not known repeat their last value, so that no later one is read.

    Args:
        steps: standardization of all channels, the known ones last, and calendar features.
        known: number of channels known in advance.
        horizon: number of steps to forecast.

    """

    raw_inputs: ClassVar[tuple[str, ...]] = ("values", "time", "known")

    def __init__(self, steps: StandardizeWithCalendar, known: int, horizon: int) -> None:
        super().__init__()
        self.steps, self.known, self.horizon = steps, known, horizon

    def forward(self, values: Tensor, time: Tensor, known: Tensor) -> Tensor:
        """Return `float32 [B, lookback + horizon, C + 2 * features]`.

        `values` `[B, lookback, C - known]` end with the lookback; time `int64` and known values `[B, lookback + horizon, known]`
        end with the horizon.
        """
        repeated = torch.cat([values, values[:, -1:].expand(-1, self.horizon, -1)], dim=1)
        inputs: Tensor = self.steps(torch.cat([repeated, known], dim=-1), time)
        return inputs


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of a series: `lookback` input steps, then `horizon` steps to forecast. Windows are views, never copies.

    If channels are known in advance, the steps of the horizon are inputs as well: see `KnownAhead`. Rows are those of the series
    from the first of the first window to the last of the last one.
    """

    inputs: Tensor
    """The transformed rows, `float32 [time, C]`."""
    starts: Tensor
    """The first row of each window."""
    lookback: int
    horizon: int
    targets: Tensor | None
    """Positions of the target channels among the inputs, `int64 [target]`; None if they are all inputs, in order."""
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64]
    """The rows in their own units, with all channels, memory-mapped."""
    time: npt.NDArray[np.int64]
    """Time stamps `[time]`, nanoseconds since 1970, memory-mapped."""
    columns: list[int]
    """Columns of `values` that are inputs, those known in advance last."""
    known: int = 0
    """Number of inputs that are known in advance."""
    missing: Tensor | None = None
    """Which targets are filled and not in the file, bool `[time, target]`; None if no target of these windows is."""

    def __len__(self) -> int:
        return len(self.starts)

    def raw(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return values `[B, lookback, C]` and time stamps `[B, lookback]` of the input steps.

        If channels are known in advance, return what `KnownAhead` takes.
        """
        reach = self.lookback + (self.horizon if self.known else 0)
        steps = self.starts[rows].cpu().numpy()[:, None] + np.arange(reach)
        past, known = self.columns[: len(self.columns) - self.known], self.columns[len(self.columns) - self.known :]
        values = np.ascontiguousarray(self.values[steps[:, : self.lookback]][..., past])
        raw = torch.from_numpy(values), torch.from_numpy(np.asarray(self.time[steps]))
        return (*raw, torch.from_numpy(np.ascontiguousarray(self.values[steps][..., known]))) if known else raw

    def gather(self, rows: Tensor, augment: Augmentation | None = None) -> Batch:
        """Return the input steps `[B, T, C]` and the target channels of the steps to forecast `[B, horizon, target]`.

        `T` is the lookback; if channels are known in advance, lookback + horizon. Missing targets are NaN.
        """
        assert augment is None, "a series is not augmented: the config refuses it"
        starts = self.starts[rows]
        targets = _steps(self.inputs, starts + self.lookback, self.horizon)
        if self.targets is not None:
            targets = targets.index_select(2, self.targets)
        if self.missing is not None:
            targets = targets.masked_fill(_steps(self.missing, starts + self.lookback, self.horizon), torch.nan)
        if not self.known:
            return Batch(_steps(self.inputs, starts, self.lookback), targets)
        windows, past = _steps(self.inputs, starts, self.lookback + self.horizon), len(self.columns) - self.known
        windows[:, self.lookback :, :past] = windows[:, self.lookback - 1 : self.lookback, :past].clone()
        return Batch(windows, targets)

    def to(self, device: torch.device) -> "SeriesWindows":
        """Return the split on a device."""
        moved: dict[str, Any] = {name: part.to(device) for name, part in vars(self).items() if isinstance(part, Tensor)}
        return replace(self, **moved)

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return self.inputs.device

    @property
    def nbytes(self) -> int:
        """Size of the inputs in bytes."""
        return self.inputs.nbytes

    @property
    def sample_nbytes(self) -> int:
        """Size of a window in bytes."""
        return (self.lookback + self.horizon) * self.inputs.shape[1] * self.inputs.itemsize


def _steps(series: Tensor, first: Tensor, count: int) -> Tensor:
    """Return `count` rows of `[T, C]` from each of the first rows on, `[B, count, C]`.

    The rows of a window are adjacent in memory: each is copied at once.
    """
    channels = series.shape[1]
    windows = series.reshape(-1).unfold(0, count * channels, channels)  # a view
    return windows.index_select(0, first).view(-1, count, channels)


def open_split(windows: Windows, split: str) -> SeriesWindows:
    """Return the windows of a split. Rows before its first and after its last window are not read."""
    meta = windows.meta
    assert isinstance(meta, Meta)
    starts = windows.indices(split)
    first, end = int(starts[0]), int(starts[-1]) + meta.lookback + meta.horizon
    starts = (starts - first).astype(np.int32 if end - first < 2**31 else np.int64)  # a long series has one for each row
    values, time = (windows.array(name)[first:end] for name in ("values", "time"))
    transform, inputs = _each_step(meta), torch.empty(end - first, len(meta.inputs))
    for begin in range(0, end - first, BLOCK):  # in blocks, so that only the inputs of the whole split are in memory
        block = slice(begin, begin + BLOCK)
        raw = torch.from_numpy(np.asarray(values[block, meta.input_columns])), torch.from_numpy(np.array(time[block]))
        inputs[block] = transform(*raw)
        del raw
        store.release_pages(values, time)
    missing = None
    if meta.missing_targets.get(split):
        missing = torch.from_numpy(np.array(windows.array(ARRAY)[first:end, meta.target_columns]))
    return SeriesWindows(
        inputs=inputs,
        starts=torch.from_numpy(starts),
        lookback=meta.lookback,
        horizon=meta.horizon,
        targets=None if meta.target_positions == [*range(len(meta.inputs))] else torch.tensor(meta.target_positions),
        values=values,
        time=time,
        columns=meta.input_columns,
        known=len(meta.known),
        missing=missing,
    )


def input_transform(meta: WindowsMeta) -> InputTransform:
    """Return the standardization with the statistics of the train split, and the calendar features of the windows."""
    assert isinstance(meta, Meta)
    return KnownAhead(_each_step(meta), len(meta.known), meta.horizon) if meta.known else _each_step(meta)


def _each_step(meta: Meta) -> StandardizeWithCalendar:
    """Return the transform of all input channels at each time step."""
    dtype = torch.float64 if meta.dtype == "float64" else torch.float32
    channels = len(meta.input_columns)  # the statistics of the calendar features, 0 and 1, follow
    mean, std = (torch.tensor(meta.statistics[key][:channels], dtype=dtype) for key in ("mean", "std"))
    return StandardizeWithCalendar(mean, std, meta.calendar)


def describe_inputs(meta: WindowsMeta) -> dict[str, Any]:
    """Return the names of the channels, the window, and the units of the forecast."""
    assert isinstance(meta, Meta)
    return {
        "kind": meta.kind,
        "channels": meta.inputs[: len(meta.input_columns) - len(meta.known)],
        **({"known": meta.known} if meta.known else {}),
        "calendar": list(meta.calendar),
        "lookback": meta.lookback,
        "horizon": meta.horizon,
        "frequency": meta.frequency,
        "targets": list(meta.targets),
        "units": dict(zip(meta.targets, meta.units, strict=True)),
    }
