"""Series on disk: reading, splitting into windows, and the statistics of the train split."""

from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.config.modalities.series import SeriesData, SeriesWindow
from reprise.config.own_tables import TableData
from reprise.data import formats, rounding, store
from reprise.data.audit import EPSILON, TOLERANCE, Floats, Moments
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modalities.series import cutting, defaults, own_table, splitting
from reprise.data.modalities.series.cutting import Member
from reprise.data.modalities.series.defaults import ResolvedWindow
from reprise.data.modality import Processed, Split
from reprise.data.published import read_files
from reprise.data.splits import Indices
from reprise.errors import UserError

BLOCK = 2**16
"""Number of time steps that are processed at once."""


class ChannelMeta(BaseModel):
    """Name and unit of a channel."""

    name: str
    unit: str


class SeriesRows(BaseModel):
    """Name and number of rows of one of several series."""

    name: str
    rows: int


class SeriesBorders(BaseModel):
    """The first row of one of several series, and the row after the last of each of its splits."""

    name: str
    start: int
    train: int
    val: int
    test: int

    @classmethod
    def of(cls, member: Member) -> Self:
        """Return the borders as rows of the arrays."""
        return cls(name=member.name, start=member.start, **{k: member.start + row for k, row in vars(member.borders).items()})


class SeriesArrays(ArraysMeta):
    """meta.json of a series."""

    channels: list[ChannelMeta]
    frequency: str
    series: list[SeriesRows] = Field(default=[])
    """The series in the order of their rows; empty if there is one."""


class Meta(WindowsMeta):
    """windows.json of a series."""

    lookback: int
    horizon: int
    borders: dict[str, int]
    """The row after the last of each split; empty if there are several series."""
    series: list[SeriesBorders] = Field(default=[], exclude_if=lambda series: not series)
    """The borders of each series if there are several."""
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

    def rows_before(self, rows: Indices) -> Indices:
        """Return how many rows of its own series precede each row."""
        if not self.series:
            return rows
        starts = np.array([one.start for one in self.series])
        before: Indices = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
        return before

    def targets_of_samples(self) -> dict[str, Any]:
        """Return the entries that decide the targets of a window."""
        return {"lookback": self.lookback, "horizon": self.horizon, "target_columns": self.target_columns}


def describe(data: DataConfig) -> dict[str, Any]:
    """Return the settings that decide the arrays. Arrays of earlier versions held seconds, and lack the time unit."""
    settings = data.model_dump(exclude={"limit", "sources", "mirror"})
    if isinstance(data, TableData):  # meta.json has the frequency of the series itself under the name of the setting
        settings["frequency_setting"] = settings.pop("frequency")
    return settings | {"time_unit": "ns"}


def list_sources(data: DataConfig) -> list[dict[str, Any]]:
    """Return the file of an own table with its sha256."""
    assert isinstance(data, TableData)
    return own_table.list_sources(data)


def sources_changed(data: DataConfig, folder: Path) -> str:
    """Return a reason if the file of an own table changed since the arrays in `folder` were made, else ""."""
    assert isinstance(data, TableData)
    return own_table.sources_changed(data, folder)


