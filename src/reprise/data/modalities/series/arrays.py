"""Series on disk: reading, splitting into windows, and the statistics of the train split."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.config.modalities.series import SeriesData, SeriesWindow
from reprise.data import formats, rounding, splits, store
from reprise.data.audit import EPSILON, TOLERANCE, Floats, Moments
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modalities.series import splitting
from reprise.data.modality import Processed, Split
from reprise.data.published import read_files
from reprise.data.splits import Indices
from reprise.errors import UserError

CALENDAR_SECONDS = {"year": 365.2425 * 86_400}
"""Length of the period of each calendar feature in seconds; the mean length of a year in the Gregorian calendar."""
BLOCK = 2**16
"""Number of time steps that are read at once to recompute the statistics."""


class ChannelMeta(BaseModel):
    """Name and unit of a channel."""

    name: str
    unit: str


class SeriesArrays(ArraysMeta):
    """meta.json of a series."""

    channels: list[ChannelMeta]
    frequency: str


class Meta(WindowsMeta):
    """windows.json of a series."""

    lookback: int
    horizon: int
    borders: dict[str, int]
    """The row after the last of each split."""
    inputs: list[str]
    """Names of the input channels, then of the calendar features."""
    input_columns: list[int]
    """Columns of the arrays that are inputs."""
    calendar: list[str]
    targets: list[str]
    target_positions: list[int]
    """Positions of the targets among the inputs."""
    target_columns: list[int]
    """Columns of the arrays that are targets."""
    units: list[str]
    """Units of the targets."""
    season: int
    frequency: str
    dtype: Literal["float32", "float64"] = "float32"
    """float64 if float32 would lose differences between values."""

    def network_arguments(self) -> dict[str, Any]:
        """Return the positions of the target channels among the inputs, and the length of the season in time steps."""
        return {"target_positions": self.target_positions, "season": self.season}

    def targets_of_samples(self) -> dict[str, Any]:
        """Return the entries that decide the targets of a window."""
        return {"lookback": self.lookback, "horizon": self.horizon, "target_columns": self.target_columns}


def describe(data: DataConfig) -> dict[str, Any]:
    """Return the settings that decide the arrays. Arrays of earlier versions held seconds, and lack the time unit."""
    return data.model_dump(exclude={"limit", "sources", "mirror"}) | {"time_unit": "ns"}


def list_sources(data: DataConfig) -> list[dict[str, Any]]:
    """Not called: every series is published data."""
    raise NotImplementedError


def sources_changed(data: DataConfig, folder: Path) -> str:
    """Not called: every series is published data."""
    raise NotImplementedError


def read(data: DataConfig, raw: Path, console: Console) -> Processed:
    """Return `values` float32 or float64 [time, channel] and `time` int64 [time], nanoseconds since 1970 (UTC)."""
    assert isinstance(data, SeriesData)
    (name, content), *further = read_files(data, raw).items()
    if further:
        raise UserError(f"conf/data/{data.name}.yaml: a series is one file, not {1 + len(further)}")
    series = formats.read_csv_series(content, name, data.time, [channel.name for channel in data.channels])
    notes = [f"frequency {series.frequency.alias}"]
    if series.frequency.unit:
        notes.append(f"time steps are equal but for rounding to {series.frequency.unit / 1e6:g} ms")
    if series.float64_channels:
        notes.append(f"float32 would erase differences of {', '.join(series.float64_channels)}: stored as float64")
    console.print(f"preprocess  {data.name}: {'; '.join(notes)}", highlight=False, markup=False, soft_wrap=True)
    meta = {
        "frequency": series.frequency.alias,
        "time_rounding_ns": series.frequency.unit,
        "dtype": str(series.values.dtype),
        "float64_channels": series.float64_channels,
    }
    return Processed({"time": series.time, "values": series.values}, meta)


def split(window: WindowConfig, arrays: Path) -> Split:
    """Split the series by time into train, val and test, each cut into windows that stay inside it."""
    assert isinstance(window, SeriesWindow)
    meta = SeriesArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`")
    values = store.open_array(arrays / "values.npy")
    names = [channel.name for channel in meta.channels]
    inputs = window.inputs or names
    if missing := [target for target in window.targets if target not in inputs]:
        raise UserError(
            f"window.targets={missing[0]}: not among window.inputs",
            "a forecast starts from the past of its own channel",
        )
    borders = splits.time_borders(len(values), window.val_size, window.test_size)
    size = window.lookback + window.horizon
    stride = {"train": window.stride, "val": 1, "test": 1}  # evaluate on every window
    parts = {name: splits.window_starts(borders.span(name), size, stride[name]) for name in splits.SPLITS}
    if empty := [name for name, starts in parts.items() if not len(starts)]:
        raise _too_short(empty[0], borders, window)
    if window.limit:
        parts["train"] = parts["train"][-window.limit :]
    first = int(parts["train"][0])
    columns = [names.index(name) for name in inputs]
    fitted = splitting.series_statistics(values[:, columns], (first, borders.train))
    _check_targets_vary(window, names, values)
    checks = splitting.audit_series(parts, borders, size)
    extra = 2 * len(window.calendar)  # sine and cosine are already bounded by 1: not normalised
    targets = [inputs.index(name) for name in window.targets]
    described = Meta(
        kind="series",
        input_shape=[window.lookback, len(inputs) + extra],
        lookback=window.lookback,
        horizon=window.horizon,
        borders={"train": borders.train, "val": borders.val, "test": borders.test},
        inputs=inputs + [f"{feature}_{part}" for feature in window.calendar for part in ("sin", "cos")],
        input_columns=columns,
        calendar=list(window.calendar),
        targets=window.targets,
        target_positions=targets,
        target_columns=[names.index(name) for name in window.targets],
        units=[meta.channels[names.index(name)].unit for name in window.targets],
        season=window.season,
        frequency=meta.frequency,
        dtype="float64" if values.dtype == np.float64 else "float32",
        notes=_notes(window, values[:, columns], inputs, fitted, int(parts["test"][0]) + window.lookback),
        statistics={
            "mean": fitted["mean"] + [0.0] * extra,
            "std": fitted["std"] + [1.0] * extra,
            "naive_mae": [fitted["naive_mae"][position] for position in targets],
        },
    )
    return Split(parts, described, checks)


def _too_short(split: str, borders: splits.Borders, window: SeriesWindow) -> UserError:
    """Return the error for a split that is shorter than one window. It names the settings to change."""
    start, stop = borders.span(split)
    size = window.lookback + window.horizon
    too_long = [key for key in ("horizon", "lookback") if getattr(window, key) >= stop - start]
    larger = "make window.val_size or window.test_size smaller" if split == "train" else f"window.{split}_size larger"
    return UserError(
        f"the {split} split has {stop - start} time steps, no room for a window of {size}: "
        f"window.lookback={window.lookback} and window.horizon={window.horizon}",
        f"make window.{too_long[0] if too_long else 'lookback or window.horizon'} smaller, or {larger}",
    )


def _notes(
    window: SeriesWindow,
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    names: list[str],
    fitted: dict[str, list[float]],
    first_forecast: int,
) -> list[str]:
    """Return notes on lost precision and on metrics and forecasts that are left out.

    `values` are the input channels, `first_forecast` is the row of the first forecast in test.
    """
    mean, std = (np.array(fitted[key]) for key in ("mean", "std"))
    scaled = (values.astype(np.float64) - mean) / std
    as_input = scaled.astype(np.float32).astype(np.float64)
    lost = [
        name
        for column, name in enumerate(names)
        if rounding.rounding_share(scaled[:, column], as_input[:, column]) > rounding.LOST
    ]
    notes = [
        f"{name}: its steps are small compared with its range, and float32, the precision of the inputs, loses a tenth of them "
        "or more; forecast its differences or its logarithm"
        for name in lost
    ]
    notes += [
        f"window.targets={target}: constant in the training split, so nothing of it can be learned; its mase and its "
        "scaled errors are undefined and left out"
        for target in window.targets
        if fitted["naive_mae"][names.index(target)] == 0
    ]
    if first_forecast < window.season:
        reach = f"the series reaches back {first_forecast} steps from test"
        notes.append(f"window.season={window.season}: {reach}, so the seasonal-naive forecast is left out")
    return notes


def _check_targets_vary(window: SeriesWindow, names: list[str], values: npt.NDArray[Any]) -> None:
    """Check that no target has the same value at every time step.

    Raises:
        UserError: when one has. It names the target.

    """
    for target in window.targets:
        series = values[:, names.index(target)]
        if series.min() == series.max():
            raise UserError(f"window.targets={target}: all its values are {series[0]:g}", "name a channel that varies")


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the statistics of the train split by running moments, and their rounding tolerances.

    mean and std of the input channels (calendar features are not scaled), naive_mae of the targets: their mean absolute step.
    """
    assert isinstance(meta, Meta)
    rows = store.open_array(arrays / "values.npy")[train[0] : meta.borders["train"]]
    starts = range(0, len(rows), BLOCK)
    moments = Moments.of(rows[start : start + BLOCK, meta.input_columns].astype(np.float64) for start in starts)
    targets = rows[:, meta.target_columns]
    steps = Moments.of(
        np.abs(np.diff(targets[start : start + BLOCK + 1].astype(np.float64), axis=0))
        for start in starts
        if start + 1 < len(rows)
    )
    features = np.zeros(len(meta.inputs) - len(meta.input_columns))
    found = {
        "mean": np.concatenate([moments.mean, features]),
        "std": np.concatenate([moments.std, features + 1]),
        "naive_mae": steps.mean,
    }
    step = TOLERANCE * found["std"] + 4 * EPSILON * np.abs(found["mean"])
    return found, {"mean": step, "std": step, "naive_mae": step[meta.target_positions]}
