"""Config schema of series: values over time, split into windows to forecast."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PlainValidator, PositiveInt, model_validator

from reprise.config.own_tables import TableData
from reprise.config.sections import DataConfig, PublishedData, Section, Size, WindowConfig, is_none


class Channel(Section):
    """One column of a series."""

    name: str
    """The column."""
    unit: str
    """The unit of its values."""


class SeriesData(PublishedData):
    """One long series of several channels."""

    kind: Literal["series"]
    reader: Literal["csv_series"]
    """The reader of the files."""
    time: str
    """The column of timestamps."""
    channels: Annotated[list[Channel], Field(min_length=1)]
    """The columns that are read."""


def _border(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    try:
        if isinstance(value, str) and datetime.fromisoformat(value):
            return value
    except ValueError:
        pass
    raise ValueError("should be a count of rows, or a date such as 2012-12-31 or '2012-12-31 23:00'")


Border = Annotated[int | str, PlainValidator(_border, json_schema_input_type=int | str)]
"""The end of a split: the number of rows before it, or the first date (ISO 8601; without an offset: UTC) after the split."""


class SplitBorders(Section):
    """The end of each split. Rows after that of test are unused."""

    train: Border
    """The end of the training split."""
    val: Border
    """The end of val."""
    test: Border | None = None
    """By default the end of the series."""


class SeriesWindow(WindowConfig):
    """Split of a series into windows: input steps, forecast steps and channels."""

    kind: Literal["series"]
    lookback: PositiveInt | None
    horizon: PositiveInt | None
    stride: PositiveInt
    inputs: list[str] | None
    targets: Annotated[list[str], Field(min_length=1)] | None = None
    calendar: list[Literal["minute", "hour", "weekday", "day", "month", "year"]]
    val_size: Size
    test_size: Size
    borders: SplitBorders | None = None
    lookback_crosses: bool = False
    season: PositiveInt | None
    limit: PositiveInt | None
    """The maximum number of training windows; that of the data."""
    folds: Annotated[int, Field(ge=2)] | None = Field(default=None, exclude_if=is_none)
    fold: Annotated[int, Field(ge=0)] | None = Field(default=None, exclude_if=is_none)

    @model_validator(mode="after")
    def _fold_is_one_of_folds(self) -> Self:
        if self.fold is not None and (self.folds is None or self.fold >= self.folds):
            raise ValueError(f"fold={self.fold}: should be below folds={self.folds}, from 0")
        return self

    def check_data(self, data: DataConfig) -> None:
        """Raise ValueError if `inputs` or `targets` name a channel that the series does not have."""
        assert isinstance(data, SeriesData | TableData), "kinds are equal: checked before"
        if isinstance(data, SeriesData):
            known = [channel.name for channel in data.channels]
        elif data.channels:
            known = [*data.channels, *data.known_columns]
        else:  # a table whose columns are not yet read
            return
        for key, chosen in (("inputs", self.inputs or []), ("targets", self.targets or [])):
            for channel in chosen:
                if channel not in known:
                    raise ValueError(f"window.{key} names {channel!r}; data={data.name} has {', '.join(known)}")


DATA = (SeriesData, TableData)
WINDOW = SeriesWindow