def read(data: DataConfig, raw: Path, console: Console) -> Processed:
    """Return `values` float32 or float64 [time, channel] and `time` int64 [time], nanoseconds since 1970 (UTC).

    Of an own table also `filled` bool [time, channel]: the cells that are not in the file.
    """
    if isinstance(data, TableData):
        return own_table.read(data, console)
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
    """Split each series by time into train, val and test, each cut into windows whose targets stay inside it.

    Unless `lookback_crosses` is set, the lookback stays inside as well.
    """
    assert isinstance(window, SeriesWindow)
    meta = SeriesArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`")
    values = store.open_array(arrays / "values.npy")
    rows = {one.name: one.rows for one in meta.series} or {"": len(values)}
    given, window = window, defaults.resolve(window, meta.frequency, min(rows.values()))
    names = [channel.name for channel in meta.channels]
    _check_channels(window, names, meta.name)
    inputs = window.inputs or names
    targets = window.targets or inputs
    if missing := [target for target in targets if target not in inputs]:
        raise UserError(
            f"window.targets={missing[0]}: not among window.inputs",
            "a forecast starts from the past of its own channel",
        )
    members = cutting.members_of(window, rows, store.open_array(arrays / "time.npy"))
    parts = cutting.cut(window, members)
    columns = [names.index(name) for name in inputs]
    trained = [(member.start, member.start + member.borders.train) for member in members]
    fitted = splitting.series_statistics(values[:, columns], cutting.train_spans(parts["train"], trained))
    _check_targets_vary(targets, names, values)
    checks = cutting.audit(parts, members, window)
    described_series = [SeriesBorders.of(member) for member in members] if len(members) > 1 else []
    extra = 2 * len(window.calendar)  # sine and cosine are already bounded by 1: not normalised
    positions = [inputs.index(name) for name in targets]
    described = Meta(
        kind="series",
        input_shape=[window.lookback, len(inputs) + extra],
        lookback=window.lookback,
        horizon=window.horizon,
        borders={} if described_series else vars(members[0].borders),
        series=described_series,
        inputs=inputs + [f"{feature}_{part}" for feature in window.calendar for part in ("sin", "cos")],
        input_columns=columns,
        calendar=list(window.calendar),
        targets=targets,
        target_positions=positions,
        target_columns=[names.index(name) for name in targets],
        units=[meta.channels[names.index(name)].unit for name in targets],
        season=window.season,
        frequency=meta.frequency,
        dtype="float64" if values.dtype == np.float64 else "float32",
        notes=[
            *defaults.notes(given, window, meta.frequency, min(rows.values())),
            *own_table.notes_of_filled_targets(arrays, parts, window.lookback, window.horizon, targets, names),
            *_precision_notes(values, columns, inputs, fitted),
            *_target_notes(targets, [fitted["naive_mae"][position] for position in positions]),
            *_baseline_notes(window, min(int(member.own(parts["test"])[0]) for member in members) + window.lookback),
        ],
        statistics={
            "mean": fitted["mean"] + [0.0] * extra,
            "std": fitted["std"] + [1.0] * extra,
            "naive_mae": [fitted["naive_mae"][position] for position in positions],
        },
    )
    return Split(parts, described, checks)


def _check_channels(window: SeriesWindow, names: list[str], data: str) -> None:
    """Check that the series has the channels. The config is checked before, but it need not name the columns of an own table."""
    for key, chosen in (("inputs", window.inputs or []), ("targets", window.targets or [])):
        for channel in chosen:
            if channel not in names:
                raise UserError(f"window.{key} names {channel!r}", f"data={data} has {', '.join(names)}")


def _precision_notes(values: npt.NDArray[Any], columns: list[int], names: list[str], fitted: dict[str, list[float]]) -> list[str]:
    """Return a note on each input channel of which float32, the precision of the inputs, loses differences."""
    notes = []
    for position, (column, name) in enumerate(zip(columns, names, strict=True)):
        scaled = (values[:, column].astype(np.float64) - fitted["mean"][position]) / fitted["std"][position]
        if rounding.rounding_share(scaled, scaled.astype(np.float32).astype(np.float64)) > rounding.LOST:
            notes.append(
                f"{name}: its steps are small compared with its range, and float32, the precision of the inputs, loses a tenth "
                "of them or more; forecast its differences or its logarithm"
            )
    return notes


def _target_notes(targets: list[str], naive_mae: list[float]) -> list[str]:
    """Return a note on each target whose metrics are undefined."""
    return [
        f"window.targets={target}: constant in the training split, so nothing of it can be learned; its mase and its "
        "scaled errors are undefined and left out"
        for target, naive in zip(targets, naive_mae, strict=True)
        if naive == 0
    ]


def _baseline_notes(window: ResolvedWindow, first_forecast: int) -> list[str]:
    """Return notes on baselines that are left out. `first_forecast` is the row of the first forecast in test."""
    notes = []
    if first_forecast < window.season:
        reach = f"the series reaches back {first_forecast} steps from test"
        notes.append(f"window.season={window.season}: {reach}, so the seasonal-naive forecast is left out")
    if window.lookback < window.season:
        notes.append(f"window.lookback={window.lookback}: shorter than window.season, so the seasonal-mean forecast is left out")
    return notes


def _check_targets_vary(targets: list[str], names: list[str], values: npt.NDArray[Any]) -> None:
    """Check that no target has the same value at every time step.

    Raises:
        UserError: when one has. It names the target.

    """
    for target in targets:
        series = values[:, names.index(target)]
        if series.min() == series.max():
            raise UserError(f"window.targets={target}: all its values are {series[0]:g}", "name a channel that varies")


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the statistics of the train split by running moments, and their rounding tolerances.

    mean and std of the input channels (calendar features are not scaled), naive_mae of the targets: their mean absolute step.
    """
    assert isinstance(meta, Meta)
    values = store.open_array(arrays / "values.npy")
    borders = [(one.start, one.train) for one in meta.series] or [(0, meta.borders["train"])]
    parts = [values[slice(*span)] for span in cutting.train_spans(train, borders)]
    blocks = [(rows, start) for rows in parts for start in range(0, len(rows), BLOCK)]
    moments = Moments.of(rows[start : start + BLOCK, meta.input_columns].astype(np.float64) for rows, start in blocks)
    steps = Moments.of(
        np.abs(np.diff(rows[start : start + BLOCK + 1, meta.target_columns].astype(np.float64), axis=0))
        for rows, start in blocks
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
