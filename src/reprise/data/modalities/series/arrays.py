"""Series on disk: reading, splitting into windows, and the statistics of the train split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, Field
from rich.console import Console

from reprise.config import DataConfig, WindowConfig
from reprise.config.modalities.series import SeriesData, SeriesWindow
from reprise.config.own_tables import TableData
from reprise.data import formats, store
from reprise.data.audit import EPSILON, TOLERANCE, Floats, Moments
from reprise.data.contracts import ArraysMeta, WindowsMeta
from reprise.data.modalities.series import channels, cutting, defaults, own_table, splitting
from reprise.data.modalities.series import filled as filled_cells
from reprise.data.modalities.series import notes as series_notes
from reprise.data.modalities.series.cutting import Member
from reprise.data.modalities.series.static import Categories
from reprise.data.modalities.series.static import channels_of as static_channels
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
    known_channels: list[str] = Field(default=[])
    """The channels whose values are known in advance."""
    static_categories: Categories = Field(default={})
    """The static columns. Their channels are the last ones."""


class Meta(WindowsMeta):
    """windows.json of a series."""

    lookback: int
    horizon: int
    borders: dict[str, int]
    """The row after the last of each split; empty if there are several series."""
    series: list[SeriesBorders] = Field(default=[], exclude_if=lambda series: not series)
    """The borders of each series if there are several."""
    inputs: list[str]
    """Names of the input channels, those known in advance last, then of the calendar features."""
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
    missing_targets: dict[str, int] = Field(default={}, exclude_if=lambda counts: not counts)
    """How many values to forecast of each split are not in the file, but filled. They are NaN in batches. Empty if none is."""
    known: list[str] = Field(default=[], exclude_if=lambda names: not names)
    """The input channels known in advance. If there are any, the input steps are those of the lookback and of the horizon."""
    static: Categories = Field(default={}, exclude_if=lambda categories: not categories)
    """The static columns, whose channels are the last ones before those known in advance."""

    @property
    def observed(self) -> list[str]:
        """The input channels that are neither static nor known in advance."""
        past = self.inputs[: len(self.input_columns) - len(self.known)]
        return past[: len(past) - len(static_channels(self.static))]

    def network_arguments(self) -> dict[str, Any]:
        """Return the positions of the target channels among the inputs, and the length of the season in time steps."""
        return {"target_positions": self.target_positions, "season": self.season}

    def covariates(self) -> list[str]:
        """Return which of `data.known` and `data.static` are set."""
        return [key for key, columns in (("data.known", self.known), ("data.static", self.static)) if columns]

    def rows_before(self, rows: Indices) -> Indices:
        """Return how many rows of its own series precede each row."""
        if not self.series:
            return rows
        starts = np.array([one.start for one in self.series])
        before: Indices = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
        return before

    def learning_rows(self) -> dict[str, tuple[int, int]]:
        """Return the row after the last one of train and of val, by series."""
        return {one.name: (one.train, one.val) for one in self.series} or {"": (self.borders["train"], self.borders["val"])}

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

    Of an own table with gaps also `filled` bool [time, channel]: the cells that are not in the file.
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
    if window.folds is not None and window.fold is None:
        raise UserError(f"window.folds={window.folds}: no fold is named", f"set window.fold, from 0 to {window.folds - 1}")
    meta = SeriesArrays.read(arrays / "meta.json", "make it again with `reprise preprocess`")
    values = store.open_array(arrays / "values.npy")
    rows = {one.name: one.rows for one in meta.series} or {"": len(values)}
    given, window = window, defaults.resolve(window, meta.frequency, min(rows.values()))
    names = [channel.name for channel in meta.channels]
    inputs, targets, known = channels.choose(
        window, names, meta.known_channels, static_channels(meta.static_categories), meta.name
    )
    members = cutting.members_of(window, rows, store.open_array(arrays / "time.npy"))
    parts = cutting.cut(window, members)
    columns = [names.index(name) for name in inputs]
    trained = [(member.start, member.start + member.borders.train) for member in members]
    filled = filled_cells.of_columns(arrays, columns)
    fitted = splitting.series_statistics(values, cutting.train_spans(parts["train"], trained), filled, columns)
    channels.check_targets_vary(targets, names, values)
    checks = cutting.audit(parts, members, window)
    described_series = [SeriesBorders.of(member) for member in members] if len(members) > 1 else []
    extra = 2 * len(window.calendar)  # sine and cosine are already bounded by 1: not normalised
    positions = [inputs.index(name) for name in targets]
    filled_targets = None if filled is None else filled[:, positions]
    counts, missing_notes = filled_cells.missing_targets(filled_targets, parts, window.lookback, window.horizon, targets)
    described = Meta(
        kind="series",
        input_shape=[window.lookback + (window.horizon if known else 0), len(inputs) + extra],
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
        missing_targets=counts,
        known=known,
        static=meta.static_categories,
        notes=[
            *defaults.notes(given, window, meta.frequency, min(rows.values())),
            *series_notes.of_fold(window),
            *missing_notes,
            *series_notes.of_precision(values, columns, inputs, fitted),
            *series_notes.of_target(targets, [fitted["naive_mae"][position] for position in positions]),
            *series_notes.of_baseline(window, min(int(member.own(parts["test"])[0]) for member in members) + window.lookback),
        ],
        statistics={
            "mean": fitted["mean"] + [0.0] * extra,
            "std": fitted["std"] + [1.0] * extra,
            "naive_mae": [fitted["naive_mae"][position] for position in positions],
        },
    )
    return Split(parts, described, checks)


def statistics(meta: WindowsMeta, train: Indices, arrays: Path) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the statistics of the train split by running moments, and their rounding tolerances.

    mean and std of the input channels (calendar features are not scaled), naive_mae of the targets: their mean absolute step.
    """
    assert isinstance(meta, Meta)
    values = store.open_array(arrays / "values.npy")
    borders = [(one.start, one.train) for one in meta.series] or [(0, meta.borders["train"])]
    spans = cutting.train_spans(train, borders)
    parts = [values[slice(*span)] for span in spans]
    blocks = [(rows, start) for rows in parts for start in range(0, len(rows), BLOCK)]
    moments = Moments.of(_channels(rows[start : start + BLOCK], meta.input_columns) for rows, start in blocks)
    filled = filled_cells.of_columns(arrays, meta.target_columns)
    steps = _mean_steps(parts, meta.target_columns, None if filled is None else [filled[slice(*span)] for span in spans])
    features = np.zeros(len(meta.inputs) - len(meta.input_columns))
    found = {
        "mean": np.concatenate([moments.mean, features]),
        "std": np.concatenate([moments.std, features + 1]),
        "naive_mae": steps,
    }
    step = TOLERANCE * found["std"] + 4 * EPSILON * np.abs(found["mean"])
    return found, {"mean": step, "std": step, "naive_mae": step[meta.target_positions]}


def _channels(rows: npt.NDArray[Any], columns: list[int]) -> Floats:
    block: Floats = rows[:, columns].astype(np.float64)
    store.release_pages(rows)
    return block


def _mean_steps(parts: Sequence[npt.NDArray[Any]], columns: list[int], filled: Sequence[filled_cells.Mask] | None) -> Floats:
    """Return the mean absolute step of columns by running moments, without steps from or to a cell in the masks `filled`."""

    def steps(number: int, start: int) -> Floats:
        block: Floats = np.abs(np.diff(parts[number][start : start + BLOCK + 1, columns].astype(np.float64), axis=0))
        store.release_pages(parts[number])
        return block

    blocks = [(number, start) for number, rows in enumerate(parts) for start in range(0, len(rows) - 1, BLOCK)]
    if filled is None:
        return Moments.of(steps(*block) for block in blocks).mean
    seen = filled_cells.observed_steps(filled)
    means = []
    for channel in range(len(columns)):
        chosen = (steps(number, start)[seen[number][start : start + BLOCK, channel]] for number, start in blocks)
        means.append(Moments.of(block[:, [channel]] for block in chosen if len(block)).mean[0])
    return np.array(means)
